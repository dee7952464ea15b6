"""The README is short and has what a new user looks for."""

from dsanet import list_models
from dsanet.config.registry import MODELS
from tests.docs.pages import PAGES

README = PAGES['README.md']


def test_readme_has_at_most_200_lines() -> None:
    assert len(README.splitlines()) <= 200


def test_named_models_are_registered() -> None:
    table = README.split('\n## Models\n', 1)[1].split('\n\n')[0].strip()
    rows = [row.split('|')[2] for row in table.splitlines()[2:]]
    names = {name for row in rows for name in row.split('`')[1::2]}
    assert len(names) == 19
    assert names <= MODELS.module_dict.keys()


def test_named_configs_exist() -> None:
    assert 'kinetics/r50_e100_s1_8' in list_models()
    assert 'configs/kinetics/r50_e100_s1_8.py' in README

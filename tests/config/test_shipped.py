import os
from pathlib import Path

import pytest

from dsanet.config.shipped import find_config, list_configs

ROOT = Path(__file__).parents[2]
DEMO = ROOT / 'configs' / 'demo' / 'dsanet_ordered_actions.py'


def test_list_has_experiments_and_no_fragments() -> None:
    names = list_configs()
    assert names == sorted(names)
    assert len(names) == sum(len(list(folder.glob('*.py'))) for folder in (ROOT / 'configs').glob('[a-z]*'))
    assert 'kinetics/r50_e100_s1_8' in names
    assert not [name for name in names if '_base_' in name or '__' in name]


def test_pattern_selects_names() -> None:
    assert list_configs('demo/v4d*') == ['demo/v4d_ordered_actions']
    assert list_configs('nothing') == []


@pytest.mark.parametrize('name', ['demo/dsanet_ordered_actions', 'demo/dsanet_ordered_actions.py'])
def test_names_lead_to_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert os.path.samefile(find_config(name), DEMO)


def test_existing_path_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'demo').mkdir()
    (tmp_path / 'demo' / 'dsanet_ordered_actions.py').write_text('')
    assert find_config('demo/dsanet_ordered_actions.py') == Path('demo/dsanet_ordered_actions.py')


@pytest.mark.parametrize(
    ('name', 'near'),
    [
        ('demo/dsanet_orderd_actions', 'demo/dsanet_ordered_actions'),
        ('r50_e100_s1_8', 'kinetics/r50_e100_s1_8'),
        ('/elsewhere/configs/tsm_r50_8.py', 'kinetics/tsm_r50_8'),
    ],
)
def test_unknown_name_is_answered_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(FileNotFoundError, match=f'Near: .*{near}'):
        find_config(name)


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'page.yaml').write_text('x: 1')
    with pytest.raises(ValueError, match=r'page\.yaml'):
        find_config(tmp_path / 'page.yaml')

import os
from pathlib import Path

import pytest

from dsanet.config.shipped import find_config, list_configs

ROOT = Path(__file__).parents[2]
DEMO = ROOT / 'configs' / 'demo' / 'dsanet_ordered_actions.py'


def test_list_has_all_experiments_without_bases() -> None:
    names = list_configs()
    assert names == sorted(names)
    assert len(names) == sum(len(list(folder.glob('*.py'))) for folder in (ROOT / 'configs').glob('[a-z]*'))
    assert 'kinetics/r50_e100_s1_8' in names
    assert not [name for name in names if '_base_' in name or '__' in name]


def test_pattern_selects_configs() -> None:
    assert list_configs('demo/v4d*') == ['demo/v4d_ordered_actions']
    assert list_configs('nothing') == []


@pytest.mark.parametrize('name', ['demo/dsanet_ordered_actions', 'demo/dsanet_ordered_actions.py'])
def test_config_is_found_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert os.path.samefile(find_config(name), DEMO)


def test_existing_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'demo').mkdir()
    (tmp_path / 'demo' / 'dsanet_ordered_actions.py').write_text('')
    assert find_config('demo/dsanet_ordered_actions.py') == Path('demo/dsanet_ordered_actions.py')


@pytest.mark.parametrize(
    ('name', 'similar'),
    [
        ('demo/dsanet_orderd_actions', 'demo/dsanet_ordered_actions'),
        ('r50_e100_s1_8', 'kinetics/r50_e100_s1_8'),
        ('/elsewhere/configs/tsm_r50_8.py', 'kinetics/tsm_r50_8'),
    ],
)
def test_unknown_name_suggests_similar_configs(name: str, similar: str) -> None:
    with pytest.raises(FileNotFoundError, match=f'{name}.*{similar}'):
        find_config(name)


def test_file_that_is_not_python_raises(tmp_path: Path) -> None:
    (tmp_path / 'config.yaml').write_text('x: 1')
    with pytest.raises(ValueError, match=r'config\.yaml'):
        find_config(tmp_path / 'config.yaml')

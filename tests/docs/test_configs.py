"""What docs/configs.md shows works as it says."""

import re
from pathlib import Path

import pytest

from dsanet.config.loading import load_config

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'configs.md').read_text()
MAIN = 'kinetics/r50_e100_s1_8'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / 'config.py'
    file.write_text(re.search(r'```python\n(.*?)```', PAGE, flags=re.S)[1])
    return file


def test_example_changes_what_it_says(config: Path) -> None:
    loaded, base = load_config(config), load_config(MAIN)
    assert loaded['optimizer'] == {'type': 'AdamW', 'lr': 1e-4}
    assert loaded['model']['module_cfg']['num_snippets'] == 8
    assert loaded['model']['cls_head'] == {**base['model']['cls_head'], 'dropout': 0.8}
    assert loaded['model']['backbone'] == base['model']['backbone']


def test_overrides_of_the_page_apply() -> None:
    options = [option for line in re.findall(r'^    --cfg-options (.*)$', PAGE, flags=re.M) for option in line.split()]
    loaded = load_config('custom/finetune_videos', [*options, 'num_classes=2'])
    assert loaded['train_dataloader']['dataset']['pipeline'][1]['random'] is False
    whole = re.search(r'^`--cfg-options "(.*)"`\.$', PAGE, flags=re.M)[1]
    assert load_config(MAIN, [whole])['optimizer'] == {'type': 'AdamW', 'lr': 1e-4}


def test_refused_python_value_reads_as_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('my.py').write_text("\n\ndata_root = 'x'\ntrain_list = f'{data_root}/train.txt'")
    with pytest.raises(ValueError, match=r'my\.py:4') as error:
        load_config('my.py')
    assert f'error: {error.value}' in ' '.join(PAGE.split())

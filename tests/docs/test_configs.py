"""Configs and parts of configs in the pages."""

import ast
import re
from pathlib import Path

import pytest

from dsanet.apis import list_models
from dsanet.config.loading import load_config
from dsanet.config.schema import SECTIONS
from dsanet.engine.validation import build_val_metrics
from dsanet.models.modules_maker.block_maker import check_module_cfg
from tests.docs.pages import PAGES, code_blocks

PAGE = PAGES['docs/configs.md']
MAIN = 'kinetics/r50_e100_s1_8'
BLOCKS = [
    (page, i, block)
    for page, text in PAGES.items()
    if not page.startswith('docs/extending')
    for i, block in enumerate(code_blocks(text, 'python'))
    if re.match(rf'(?:{"|".join(SECTIONS)}) = |_base_ = ', block)
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / 'config.py'
    file.write_text(code_blocks(PAGE, 'python')[0])
    return file


def test_example_changes_its_base(config: Path) -> None:
    loaded, base = load_config(config), load_config(MAIN)
    assert loaded['optimizer'] == {'type': 'AdamW', 'lr': 1e-4}
    assert loaded['model']['module_cfg']['num_snippets'] == 8
    assert loaded['model']['cls_head'] == {**base['model']['cls_head'], 'dropout': 0.8}
    assert loaded['model']['backbone'] == base['model']['backbone']


def test_overrides_of_the_page_apply() -> None:
    options = [option for line in re.findall(r'^    --cfg-options (.*)$', PAGE, flags=re.M) for option in line.split()]
    loaded = load_config('custom/finetune_videos', [*options, 'num_classes=2'])
    assert loaded['train_dataloader']['dataset']['pipeline'][1]['random'] is False
    whole = re.search(r'^`--cfg-options "(.*)"`\.$', PAGE, flags=re.M)
    assert whole is not None
    assert load_config(MAIN, [whole[1]])['optimizer'] == {'type': 'AdamW', 'lr': 1e-4}


def test_setting_used_in_python_is_refused(tmp_path: Path) -> None:
    file = tmp_path / 'my.py'
    file.write_text(code_blocks(PAGE, 'python')[1])
    with pytest.raises(ValueError, match=r'my\.py:2\b') as error:
        load_config(file)
    for token in ("'${data_root}'", '_data_root'):
        assert token in str(error.value)


def test_wrong_key_names_path_and_nearest_key() -> None:
    with pytest.raises(KeyError, match=r'model\.backbone\.dept\b') as error:
        load_config(MAIN, ['model.backbone.dept=50'])
    assert 'depth' in str(error.value)


def test_parts_of_configs_are_found() -> None:
    assert len(BLOCKS) >= 8


@pytest.mark.parametrize(('page', 'number', 'block'), BLOCKS)
def test_part_of_a_config_loads(page: str, number: int, block: str, tmp_path: Path) -> None:
    file = tmp_path / 'part.py'
    base = '' if block.startswith('_base_') else "_base_ = ['custom/finetune_videos']\n"
    # The part of a page may name modules of a user's folder.
    file.write_text(base + re.sub(r"'my_lab\.\w+'", '', block))
    load_config(file)


def test_inserted_modules_are_valid() -> None:
    (block,) = [one for one in code_blocks(PAGES['docs/concepts.md'], 'python') if one.startswith('module_cfg')]
    values = [node.value for node in ast.parse(block).body if isinstance(node, ast.Assign)]
    assert len(values) == 4
    for value in values:
        check_module_cfg(eval(ast.unparse(value)), 'module_cfg')


@pytest.mark.parametrize('name', ['small_from_scratch', 'small_from_scratch_frames', 'finetune_videos'])
def test_flips_are_a_setting(name: str) -> None:
    for options, prob in (([], 0.5), (['flip_prob=0'], 0)):
        loaded = load_config(f'custom/{name}', options)
        steps = loaded['train_dataloader']['dataset']['pipeline']
        assert [step['prob'] for step in steps if step['type'] == 'Flip'] == [prob]


@pytest.mark.parametrize('name', list_models('custom/*'))
def test_videos_of_the_test_are_a_setting(name: str) -> None:
    config = load_config(name)
    assert config['test_dataloader']['dataset']['list_file'] == config['val_dataloader']['dataset']['list_file']
    options = ['test_list=${data_root}/test.txt', 'test_dir=elsewhere', 'data_root=mine']
    dataset = load_config(name, options)['test_dataloader']['dataset']
    assert (dataset['list_file'], dataset['data_root']) == ('mine/test.txt', 'elsewhere')
    folders = load_config(name, ['train_list=None', 'val_list=None', 'class_file=None', 'val_dir=val'])
    assert [folders['test_dataloader']['dataset'][key] for key in ('list_file', 'data_root')] == [None, 'val']


@pytest.mark.parametrize('name', list_models('custom/*'))
def test_best_epoch_of_own_videos_counts_classes_equally(name: str) -> None:
    config = load_config(name, [] if name.endswith('vit_b') or name.endswith('_l') else ['num_classes=3'])
    several = config['train_dataloader']['dataset'].get('multi_hot') is not None
    assert config['runtime']['save_best'] == ('mAP' if several else 'mean_class_accuracy')
    build_val_metrics(config, config['runtime']['save_best'], None)

import logging
from pathlib import Path

import pytest

from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.inference.checkpoint_config import config_for_checkpoint

NAME = 'custom/small_from_scratch'


def test_config_of_the_checkpoint_is_used() -> None:
    config = load_config(NAME, ['num_classes=3'])
    content = {'config': config}
    assert config_for_checkpoint('x.pth', content) == config
    assert config_for_checkpoint('x.pth', content, options=['optimizer.lr=7'])['optimizer']['lr'] == 7
    assert content['config']['optimizer']['lr'] != 7


def test_overrides_of_the_stored_config_are_checked() -> None:
    with pytest.raises(KeyError, match=r'optimizer\.lrr'):
        config_for_checkpoint('x.pth', {'config': load_config(NAME, ['num_classes=3'])}, options=['optimizer.lrr=7'])


def test_num_classes_comes_from_the_checkpoint() -> None:
    trained_with = load_config(NAME, ['num_classes=3'])
    for content in ({'config': trained_with}, {'class_names': ['a', 'b', 'c']}):
        loaded = config_for_checkpoint('x.pth', content, NAME)
        assert loaded['model']['cls_head']['num_classes'] == 3


@pytest.mark.parametrize(
    'model', [None, 3, {}, {'cls_head': 'x'}, {'cls_head': {'num_classes': 'x'}}, {'cls_head': {'num_classes': []}}]
)
def test_stored_config_of_wrong_types_is_no_crash(tmp_path: Path, model: object) -> None:
    (tmp_path / 'classes.txt').write_text('a\nb\n')
    loaded = config_for_checkpoint('x.pth', {'config': {'model': model}}, NAME, [f'data_root={tmp_path}'])
    assert loaded['model']['cls_head']['num_classes'] == 2
    with pytest.raises((KeyError, TypeError)):
        config_for_checkpoint('x.pth', {'config': {'model': model}})


def test_num_classes_of_bare_weights_is_counted(tmp_path: Path) -> None:
    (tmp_path / 'classes.txt').write_text('a\nb\nc\nd\n')
    loaded = config_for_checkpoint('x.pth', {'state_dict': {}}, NAME, [f'data_root={tmp_path}'])
    assert loaded['model']['cls_head']['num_classes'] == 4


def test_differences_from_the_checkpoint_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    trained_with = load_config(NAME, ['num_classes=3'])
    with caplog.at_level(logging.INFO, 'dsanet'):
        config_for_checkpoint(
            'x.pth', {'config': trained_with}, NAME, ['num_classes=3', 'optimizer.lr=7', 'test_dataloader.batch_size=1']
        )
        assert not caplog.messages
        options = ['num_classes=3', 'model.average_views=prob', 'test_dataloader.dataset.data_root=x']
        config_for_checkpoint('x.pth', {'config': trained_with}, NAME, options)
    text = '\n'.join(caplog.messages)
    assert 'model.average_views' in text
    assert 'test_dataloader.dataset.data_root' in text


def test_class_weights_do_not_differ_in_a_test(caplog: pytest.LogCaptureFixture) -> None:
    """Those of a checkpoint are numbers, and a test uses none."""
    name, weights = 'custom/imbalanced_videos', 'model.cls_head.loss.class_weights=[1.0,2.0,3.0]'
    content = {'config': load_config(name, ['num_classes=3', weights])}
    with caplog.at_level(logging.INFO, 'dsanet'):
        config_for_checkpoint('x.pth', content, name)
        assert not caplog.messages
        config_for_checkpoint('x.pth', content, name, ['model.cls_head.loss.gamma=1'])
    assert 'model.cls_head.loss.gamma' in caplog.text


def test_config_file_and_loaded_config_agree(tmp_path: Path) -> None:
    config = load_config(NAME, ['num_classes=3'])
    file = tmp_path / 'config.py'
    file.write_text(format_config(config))
    assert config_for_checkpoint('x.pth', {}, file) == config_for_checkpoint('x.pth', {}, config) == config


def test_stored_config_has_no_settings() -> None:
    content = {'config': load_config(NAME, ['num_classes=3'])}
    with pytest.raises(KeyError, match=r'x\.pth .*test_dataloader\.dataset\.data_root'):
        config_for_checkpoint('x.pth', content, options=['data_root=elsewhere'])


def test_missing_import_error_names_the_checkpoint() -> None:
    content = {'config': {**load_config(NAME, ['num_classes=3']), 'imports': ['no_such_lab']}}
    with pytest.raises(ValueError, match=r'x\.pth .*no_such_lab'):
        config_for_checkpoint('x.pth', content)

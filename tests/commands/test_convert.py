import argparse
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from dsanet import commands, init_recognizer
from dsanet.config.loading import load_config
from dsanet.config.registry import MODELS, build
from dsanet.models.weights.loading import load_weights
from dsanet.utils.checkpoint_io import read_checkpoint

MODEL = {
    'type': 'Recognizer3D',
    'backbone': {'type': 'ResNet_I3D', 'depth': 10, 'base_channels': 4},
    'cls_head': {'type': 'I3DClsHead', 'num_classes': 3, 'in_channels': 32},
}


REST = """
_steps = [
    {'type': 'OpenVideo'},
    {'type': 'SampleSnippets', 'num_snippets': 2, 'frames_per_snippet': 4},
    {'type': 'DecodeVideo'},
    {'type': 'PackInputs'},
]
test_dataloader = {'dataset': {'type': 'VideoDataset', 'list_file': 'none.txt', 'pipeline': _steps}, 'batch_size': 1}
metrics = [{'type': 'Accuracy'}]
"""


@dataclass
class Done:
    """Exit status and output of the command."""

    status: int
    out: str
    err: str


Convert = Callable[..., Done]


@pytest.fixture
def convert(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Convert:
    """Run the command in this process, because a new process takes seconds; restore the logger afterwards."""
    logger = logging.getLogger('dsanet')
    for name, value in {'handlers': [], 'propagate': True, 'level': logger.level}.items():
        monkeypatch.setattr(logger, name, value)

    def convert(*arguments: object) -> Done:
        status = 0
        try:
            commands.main(['convert', *map(str, arguments)])
        except SystemExit as error:
            status = error.code
        return Done(status, *capsys.readouterr())

    return convert


def mmaction2_state() -> dict[str, Tensor]:
    """Return the weights of a small recognizer with the parameter names of mmaction2."""
    torch.manual_seed(0)
    state = {}
    for key, value in build(MODEL, MODELS).state_dict().items():
        parts = key.split('.')
        if parts[-2] in ('0', '1') and parts[-3] == 'downsample':
            parts[-2] = ('conv', 'bn')[int(parts[-2])]
        elif parts[-2].startswith(('conv', 'bn')):
            parts[-2:-1] = ['conv' + parts[-2][-1], parts[-2][:-1]]
        state['.'.join(parts)] = value
    return state


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / 'config.py'
    file.write_text(f'model = {MODEL!r}\n{REST}')
    return file


def test_converted_file_loads_without_pickle(convert: Convert, tmp_path: Path, config: Path) -> None:
    state = mmaction2_state()
    assert 'backbone.layer2.0.downsample.bn.weight' in state
    assert 'backbone.layer1.0.conv1.bn.weight' in state
    content = {'state_dict': state, 'args': argparse.Namespace(lr=0.1), 'class_names': ['a', 'b', 'c']}
    torch.save(content, tmp_path / 'x.pth')
    result = convert(tmp_path / 'x.pth', tmp_path / 'y.pth')
    assert result.status == 2
    assert '--allow-pickle' in result.err
    assert not (tmp_path / 'y.pth').exists()

    done = convert(tmp_path / 'x.pth', tmp_path / 'y.pth', '--config', config, '--allow-pickle')
    assert done.status == 0, done.err
    assert "mmaction2's I3D or SlowOnly" in done.out
    assert re.search(rf'{config}: {len(state)} .*\b0 .*\b0 .*\b0 ', done.out), 'matched, inflated, missing, unexpected'
    assert f'{tmp_path / "y.pth"}: {len(state)} ' in done.out
    assert '--allow-pickle' in done.out

    written = read_checkpoint(tmp_path / 'y.pth')
    assert written.keys() == {'state_dict', 'class_names'}
    assert written['class_names'] == ['a', 'b', 'c']
    model = build(MODEL, MODELS)
    load_weights(model, tmp_path / 'y.pth', strict=True)
    assert torch.equal(model.backbone.layer1[0].conv1.weight, state['backbone.layer1.0.conv1.conv.weight'])


def test_own_checkpoint_is_shared_without_absolute_paths(convert: Convert, tmp_path: Path, config: Path) -> None:
    private, pretrained = '/home/me/secret', {**MODEL['backbone'], 'pretrained': '~/secret/x.pth'}
    loaded = load_config(config)
    loaded['model'] = {**MODEL, 'backbone': pretrained}
    loaded['test_dataloader']['dataset'] |= {'data_root': private, 'class_file': f'{private}/classes.txt'}
    loaded |= {'train_dataloader': {'list_file': f'{private}/train.txt'}, 'runtime': {'trackers': [private]}}
    content = {'state_dict': build(MODEL, MODELS).state_dict(), 'config': loaded, 'class_names': ['a', 'b', 'c']}
    torch.save({**content, 'optimizer': {}, 'inputs': {private: 'x'}}, tmp_path / 'best.pth')
    done = convert(tmp_path / 'best.pth', tmp_path / 'shared.pth')
    assert done.status == 0, done.err
    written = read_checkpoint(tmp_path / 'shared.pth')
    assert written.keys() == {'state_dict', 'class_names', 'config'}
    assert private.encode() not in (tmp_path / 'shared.pth').read_bytes()
    assert written['config'].keys() == {'model', 'test_dataloader', 'metrics'}
    dataset = written['config']['test_dataloader']['dataset']
    assert (dataset['list_file'], dataset['data_root'], dataset['class_file']) == ('none.txt', 'secret', 'classes.txt')
    assert written['config']['model']['backbone']['pretrained'] is None
    recognizer = init_recognizer(tmp_path / 'shared.pth', options=['test_dataloader.batch_size=2'])
    assert recognizer.class_names == ['a', 'b', 'c']


def test_safetensors_in_half_precision_is_written(convert: Convert, tmp_path: Path, config: Path) -> None:
    state = build(MODEL, MODELS).state_dict()
    torch.save({'state_dict': state, 'class_names': ['a', 'b', 'c'], 'config': load_config(config)}, tmp_path / 'x.pth')
    done = convert(tmp_path / 'x.pth', tmp_path / 'y.safetensors', '--half')
    assert done.status == 0, done.err
    with safe_open(tmp_path / 'y.safetensors', 'pt') as opened:
        assert set(opened.keys()) == state.keys()
        for key, value in state.items():
            expected = value.half() if value.is_floating_point() else value
            assert torch.equal(opened.get_tensor(key), expected)
    recognizer = init_recognizer(tmp_path / 'y.safetensors')
    assert recognizer.class_names == ['a', 'b', 'c']
    assert recognizer.model.backbone.conv1.weight.dtype == torch.float32
    done = convert(tmp_path / 'y.safetensors', tmp_path / 'z.pth')
    assert torch.equal(
        read_checkpoint(tmp_path / 'z.pth')['state_dict']['backbone.conv1.weight'],
        state['backbone.conv1.weight'].half(),
    )
    state['backbone.bn1.running_var'][0] = 1e5
    torch.save({'state_dict': state}, tmp_path / 'large.pth')
    done = convert(tmp_path / 'large.pth', tmp_path / 'w.safetensors', '--half')
    assert (done.status, (tmp_path / 'w.safetensors').exists()) == (2, False)
    assert 'backbone.bn1.running_var' in done.err


def test_unknown_keys_are_reported_and_slices_copied(convert: Convert, tmp_path: Path) -> None:
    large = torch.rand(1000, 64, 7, 7)
    state = {
        'conv1.weight': large[:64, :3],
        'layer1.0.conv1.weight': torch.zeros(64, 64, 3, 3),
        'fc.weight': torch.zeros(1000, 512),
    }
    torch.save(state, tmp_path / 'image.pth')
    done = convert(tmp_path / 'image.pth', tmp_path / 'y.pth')
    assert "torchvision's or timm's image ResNet" in done.out
    assert re.search(rf'{tmp_path / "y.pth"}: 2 .*\bfc.weight', done.out)
    written = read_checkpoint(tmp_path / 'y.pth')['state_dict']
    assert torch.equal(written['backbone.conv1.weight'], large[:64, :3])
    assert (tmp_path / 'y.pth').stat().st_size < 400_000


def test_config_selects_one_of_two_layouts(convert: Convert, tmp_path: Path) -> None:
    state = {
        'stem.0.weight': torch.zeros(45, 3, 1, 7, 7),
        'layer1.0.conv1.0.0.weight': torch.zeros(144, 64, 1, 3, 3),
        'fc.weight': torch.zeros(7, 512),
    }
    torch.save(state, tmp_path / 'x.pth')
    config = {**MODEL, 'backbone': {'type': 'R2Plus1D', 'depth': 18}}
    config['cls_head'] = {**MODEL['cls_head'], 'in_channels': 512}
    (tmp_path / 'config.py').write_text(f'model = {config!r}\n{REST}')
    convert(tmp_path / 'x.pth', tmp_path / 'wrapped.pth')
    done = convert(
        *(tmp_path / 'x.pth', tmp_path / 'ours.pth', '--config', tmp_path / 'config.py'),
        *('--cfg-options', 'model.cls_head.num_classes=7'),
    )
    assert done.status == 0, done.err
    assert re.search(r'config.py: 3 ', done.out)
    wrapped, ours = (read_checkpoint(tmp_path / f'{name}.pth')['state_dict'] for name in ('wrapped', 'ours'))
    assert 'backbone.net.stem.0.weight' in wrapped
    assert 'backbone.conv1.spatial.weight' in ours
    assert wrapped['cls_head.fc_cls.weight'].shape == ours['cls_head.fc_cls.weight'].shape == (7, 512)


def test_errors_are_one_line_and_write_nothing(convert: Convert, tmp_path: Path, config: Path) -> None:
    source = tmp_path / 'x.pth'
    torch.save({'patches.weight': torch.zeros(1)}, source)
    small = tmp_path / 'small.pth'
    torch.save({**mmaction2_state(), 'backbone.conv1.conv.weight': torch.zeros(8, 3, 1, 7, 7)}, small)
    (tmp_path / 'there.pth').write_bytes(b'mine')
    cases = [
        ((source, tmp_path / 'y.pth'), r"x.pth .*backbone.patches.weight.*torchvision's S3D"),
        ((source, tmp_path / 'there.pth'), r'there.pth'),
        ((source, tmp_path / 'nowhere' / 'y.pth'), r'nowhere'),
        ((small, tmp_path / 'y.bin'), r'y\.bin .*\.pth .*\.safetensors'),
        ((tmp_path / 'z.pth', tmp_path / 'y.pth'), r'z.pth'),
        ((small, tmp_path / 'y.pth', '--config', config), r'backbone.conv1.weight .*\(8, 3, 1, 7, 7\)'),
    ]
    for arguments, text in cases:
        done = convert(*arguments)
        assert done.status == 2
        assert done.err.count('\n') == 1
        assert re.search(text, done.err), done.err
    assert not list(tmp_path.glob('y.*'))
    assert (tmp_path / 'there.pth').read_bytes() == b'mine'

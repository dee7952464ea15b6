"""Weights with the keys of the 2021 release reproduce its numbers.

The release does not run any more. The values in ``release_numbers.json`` were computed by this code when it reproduced
the stored outputs of the release for ``r50_base`` and ``r18_dsa_res_2`` (with other weights and frames): scores to 1e-7
of their size, training loss and gradient norms to six digits. The other cases are regression tests of the same code;
``test_block_maker`` and ``test_DSA`` check the meaning of their places and options.
"""

import json
import zlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS, build
from dsanet.models.weights.loading import load_weights

NUMBERS = json.loads(Path(__file__).with_name('release_numbers.json').read_text())
DSA = {'type': 'DSA', 'num_snippets': 4}
EVERY_SECOND = (0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0)
CASES = {
    'r50_base': (50, None),
    'r50_dsa_res_2': (50, {**DSA, 'blocks': EVERY_SECOND}),
    'r50_dsa_bottom': (50, {**DSA, 'blocks': EVERY_SECOND, 'place': 'after_block', 'channel_ratio': 1 / 4}),
    'r50_dsa_res_4_alpha_4': (50, {**DSA, 'blocks': (0, 0, 1, 0), 'place': 'before_add', 'expansion': 4}),
    'r18_dsa_res_2': (18, {**DSA, 'blocks': (0, (0, 1), (0, 1), 0)}),
    'r18_dsa_res_1_kernel_5': (18, {**DSA, 'blocks': (0, 0, 1, 1), 'place': 'before_conv1', 'kernel_size': 5}),
}


def fill(key: str, value: Tensor) -> Tensor:
    """Return values that depend on the name in the release and the shape only."""
    if key.endswith('num_batches_tracked'):
        return value
    rng = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    if key.endswith('running_var'):
        return torch.rand(value.shape, generator=rng) * 0.5 + 0.75
    if value.dim() >= 2:
        return torch.randn(value.shape, generator=rng) * (2 / value[0].numel()) ** 0.5
    offset = 1.0 if key.endswith('weight') else 0.0
    return torch.randn(value.shape, generator=rng) * 0.05 + offset


def release_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a state dict with the keys of the release: blocks with DSA have ``.block.`` in their keys."""
    state = model.state_dict()
    wrapped = {key.split('.dsa.')[0] + '.' for key in state if '.dsa.' in key}
    named = {}
    for key, value in state.items():
        block = next((name for name in wrapped if key.startswith(name) and '.dsa.' not in key), None)
        key = f'{block}block.{key.removeprefix(block)}' if block else key
        named[key] = fill(key, value)
    return named


def compute(name: str, folder: Path) -> dict[str, object]:
    """Return scores of two videos of 8 snippets, and loss and gradient norm in training mode."""
    depth, module_cfg = CASES[name]
    model = build(
        {
            'type': 'Recognizer3D',
            'backbone': {'type': 'ResNet_I3D', 'depth': depth},
            'cls_head': {
                'type': 'I3DClsHead',
                'num_classes': 6,
                'in_channels': 2048 if depth == 50 else 512,
                'dropout': 0.0,
            },
            'module_cfg': module_cfg,
        },
        MODELS,
    )
    torch.save({'meta': {'epoch': 1}, 'state_dict': release_state(model)}, folder / 'release.pth')
    load_weights(model, folder / 'release.pth', strict=True)
    model.double()  # in float32 batch norms over one pixel amplify rounding errors to the fifth digit of the loss
    frames = torch.randint(0, 256, (2, 2, 4, 3, 2, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    model.eval()
    with torch.no_grad():
        scores = model(frames)
    model.train()
    loss = model(frames, torch.tensor([1, 4]))['loss']
    loss.backward()
    gradient = model.backbone.conv1.weight.grad.norm()
    return {
        'scores': scores.tolist(),
        'loss': loss.item(),
        'gradient': gradient.item(),
        'keys': len(model.state_dict()),
    }


QUICK = ('r18_dsa_res_2',)


@pytest.mark.parametrize('name', [pytest.param(n, marks=[] if n in QUICK else pytest.mark.sweep) for n in CASES])
def test_release_weights_reproduce_release_numbers(name: str, tmp_path: Path) -> None:
    expected, found = NUMBERS[name], compute(name, tmp_path)
    scale = max(abs(x) for row in expected['scores'] for x in row)
    torch.testing.assert_close(
        torch.tensor(found['scores']), torch.tensor(expected['scores']), rtol=0, atol=1e-6 * scale
    )
    assert found['loss'] == pytest.approx(expected['loss'], rel=1e-6)
    assert found['gradient'] == pytest.approx(expected['gradient'], rel=1e-6)
    assert found['keys'] == expected['keys']

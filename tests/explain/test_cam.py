"""Class activation maps, compared with torchcam and with sums by hand."""

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dsanet.explain.cam import compute_maps, explain_video
from dsanet.inference.recognizer import Recognizer
from dsanet.inference.sources import find_sources
from dsanet.models.backbones.base import Backbone
from dsanet.models.backbones.feature_layout import FeatureLayout
from dsanet.models.backbones.vision_transformer import VisionTransformer
from dsanet.models.heads.tsn_head import TSNHead
from tests.make_recognizer import make_recognizer
from tests.make_tiny_networks import CLIP, TinyMViT
from tests.make_videos import write_frames

GRID = (2, 2, 3)


class Tokens(Backbone):
    """A class token that attends to the positions of a grid, as at the end of a video transformer."""

    out_channels = 32
    is_pooled = True

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv3d(3, 4, (1, 8, 8), (1, 8, 8))
        self.norm = nn.LayerNorm(4)
        self.query = nn.Parameter(torch.randn(4))
        self.value = nn.Linear(4, 32)

    @property
    def cam_layer(self) -> str:
        return 'norm'

    def feature_layout(self, submodule: str, shape: Sequence[int]) -> FeatureLayout | None:
        if len(shape) != 3 or shape[1] != 1 + math.prod(GRID):
            return super().feature_layout(submodule, shape)
        return FeatureLayout('BMC', GRID, num_prefix_tokens=1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT  # (U, T'*H'*W', 4)
        tokens = self.norm(torch.cat([torch.ones_like(tokens[:, :1]), tokens], dim=1))  # (U, 1 + T'*H'*W', 4)
        attention = (tokens @ self.query).softmax(dim=1)  # (U, 1 + T'*H'*W')
        return self.value(torch.einsum('un,unc->uc', attention, tokens))[..., None, None, None]  # (U, 32, 1, 1, 1)


@pytest.fixture
def recognizer() -> Recognizer:
    return make_recognizer()


def make_view(height: int = 64, width: int = 64) -> Tensor:
    """Return two snippets of two frames."""
    shape = (2, 3, 2, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('layer', [None, 'backbone.layer3'])
def test_maps_equal_those_of_torchcam(recognizer: Recognizer, layer: str | None) -> None:
    from torchcam.methods import GradCAM  # imported here because it is slow

    view, model = make_view(), recognizer.model
    maps, scores, name = compute_maps(recognizer, view, layer, 3)
    assert name == (layer or 'backbone.layer4')
    with GradCAM(model, name) as extractor:
        output = model(view[None, None])
        weights = extractor._get_weights(3, scores=output)[0]
        features = extractor.hook_a[0]
        assert features is not None
        expected = (weights[:, :, None, None, None] * features).sum(dim=1).relu()
    assert expected.max() > 0
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(scores, output[0].detach())


def test_maps_of_tokens_equal_sums_by_hand(recognizer: Recognizer) -> None:
    torch.manual_seed(0)
    model, backbone, k = recognizer.model, Tokens().eval(), 5
    model.backbone = backbone
    view = make_view(16, 24)
    maps, _, name = compute_maps(recognizer, view, class_index=k)
    assert name == 'backbone.norm'
    found: list[Tensor] = []
    hook = backbone.norm.register_forward_hook(lambda _module, _arguments, output: found.append(output))
    with torch.no_grad():
        model(view[None, None])
    hook.remove()
    tokens, query = found[0].double().numpy(), backbone.query.detach().double().numpy()
    to_score = model.cls_head.fc_cls.weight[k].detach().double() @ backbone.value.weight.detach().double()
    slope = to_score.numpy() / 2  # the score is the mean of two snippets
    expected = np.zeros((2, 12))
    for u in range(2):
        weights = np.exp(tokens[u] @ query)
        weights /= weights.sum()
        mean = weights @ tokens[u]
        # d(sum_m a_m * s.x_m) / dx_n = a_n * (s + (s.x_n - s.mean) * q)
        gradient = np.stack([a * (slope + slope @ (x - mean) * query) for a, x in zip(weights, tokens[u], strict=True)])
        channel_weights = gradient[1:].mean(axis=0)
        for n in range(12):
            expected[u, n] = max(0, channel_weights @ tokens[u, 1 + n])
    assert (expected > 0).any()
    assert (expected == 0).any()
    np.testing.assert_allclose(maps, expected.reshape(2, *GRID), rtol=1e-4, atol=1e-7)


def test_maps_do_not_depend_on_frozen_weights(recognizer: Recognizer) -> None:
    maps, _, _ = compute_maps(recognizer, make_view())
    recognizer.model.requires_grad_(False)
    torch.testing.assert_close(compute_maps(recognizer, make_view())[0], maps, rtol=0, atol=0)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(recognizer.lock.acquire, timeout=1).result(), 'the lock is free'
    assert not any(module._forward_hooks for module in recognizer.model.backbone.modules())


@pytest.mark.parametrize(('size', 'layer'), [(32, 'layer3'), (16, 'layer2'), (8, 'layer1')])
def test_single_position_is_replaced_by_earlier_layer(
    recognizer: Recognizer, caplog: pytest.LogCaptureFixture, size: int, layer: str
) -> None:
    view = make_view(size, size)
    with caplog.at_level(logging.INFO):
        maps, _, name = compute_maps(recognizer, view)
    assert name == f'backbone.{layer}'
    assert min(maps.shape[2:]) >= 2
    torch.testing.assert_close(maps, compute_maps(recognizer, view, name)[0], rtol=0, atol=0)
    assert [record.levelname for record in caplog.records] == ['INFO']
    with pytest.raises(ValueError, match=r'backbone\.layer4'):
        compute_maps(recognizer, view, 'backbone.layer4')


def test_narrow_frames_use_the_finest_maps(recognizer: Recognizer) -> None:
    with pytest.raises(ValueError, match=r'backbone\.layer4'):
        compute_maps(recognizer, make_view(1, 1))
    maps, _, name = compute_maps(recognizer, make_view(2, 8))
    assert name != 'backbone.layer4'
    assert maps.shape[2] * maps.shape[3] > 1


@pytest.mark.parametrize('layer', ['backbone.layr3', 'backbone.layer4.0.relu', 'cls_head', 'cls_head.fc_cls'])
def test_wrong_layer_lists_the_right_ones(recognizer: Recognizer, layer: str) -> None:
    with pytest.raises(ValueError, match=r'backbone\.layer3.* and \d+ more'):
        compute_maps(recognizer, make_view(), layer)


@pytest.mark.parametrize('options', [{}, {'positions': 'learned', 'pooling': 'class_token'}])
def test_transformer_maps_equal_a_sum_by_hand(recognizer: Recognizer, options: dict) -> None:
    """The gradient is that of a score with respect to the last block, or its norm before a class token."""
    model, view = recognizer.model, make_view(16, 24)
    model.backbone = VisionTransformer(32, 2, 2, patch_size=8, input_size=(2, 16, 24), **options).eval()
    maps, scores, name = compute_maps(recognizer, view, class_index=1)
    features: list[Tensor] = []

    def keep(_module: nn.Module, _args: object, output: Tensor) -> None:
        output.retain_grad()
        features.append(output)

    model.get_submodule(name).register_forward_hook(keep)
    expected_scores = model(view[None, None])[0]
    expected_scores[1].backward()
    torch.testing.assert_close(scores, expected_scores.detach())
    expected = torch.zeros(2, 1, 2, 3)
    for u in range(2):
        tokens, slopes = (t[u].detach().reshape(-1, 32)[-6:] for t in (features[0], features[0].grad))  # (6, 32)
        expected[u] = (tokens @ slopes.mean(dim=0)).relu().view(1, 2, 3)
    assert expected.max() > 0
    torch.testing.assert_close(maps, expected)


@pytest.mark.parametrize(
    ('layer', 'size'),
    [(None, (2, 2, 4)), ('backbone.net.blocks.0', (2, 4, 8)), ('backbone.net.blocks.1', (2, 2, 4))],
)
def test_maps_of_blocks_that_return_tuples(
    recognizer: Recognizer, layer: str | None, size: tuple[int, int, int]
) -> None:
    backbone = TinyMViT().eval()
    recognizer.model.backbone = backbone
    recognizer.model.cls_head = TSNHead(8, 16, init_std=1.0).eval()
    view = torch.randint(0, 256, CLIP, dtype=torch.uint8)
    maps, scores, name = compute_maps(recognizer, view, layer, 3)
    assert name == (layer or 'backbone.net.blocks.2.norm1')
    assert maps.shape == (2, *size)
    with torch.no_grad():
        torch.testing.assert_close(scores, recognizer.model(view[None, None])[0], rtol=1e-4, atol=1e-5)


def test_folders_have_the_rate_of_the_config(recognizer: Recognizer, tmp_path: Path) -> None:
    dataset = recognizer.config['test_dataloader']['dataset']
    sampling = next(step for step in dataset['pipeline'] if step['type'] == 'SampleSnippets')
    sampling |= {'frame_interval': None, 'fps': 5}
    recognizer = Recognizer(recognizer.model, recognizer.config, recognizer.class_names, 'cpu')
    source = find_sources(write_frames(tmp_path / 'clip', 30))[0][0]
    with pytest.raises(ValueError, match='frame rate'):
        explain_video(recognizer, source)
    dataset['fps'] = 15
    recognizer = Recognizer(recognizer.model, recognizer.config, recognizer.class_names, 'cpu')
    indices = explain_video(recognizer, source).frame_indices
    assert (np.diff(indices, axis=-1) == 3).all()

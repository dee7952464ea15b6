"""Class activation maps, compared with torchcam."""

import pytest
import torch
from torchcam.methods import GradCAM

from dsanet.explain.cam import compute_maps
from dsanet.models.backbones.torchvision_video import TorchvisionVideo
from tests.make_recognizer import make_recognizer


@pytest.mark.parametrize('layer', [None, 'backbone.layer3'])
def test_maps_equal_those_of_torchcam(layer: str | None) -> None:
    recognizer = make_recognizer()
    config = recognizer.config['test_dataloader']['dataset']['pipeline']
    step = next(step for step in config if 'num_snippets' in step)
    shape = (step['num_snippets'], 3, step['frames_per_snippet'], 64, 64)
    view = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    maps, scores, name = compute_maps(recognizer, view, layer, 3)
    model = recognizer.model
    with GradCAM(model, name) as extractor:
        output = model(view[None, None])
        weights = extractor._get_weights(3, scores=output)[0]
        features = extractor.hook_a[0]
        assert features is not None
        expected = (weights[:, :, None, None, None] * features).sum(dim=1).relu()
    assert expected.max() > 0
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(scores, output[0].detach())


@pytest.mark.parametrize('layer', ['backbone.layr3', 'cls_head', 'cls_head.fc_cls'])
def test_wrong_layer_lists_the_right_ones(layer: str) -> None:
    recognizer = make_recognizer()
    config = recognizer.config['test_dataloader']['dataset']['pipeline']
    step = next(step for step in config if 'num_snippets' in step)
    view = torch.zeros(step['num_snippets'], 3, step['frames_per_snippet'], 64, 64, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r'backbone\.layer4'):
        compute_maps(recognizer, view, layer)


@pytest.mark.sweep  # building the model takes seconds
def test_token_grid_of_mvit() -> None:
    backbone = TorchvisionVideo('mvit_v2_s')
    assert backbone.cam_layer == 'net.blocks.15.norm1'
    assert backbone.token_grid(1 + 8 * 14 * 14) == (8, 14, 14)
    assert backbone.token_grid(8 * 14 * 14) is None

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.ops import StochasticDepth

from dsanet.models.backbones.feature_layout import FeatureLayout
from dsanet.models.backbones.torchvision_video import TorchvisionVideo

CLASSIFIERS = {'fc.', 'head.', 'classifier.'}


@pytest.mark.parametrize(
    ('name', 'channels', 'clip'),
    [
        ('r3d_18', 512, (2, 32, 32)),
        ('mc3_18', 512, (2, 32, 32)),
        ('r2plus1d_18', 512, (2, 32, 32)),
        ('swin3d_t', 768, (2, 32, 32)),
        # These two need clips of at least this size.
        ('s3d', 1024, (14, 210, 210)),
        pytest.param('mvit_v2_s', 768, (16, 224, 224), marks=pytest.mark.sweep),
    ],
)
@torch.no_grad()
def test_features_are_inputs_of_torchvision_classifier(name: str, channels: int, clip: tuple[int, ...]) -> None:
    full = models.get_model(name, weights=None).eval()
    backbone = TorchvisionVideo(name).eval()
    if name == 'mvit_v2_s':
        for net in (full, backbone.net):
            del net.blocks[5:14]  # equal blocks in the middle, to save time
    weights = {k: v for k, v in full.state_dict().items() if not k.startswith(tuple(CLASSIFIERS))}
    backbone.net.load_state_dict(weights)
    x = torch.randn(1, 3, *clip)
    features = backbone(x)
    assert features.shape == (1, channels, 1, 1, 1)
    assert backbone.out_channels == channels
    classify = next(getattr(full, part) for part in ('fc', 'head', 'classifier') if hasattr(full, part))
    logits = classify(features if name == 's3d' else features.flatten(1)).flatten(1)
    torch.testing.assert_close(logits, full(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('name', 'blocks', 'default'), [('swin3d_t', 12, 0.1), ('mvit_v2_s', 16, 0.2)])
def test_stochastic_depth_ends_at_the_given_rate(name: str, blocks: int, default: float) -> None:
    rates = {}
    for last in (None, 0.05, 0.4, 0.0):
        with torch.device('meta'):
            backbone = TorchvisionVideo(name, stochastic_depth=last)
        drops = [m.p for m in backbone.net.modules() if isinstance(m, StochasticDepth)]
        rates[last] = list(dict.fromkeys(drops))  # Swin has each rate twice
        assert max(drops) == pytest.approx(default if last is None else last)
    assert len(rates[None]) == blocks
    for last in (0.05, 0.4):
        assert rates[last] == pytest.approx([rate * last / default for rate in rates[None]])
    assert rates[0.0] == [0.0]


def test_stochastic_depth_acts_in_training_only() -> None:
    torch.manual_seed(0)
    backbone = TorchvisionVideo('swin3d_t', stochastic_depth=0.5)
    x = torch.randn(1, 3, 2, 32, 32)
    with torch.no_grad():
        assert not torch.equal(backbone(x), backbone(x))
        backbone.eval()
        assert torch.equal(backbone(x), backbone(x))


def test_keys_are_those_of_torchvision() -> None:
    with torch.device('meta'):
        backbone, full = TorchvisionVideo('r3d_18', pretrained='video.pth'), models.get_model('r3d_18')
    assert set(backbone.state_dict()) == {f'net.{k}' for k in full.state_dict() if not k.startswith('fc.')}
    assert backbone.pretrained == 'video.pth'
    assert backbone.stages == []


def test_every_torchvision_video_model_can_be_built() -> None:
    for name in models.list_models(module=models.video):
        with torch.device('meta'):
            backbone = TorchvisionVideo(name)
        assert backbone.out_channels >= 512


@pytest.mark.parametrize('name', ['swin3d_t', 'r3d_18'])
def test_feature_layout_matches_the_outputs(name: str) -> None:
    """Check each submodule whose output has five dimensions."""
    with torch.device('meta'):
        backbone = TorchvisionVideo(name).eval()
    channels = {}

    def record(part: str) -> None:
        def hook(_module: nn.Module, _args: object, output: object) -> None:
            if isinstance(output, torch.Tensor) and output.dim() == 5:
                layout = backbone.feature_layout(part, output.shape)
                assert layout is not None
                channels[part] = layout.unpack(output).shape[1]

        backbone.get_submodule(part).register_forward_hook(hook)

    parts = [part for part, _ in backbone.named_modules() if part.startswith('net.') and part.count('.') < 3]
    for part in parts:
        record(part)
    backbone(torch.zeros(2, 3, 16, 224, 224, device='meta'))
    if name == 'swin3d_t':
        assert channels['net.patch_embed.proj'] == channels['net.patch_embed'] == channels['net.features.0'] == 96
        assert [channels[f'net.features.{i}'] for i in (2, 4, 6)] == [192, 384, 768]
        assert channels['net.norm'] == channels['net.avgpool'] == 768
    else:
        assert [channels[f'net.layer{i}'] for i in (1, 2, 3, 4)] == [64, 128, 256, 512]
        assert channels['net.stem'] == 64


def test_feature_layout_of_mvit_tokens() -> None:
    with torch.device('meta'):
        backbone = TorchvisionVideo('mvit_v2_s')
    for side in (56, 28, 14, 7):
        expected = FeatureLayout('BMC', (8, side, side), num_prefix_tokens=1)
        assert backbone.feature_layout('net.blocks.3', (2, 1 + 8 * side**2, 96)) == expected
    for shape in ((2, 8 * 14 * 14, 96), (2, 1 + 8 * 13, 96), (2, 1 + 4, 96), (2, 768)):
        assert backbone.feature_layout('net.blocks.3', shape) is None


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'name': 'r3d18'}, "name='r3d18' .*mc3_18, .*r3d_18"),
        ({'name': 'resnet18'}, "name='resnet18'"),
        ({'name': 'r3d_18', 'stochastic_depth': 0.1}, "stochastic_depth=0.1 .*'r3d_18'"),
        ({'name': 'swin3d_t', 'stochastic_depth': 1.0}, r'stochastic_depth=1.0.*\[0, 1\)'),
    ],
)
def test_invalid_options_raise(options: dict, text: str) -> None:
    with torch.device('meta'), pytest.raises(ValueError, match=text):
        TorchvisionVideo(**options)


def test_unsupported_clip_size_raises() -> None:
    with torch.device('meta'):
        mvit, s3d = TorchvisionVideo('mvit_v2_s').eval(), TorchvisionVideo('s3d').eval()
        assert s3d(torch.zeros(1, 3, 13, 209, 209)).shape == (1, 1024, 1, 1, 1)
        with pytest.raises(ValueError, match=r'mvit_v2_s .*16 x 224 x 224.*\(8, 224, 224\)'):
            mvit(torch.zeros(1, 3, 8, 224, 224))
        with pytest.raises(ValueError, match=r's3d .*\(13, 209, 209\).*\(16, 112, 112\)'):
            s3d(torch.zeros(1, 3, 16, 112, 112))

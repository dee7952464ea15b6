import itertools
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dsanet.models.backbones.base import Backbone
from dsanet.models.backbones.resnet_i3d import ResNet_I3D
from dsanet.models.backbones.torchvision_video import TorchvisionVideo
from dsanet.models.batch_augment import MixupCutmix
from dsanet.models.data_preprocessor import DataPreprocessor
from dsanet.models.heads.i3d_cls_head import I3DClsHead
from dsanet.models.heads.trn_head import TRNHead
from dsanet.models.losses import BinaryCrossEntropyLoss, Loss
from dsanet.models.recognizers.recognizer3d import Recognizer3D

DSA = {'type': 'DSA', 'num_snippets': 4, 'channel_ratio': 0.5, 'blocks': (0, 1, 1, 0)}


def make_model(module_cfg: dict | None = DSA, **options: object) -> Recognizer3D:
    torch.manual_seed(0)
    backbone = ResNet_I3D(10, base_channels=8)
    model = Recognizer3D(backbone, I3DClsHead(5, 64, dropout=0.0, init_std=1.0), module_cfg, **options)
    for module in model.modules():  # random statistics, so that no norm is the identity
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def frames(*shape: int) -> Tensor:
    """Random uint8 inputs (N, V, U, C, T, H, W)."""
    return torch.randint(0, 256, (*shape[:3], 3, *shape[3:]), dtype=torch.uint8)


@pytest.mark.parametrize('compile_it', [False, pytest.param(True, marks=pytest.mark.sweep)])
@torch.no_grad()
def test_optimized_model_gives_the_same_scores(compile_it: bool) -> None:
    model = make_model()
    batches = [frames(2, 1, 4, 2, 32, 32), frames(1, 1, 4, 2, 32, 32)]
    expected = [model(x) for x in batches]
    model.optimize(compile_it)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm3d)]
    assert not norms
    assert not any(parameter.requires_grad for parameter in model.parameters())
    for x, scores in zip(batches, expected, strict=True):
        torch.testing.assert_close(model(x), scores, rtol=1e-5, atol=1e-5)
    torch.compiler.reset()


@pytest.mark.parametrize(
    ('device', 'amp', 'is_compiled'),
    [('cpu', None, True), ('cpu', 'bf16', False), ('cpu', 'fp16', False), ('meta', 'bf16', True)],
)
def test_only_cpu_amp_is_not_compiled(
    device: str, amp: str | None, is_compiled: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[dict] = []
    monkeypatch.setattr(Recognizer3D, 'compile', lambda self, **options: calls.append(options))
    model = make_model().to(device)
    with caplog.at_level(logging.INFO, 'dsanet'):
        model.optimize(True, amp)
    assert calls == ([{'options': {'freezing': True}}] if is_compiled else [])
    assert [amp in message for message in caplog.messages] == ([] if is_compiled else [True])


@torch.no_grad()
def test_views_and_videos_are_independent() -> None:
    model = make_model()
    x = frames(2, 3, 4, 2, 32, 32)
    batch = model(x)
    assert batch.shape == (2, 5)
    for n in range(2):
        alone = torch.stack([model(x[n : n + 1, v : v + 1])[0] for v in range(3)])  # (V, K)
        torch.testing.assert_close(batch[n], alone.mean(0), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_average_views_prob_and_score() -> None:
    x = frames(2, 3, 4, 2, 32, 32)
    model = make_model()
    views = torch.stack([model(x[:, v : v + 1]) for v in range(3)])  # (V, N, K)
    torch.testing.assert_close(model(x), views.mean(0), rtol=1e-4, atol=1e-5)
    prob = make_model(average_views='prob')(x)
    torch.testing.assert_close(prob, views.softmax(-1).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prob.sum(1), torch.ones(2))


class _Counting(nn.Module):
    """Wraps a backbone and records the number of snippets of each call."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return self.backbone(x)


@pytest.mark.parametrize('limit', [1, 4, 5, 6, 100])
@torch.no_grad()
def test_max_views_per_forward_changes_no_score(limit: int) -> None:
    x = frames(2, 3, 4, 2, 32, 32)
    expected = make_model()(x)
    model = make_model(max_views_per_forward=limit)
    model.backbone = counting = _Counting(model.backbone)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert max(counting.sizes) == min(limit, 6) * 4
    assert sum(counting.sizes) == 6 * 4


def peak_memory(model: nn.Module, x: Tensor) -> int:
    """Return the peak of the bytes that a forward pass allocates, without its inputs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        model(x)
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == '[memory]']
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes))


@torch.no_grad()
def test_max_views_per_forward_bounds_the_memory() -> None:
    one, three = frames(1, 30, 4, 1, 32, 32), frames(3, 30, 4, 1, 32, 32)
    bounded, unbounded = make_model(max_views_per_forward=8), make_model()
    eight_views = peak_memory(unbounded, one[:, :8])
    assert eight_views > one[:, :8].numel() * 4  # the frames as float32, at least
    assert peak_memory(unbounded, three) > 10 * eight_views
    for x in (one, three):  # 30 is not a multiple of 8
        assert peak_memory(bounded, x) < 1.05 * eight_views


@torch.no_grad()
def test_test_window_works_with_max_views_per_forward() -> None:
    x = frames(2, 2, 4, 1, 64, 96)  # features of 2 x 3 pixels
    expected = make_model(average_views='prob')
    expected.cls_head.test_window = (1, 1)
    model = make_model(average_views='prob', max_views_per_forward=3)
    model.cls_head.test_window = (1, 1)
    torch.testing.assert_close(model(x), expected(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(x).sum(1), torch.ones(2))
    # By hand: each of the 4 views and 6 places alone.
    features = expected.backbone(expected.data_preprocessor(x.flatten(0, 2)))
    places = expected.cls_head.fc_cls(features.mean(2).movedim(1, -1))  # (N*V*U, H, W, K)
    prob = places.unflatten(0, (4, 4)).mean(1).softmax(-1).mean((1, 2))  # (N*V, K)
    torch.testing.assert_close(model(x), prob.unflatten(0, (2, 2)).mean(1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_only_dsa_depends_on_snippet_order() -> None:
    x = frames(2, 1, 4, 2, 32, 32)
    shuffled = x[:, :, [2, 0, 3, 1]]
    control = make_model(None)
    torch.testing.assert_close(control(shuffled), control(x), rtol=1e-5, atol=1e-5)
    model = make_model()
    assert (model(shuffled) - model(x)).abs().max() > 1e-3


def test_losses_are_of_the_mean_scores() -> None:
    model = make_model()
    x, label = frames(3, 2, 4, 2, 32, 32), torch.tensor([0, 4, 2])
    scores = model(x)
    losses = model(x, label)
    torch.testing.assert_close(losses['loss'], nn.functional.cross_entropy(scores, label))
    assert losses['top1'].item() == pytest.approx((scores.argmax(1) == label).float().mean().item() * 100)
    assert losses['loss'].requires_grad
    assert not losses['top1'].requires_grad


def test_init_weights_loads_the_pretrained_file(tmp_path: Path) -> None:
    source = ResNet_I3D(10, base_channels=8)
    torch.save(source.state_dict(), tmp_path / 'image.pth')
    backbone = ResNet_I3D(10, base_channels=8, pretrained=str(tmp_path / 'image.pth'))
    model = Recognizer3D(backbone, I3DClsHead(5, 64), DSA)
    model.init_weights()
    assert torch.equal(backbone.layer3[0].conv1.weight, source.layer3[0].conv1.weight)
    backbone.pretrained = str(tmp_path / 'missing.pth')
    with pytest.raises(FileNotFoundError, match=r'model\.backbone\.pretrained.*missing\.pth.*download_imgnet\.sh'):
        model.init_weights()
    for name, file in (('local-dir:m/x/', 'm/x/model.safetensors'), ('hf-hub:user/x', 'hf download user/x ')):
        backbone.pretrained = name
        with pytest.raises(FileNotFoundError, match=file):
            model.init_weights()


def test_frozen_stages_freeze_inserted_modules() -> None:
    model = Recognizer3D(ResNet_I3D(10, base_channels=8, frozen_stages=2), I3DClsHead(5, 64), DSA)
    trainable = {n.split('.')[1] for n, p in model.named_parameters() if p.requires_grad and 'dsa' in n}
    assert trainable == {'layer3'}


def test_state_dict_keys() -> None:
    keys = set(make_model().state_dict())
    for key in (
        'backbone.conv1.weight',
        'backbone.bn1.running_var',
        'backbone.layer1.0.conv2.weight',
        'backbone.layer2.0.downsample.0.weight',
        'backbone.layer2.0.downsample.1.num_batches_tracked',
        'backbone.layer2.0.dsa.generate.0.weight',
        'backbone.layer3.0.dsa.generate.1.running_mean',
        'backbone.layer3.0.dsa.generate.3.weight',
        'cls_head.fc_cls.weight',
        'cls_head.fc_cls.bias',
    ):
        assert key in keys
    assert not any(key.startswith(('data_preprocessor', 'backbone.layer1.0.dsa')) for key in keys)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'average_views': 'mean'}, "average_views='mean' .*score, prob"),
        ({'max_views_per_forward': 0}, 'max_views_per_forward=0'),
    ],
)
def test_invalid_options_raise(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make_model(**options)


def test_wrong_in_channels_of_head_raise() -> None:
    with pytest.raises(ValueError, match='in_channels=32 .*64'):
        Recognizer3D(ResNet_I3D(10, base_channels=8), I3DClsHead(5, 32))


class _Mean(Backbone):
    """Returns the mean color of each snippet."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3, 4), keepdim=True)


class _FlatMean(_Mean):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(1)


@pytest.mark.parametrize('channels', [None, '3', (3,)])
def test_backbone_without_out_channels_raises(channels: object) -> None:
    backbone = _Mean()
    if channels is not None:
        backbone.out_channels = channels
    with pytest.raises(ValueError, match='_Mean.*out_channels'):
        Recognizer3D(backbone, I3DClsHead(5, 3))


@pytest.mark.parametrize(
    ('cls', 'channels', 'shape'),
    [(_Mean, 4, r'\(8, 3, 1, 1, 1\)'), (_FlatMean, 3, r'\(8, 3\)')],
    ids=['number', 'shape'],
)
def test_features_of_wrong_shape_raise(cls: type[_Mean], channels: int, shape: str) -> None:
    backbone = cls()
    backbone.out_channels = channels
    model = Recognizer3D(backbone, I3DClsHead(5, channels))
    message = rf'{cls.__name__} .*{shape}.*{channels}'
    with pytest.raises(ValueError, match=message):
        model(frames(2, 1, 4, 2, 8, 8))


def test_inputs_of_wrong_shape_raise() -> None:
    model = make_model()
    with pytest.raises(ValueError, match=r'7 .*\(4, 3, 2, 32, 32\)'):
        model(torch.zeros(4, 3, 2, 32, 32, dtype=torch.uint8))
    # 8 snippets could be divided into two views of 4, and must not be.
    with pytest.raises(ValueError, match='num_snippets=8.*DSA.*num_snippets=4'):
        model(frames(1, 1, 8, 2, 32, 32))


class _Swap(nn.Module):
    """An augmentation that records its arguments and returns other frames and labels."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def forward(self, frames: Tensor, label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        self.calls.append((frames, label, num_classes))
        return frames.flip(0), torch.eye(num_classes)[[1, 2, 0]]


def test_batch_augment_runs_in_training_only() -> None:
    swap = _Swap()
    model = make_model(batch_augment=swap)
    x, label = frames(3, 2, 4, 2, 32, 32), torch.tensor([0, 4, 2])
    scores = model(x)
    torch.testing.assert_close(model(x, label)['loss'], nn.functional.cross_entropy(scores, label))
    assert not swap.calls
    for module in model.modules():
        module.training = not isinstance(module, nn.modules.batchnorm._BatchNorm)
    losses = model(x, label)
    swapped, given_label, num_classes = swap.calls[0]
    assert torch.equal(swapped, DataPreprocessor()(x))
    assert torch.equal(given_label, label)
    assert num_classes == 5
    expected = torch.tensor([1, 2, 0])
    torch.testing.assert_close(losses['loss'], nn.functional.cross_entropy(scores.flip(0), expected))
    assert losses['top1'].item() == pytest.approx((scores.flip(0).argmax(1) == expected).float().mean().item() * 100)


def test_mixed_videos_train() -> None:
    model = make_model(batch_augment=MixupCutmix()).train()
    losses = model(frames(3, 1, 4, 2, 32, 32), torch.tensor([0, 4, 2]))
    losses['loss'].backward()
    assert losses.keys() == {'loss', 'top1'}
    assert model.cls_head.fc_cls.weight.grad.abs().sum() > 0


class _Pooling(Backbone):
    """A backbone that compiles quickly: the mean of each channel."""

    out_channels = 3
    is_pooled = True

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3, 4), keepdim=True)


def test_compiled_model_with_mixing_has_equal_losses(caplog: pytest.LogCaptureFixture) -> None:
    model = Recognizer3D(_Pooling(), I3DClsHead(5, 3, dropout=0.0, init_std=1.0), batch_augment=MixupCutmix())
    x, label = frames(3, 1, 4, 2, 8, 8), torch.tensor([0, 4, 2])

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return model(x, label)['loss'].item()

    expected = [loss(seed) for seed in range(12)]
    graphs = []

    def count(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    model.compile(backend=count)
    assert [loss(seed) for seed in range(12)] == expected
    assert len(graphs) == 2  # before and after the random draws
    assert 'Graph break' not in caplog.text


def test_multi_hot_labels_give_no_accuracy() -> None:
    model = make_model()
    model.cls_head.criterion = BinaryCrossEntropyLoss()
    x, label = frames(2, 2, 4, 2, 32, 32), torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    losses = model(x, label)
    assert losses.keys() == {'loss'}
    expected = nn.functional.binary_cross_entropy_with_logits(model(x), label)
    torch.testing.assert_close(losses['loss'], expected)


def test_num_snippets_of_the_head_is_checked() -> None:
    model = Recognizer3D(ResNet_I3D(10, base_channels=8), TRNHead(5, 64, num_snippets=4)).eval()
    assert model(frames(1, 2, 4, 2, 32, 32)).shape == (1, 5)
    with pytest.raises(ValueError, match='num_snippets=2.*TRNHead.*cls_head.*num_snippets=4'):
        model(frames(1, 1, 2, 2, 32, 32))


def test_check_clip_shape_has_no_side_effects() -> None:
    model = make_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    model.check_clip_shape(num_snippets=4, frames_per_snippet=3)
    with pytest.raises(ValueError, match='num_snippets=8.*DSA.*num_snippets=4'):
        model.check_clip_shape(num_snippets=8, frames_per_snippet=3)
    assert model.training
    assert model.backbone.layer1.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_check_clip_shape_uses_probe_shape() -> None:
    model = Recognizer3D(TorchvisionVideo('s3d'), I3DClsHead(5, 1024))
    model.check_clip_shape(num_snippets=1, frames_per_snippet=13)
    with pytest.raises(ValueError, match=r's3d .*\(13, 209, 209\).*\(8, 224, 224\)'):
        model.check_clip_shape(num_snippets=1, frames_per_snippet=8)


class _Refusing(_Pooling):
    """A backbone with an operator that does not work on the meta device."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float(x.sum() < 0)


def test_check_clip_shape_ignores_meta_device_failures() -> None:
    model = Recognizer3D(_Refusing(), I3DClsHead(5, 3))
    with pytest.raises(RuntimeError):
        model.backbone(torch.zeros(1, 3, 2, 8, 8, device='meta'))
    model.check_clip_shape(num_snippets=1, frames_per_snippet=8)


def test_num_snippets_after_submodules_is_checked() -> None:
    model = make_model({'type': 'DSA', 'num_snippets': 4, 'channel_ratio': 0.5, 'after': 'layer2'})
    assert 'backbone.dsa_after_layer2.generate.0.weight' in model.state_dict()
    with pytest.raises(ValueError, match='num_snippets=8.*DSA.*backbone.dsa_after_layer2.*num_snippets=4'):
        model(frames(1, 1, 8, 2, 32, 32))


def test_test_window_needs_feature_maps_and_prob() -> None:
    backbone = ResNet_I3D(10, base_channels=8)
    with pytest.raises(ValueError, match="test_window.*average_views='prob'"):
        Recognizer3D(backbone, I3DClsHead(5, 64, test_window=(1, 1)))
    Recognizer3D(backbone, I3DClsHead(5, 64, test_window=(1, 1)), average_views='prob')
    pooled = TorchvisionVideo('s3d')
    with pytest.raises(ValueError, match='test_window.*TorchvisionVideo'):
        Recognizer3D(pooled, I3DClsHead(5, 1024, test_window=(1, 1)), average_views='prob')


@torch.no_grad()
def test_multi_label_probabilities_are_independent() -> None:
    backbone = ResNet_I3D(10, base_channels=8)
    model = Recognizer3D(backbone, I3DClsHead(5, 64, loss=BinaryCrossEntropyLoss()), average_views='prob').eval()
    nn.init.constant_(model.cls_head.fc_cls.bias, 4.0)
    assert (model(torch.zeros(1, 2, 1, 3, 2, 32, 32, dtype=torch.uint8)) > 0.9).all()


@pytest.mark.parametrize(('loss', 'activation'), [(None, 'softmax'), (BinaryCrossEntropyLoss(), 'sigmoid')])
def test_activation_depends_on_loss_and_average_views(loss: Loss | None, activation: str) -> None:
    for average_views, expected in (('score', activation), ('prob', 'none')):
        head = I3DClsHead(5, 64, loss=loss)
        model = Recognizer3D(ResNet_I3D(10, base_channels=8), head, average_views=average_views)
        assert model.activation == expected

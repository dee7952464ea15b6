import numpy as np
import pytest
import torch

from dsanet.config.registry import MODELS, build
from dsanet.explain.kernels import ModuleKernels, collect_kernels, find_dsa
from dsanet.inference.recognizer import Recognizer
from tests.engine.conftest import make_config

RNG = np.random.default_rng(0)
INPUTS = torch.from_numpy(RNG.integers(0, 256, (3, 2, 2, 3, 2, 16, 16), dtype=np.uint8))
NAMES = ['a', 'b', 'c']
NO_LABELS = np.full(4, -1)


def make(tmp_path, **changes) -> Recognizer:
    """Return a recognizer with two DSA modules, each of several channels."""
    config = make_config(tmp_path)
    config['model'] |= {
        'module_cfg': {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5, 'blocks': (0, 1, 1, 0)},
        **changes,
    }
    torch.manual_seed(0)
    return Recognizer(build(config['model'], MODELS), config, [f'class {k}' for k in range(8)], 'cpu')


@pytest.mark.parametrize('limit', [None, 4])
def test_kernels_are_those_of_the_forward_pass(tmp_path, monkeypatch, limit) -> None:
    recognizer = make(tmp_path, max_views_per_forward=limit)
    modules = find_dsa(recognizer.model)
    assert list(modules) == ['backbone.layer2.0.dsa', 'backbone.layer3.0.dsa']
    seen = {name: [] for name in modules}
    for name, module in modules.items():
        original = module.make_kernel
        monkeypatch.setattr(module, 'make_kernel', lambda x, o=original, n=name: seen[n].append(o(x)) or seen[n][-1])
    found = collect_kernels(recognizer, [(INPUTS, NAMES, [0, 1, -1]), (INPUTS[:1], ['d'], [2])])
    assert (found.videos, found.labels.tolist()) == ([*NAMES, 'd'], [0, 1, -1, 2])
    for module in found.modules:
        rows = torch.cat(seen[module.name]).double()  # (4 videos * 2 views, C, 3)
        for video in range(4):
            expected = (rows[2 * video] + rows[2 * video + 1]) / 2
            np.testing.assert_allclose(module.kernels[video], expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(module.kernels.sum(axis=2), 1, atol=1e-6)
    assert [module.kernels.shape for module in found.modules] == [(4, 4, 3), (4, 8, 3)]
    assert not any(module.generate._forward_hooks for module in modules.values())


def test_statistics_match_slow_loops() -> None:
    kernels = RNG.dirichlet(np.ones(3), size=(6, 5))  # 6 videos, 5 channels, 3 taps
    labels = np.array([0, 0, 0, 1, 1, -1])
    stats = ModuleKernels('dsa', kernels, False).measure(labels)

    def distance(a, b):
        return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 2

    each = [(n, c) for n in range(6) for c in range(5)]
    channel = [kernels[:, c].mean(axis=0) for c in range(5)]
    assert stats.from_identity == pytest.approx(np.mean([distance(kernels[i], [0, 1, 0]) for i in each]))
    assert stats.from_identity == pytest.approx(1 - kernels[:, :, 1].mean())
    assert stats.from_average == pytest.approx(np.mean([distance(kernels[i], [1 / 3] * 3) for i in each]))
    assert stats.offset == pytest.approx(np.mean([kernels[i][2] - kernels[i][0] for i in each]))
    assert stats.between_videos == pytest.approx(np.mean([distance(kernels[i], channel[i[1]]) for i in each]))
    assert stats.between_channels == pytest.approx(
        np.mean([distance(one, np.mean(channel, axis=0)) for one in channel])
    )
    total = between = 0.0
    for c in range(5):
        for tap in range(3):
            values = kernels[:5, c, tap]
            total += sum((values - values.mean()) ** 2)
            between += sum(n * (values[labels[:5] == k].mean() - values.mean()) ** 2 for k, n in ((0, 3), (1, 2)))
    assert stats.between_classes == pytest.approx(between / total)
    assert stats.by_chance == pytest.approx(1 / 4)


@pytest.mark.parametrize(('kernel', 'identity', 'average'), [([0, 1, 0], 0, 2 / 3), ([1 / 3] * 3, 2 / 3, 0)])
def test_fixed_kernels_have_distance_zero(kernel, identity, average) -> None:
    stats = ModuleKernels('dsa', np.tile(kernel, (4, 5, 1)).astype(float), False).measure(np.array([0, 0, 1, 1]))
    assert stats.from_identity == pytest.approx(identity)
    assert stats.from_average == pytest.approx(average)
    assert (stats.between_channels, stats.between_videos) == pytest.approx((0, 0))
    assert stats.between_classes is None


def test_share_of_classes_ranges_to_one() -> None:
    labels = np.arange(400) % 4
    by_class = RNG.dirichlet(np.ones(3), size=(4, 5))[labels]
    assert ModuleKernels('dsa', by_class, False).measure(labels).between_classes == pytest.approx(1)
    stats = ModuleKernels('dsa', RNG.dirichlet(np.ones(3), size=(400, 20)), False).measure(labels)
    assert stats.between_classes == pytest.approx(stats.by_chance, rel=0.5)


def test_model_without_dsa_is_an_error(tmp_path) -> None:
    with pytest.raises(ValueError, match='module_cfg'):
        collect_kernels(make(tmp_path, module_cfg=None), [(INPUTS, NAMES, [0, 0, 0])])


def test_wrong_batches_are_errors(tmp_path) -> None:
    recognizer = make(tmp_path)
    with pytest.raises(ValueError, match='no videos'):
        collect_kernels(recognizer, [])
    with pytest.raises(ValueError, match='b: label 8'):
        collect_kernels(recognizer, [(INPUTS, NAMES, [0, 8, 0])])
    find_dsa(recognizer.model)['backbone.layer2.0.dsa'].generate[0].weight.data.fill_(float('nan'))
    with pytest.raises(ValueError, match=r'layer2\.0\.dsa'):
        collect_kernels(recognizer, [(INPUTS, NAMES, [0, 0, 0])])

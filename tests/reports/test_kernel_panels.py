import base64
import re

import cv2
import numpy as np

from dsanet.explain.kernels import Kernels, ModuleKernels
from dsanet.reports.kernel_panels import draw_kernel_panels


def make_kernels(num_videos: int, labels: list[int]) -> Kernels:
    """Return the kernels of two modules, of 4 and 6 channels."""
    rng = np.random.default_rng(0)
    modules = [ModuleKernels(f'm{c}<', rng.dirichlet([1, 1, 1], (num_videos, c)), c == 6) for c in (4, 6)]
    return Kernels(modules, [f'{i}.mp4' for i in range(num_videos)], np.array(labels), ['<i>a', 'b', 'c'])


def decode(uri: str) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(base64.b64decode(uri), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_bars_are_the_mean_weights() -> None:
    kernels = make_kernels(5, [0, 0, 1, 1, -1])
    text = draw_kernel_panels(kernels)
    expected = [f'{kernels.modules[0].kernels[:, :, k].mean():.2f}' for k in range(3)]
    first = text[text.index('aria-label="mean weight') :]
    assert re.findall(r'(u[+-]?\d?) (\d\.\d\d)', first[:120]) == list(zip(('u-1', 'u', 'u+1'), expected, strict=True))
    assert '<i>' not in text


def test_channels_are_sorted_by_center_of_mass() -> None:
    kernels = make_kernels(1, [-1])
    images = [decode(uri) for uri in re.findall(r'href="data:image/png;base64,(.*?)"', draw_kernel_panels(kernels))]
    assert [image.shape[:2] for image in images] == [(3, 4), (1, 60), (3, 6), (1, 60)]
    values = kernels.modules[0].kernels[0]  # (C, L)
    order = sorted(range(4), key=lambda c: values[c, 2] - values[c, 0])
    levels = np.rint(255 * values[order].T).astype(np.uint8)  # (L, C)
    np.testing.assert_array_equal(images[0], cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS))


def test_classes_move_the_center_of_mass() -> None:
    earlier, later = [[0.8, 0.2, 0.0]], [[0.0, 0.2, 0.8]]
    module = ModuleKernels('m', np.array([earlier, later, earlier, later]), False)
    kernels = Kernels([module], list('abcd'), np.array([0, 2, 0, 2]), ['x', 'y', 'z'])
    text = draw_kernel_panels(kernels)
    assert 'earlier 0.8' in text
    assert 'heat map of x, z by channel' in text
    images = [decode(uri) for uri in re.findall(r'href="data:image/png;base64,(.*?)"', text)]
    np.testing.assert_array_equal(images[-2][:, 0, ::-1], [[33, 102, 172], [178, 24, 43]])  # RGB: blue, red
    assert '100% (33%)' in text

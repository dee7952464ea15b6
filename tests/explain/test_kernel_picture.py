from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes

from dsanet.explain.kernel_picture import draw_kernels
from dsanet.explain.kernels import Kernels, ModuleKernels

RNG = np.random.default_rng(0)


def draw(folder: Path, num_classes: int, channels: tuple[int, ...]) -> int:
    """Draw modules with these numbers of channels, and return the height of the picture."""
    labels = np.arange(24) % num_classes if num_classes else np.full(24, -1)
    modules = [ModuleKernels(f'dsa{c}', RNG.dirichlet(np.ones(5), size=(24, c)), c == 3) for c in channels]
    videos, names = [f'$v_{i}日.mp4' for i in range(24)], [f'class $ 日 {k}' for k in range(num_classes)]
    draw_kernels(Kernels(modules, videos, labels, names), folder / 'k.png', 'a $ title')
    image = cv2.imread(str(folder / 'k.png'))
    assert image.std() > 10
    assert [file.name for file in folder.iterdir()] == ['k.png']
    return image.shape[0]


def test_picture_has_a_row_per_module(tmp_path) -> None:
    assert draw(tmp_path, 20, (1, 3)) > 1.5 * draw(tmp_path, 20, (1,))


@pytest.mark.parametrize(('num_classes', 'channels'), [(0, 3), (1, 1)])
def test_picture_needs_no_classes(tmp_path, num_classes, channels) -> None:
    draw(tmp_path, num_classes, (channels,))


def test_kernels_of_one_video_are_black(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__('matplotlib').rcParams, 'svg.fonttype', 'none')  # text stays text
    module = ModuleKernels('dsa', RNG.dirichlet(np.ones(3), size=(1, 4)), False)
    images = []
    imshow = Axes.imshow
    monkeypatch.setattr(Axes, 'imshow', lambda *args, **options: images.append(imshow(*args, **options)) or images[-1])
    draw_kernels(Kernels([module], ['a.mp4'], np.array([-1]), []), tmp_path / 'k.svg', 'title')
    spread = images[1]
    assert not spread.get_array().any()
    assert spread.to_rgba(0.0)[:3] == spread.cmap(0.0)[:3], 'no change has the lowest color'
    assert ' 1 videos' not in (tmp_path / 'k.svg').read_text()

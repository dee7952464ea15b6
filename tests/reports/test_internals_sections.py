from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from dsanet.explain.cam import ActivationMaps
from dsanet.explain.cam_pictures import blend
from dsanet.reports.internals import Internals, MistakeMaps
from dsanet.reports.internals_sections import draw_middle_frames, write_kernels, write_maps
from dsanet.reports.run_data import Run
from tests.reports.test_kernel_panels import make_kernels


def make_maps(num_snippets: int) -> ActivationMaps:
    """Return maps of snippets with three frames, whose middle frame has the gray value of its snippet."""
    frames = np.zeros((num_snippets, 3, 60, 60, 3), np.uint8)
    frames[:, 1] = (20 * np.arange(num_snippets))[:, None, None, None]
    maps = np.random.default_rng(0).random((num_snippets, 3, 2, 2), np.float32)
    indices = np.arange(3 * num_snippets).reshape(num_snippets, 3)
    return ActivationMaps('<i>.mp4', 'backbone.layer4', '<i>a', 1.0, 0.75, True, frames, indices, 99, maps)


def make_run(internals: Internals) -> Run:
    return Run('<i>run', Path('x'), {}, [], None, None, internals)


def test_middle_frames_are_in_order_of_time() -> None:
    maps = make_maps(5)
    image = draw_middle_frames(maps)
    assert image.shape == (244, 492, 3)
    for u in range(5):
        top, left = 124 * (u // 4), 124 * (u % 4)
        expected = cv2.resize(blend(maps.frames[u, 1], maps.scaled()[u, 1]), (120, 120))
        found = image[top : top + 120, left : left + 120]
        assert np.abs(found.astype(int) - expected).mean() < 6
    assert draw_middle_frames(make_maps(20)).shape == (244, 492, 3), 'at most 8 snippets'


def test_sections_show_both_classes_and_escape_names() -> None:
    maps = make_maps(2)
    pair = MistakeMaps(maps, replace(maps, label='b', probability=0.25, maps=np.zeros_like(maps.maps)))
    text = write_maps([make_run(Internals('best.pth', None, '', [pair], '<i>'))])
    assert '<i>' not in text
    assert text.index('75.0%') < text.index('25.0%')
    assert text.count('<img ') == 1, 'there is no picture of maps that are zero'
    text = write_kernels([make_run(Internals('best.pth', make_kernels(4, [0, 0, 1, 1])))])
    assert '<i>' not in text
    assert '4 test videos of 2 classes' in text


def test_missing_parts_are_their_reasons() -> None:
    run = make_run(Internals(None, None, 'no <kernels>', [], 'no <maps>'))
    assert 'no &lt;kernels&gt;' in write_kernels([run])
    assert 'no &lt;maps&gt;' in write_maps([run])

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from dsanet.explain.cam import ActivationMaps
from dsanet.explain.cam_pictures import blend, draw_maps, write_maps_video


@pytest.fixture
def maps() -> ActivationMaps:
    """Two snippets of two frames, interleaved in time; frame i of the video has the gray value 20 * i."""
    indices = np.array([[0, 4], [2, 6]])
    frames = np.broadcast_to((20 * indices)[..., None, None, None], (2, 2, 32, 32, 3)).astype(np.uint8)
    heat = np.zeros((2, 1, 2, 2), np.float32)
    heat[1, 0, 0, 0] = 3
    return ActivationMaps('a.mp4', 'layer4', 'run', 1.5, 0.8, True, frames, indices, 8, heat)


def test_sheet_shows_where_the_maps_are(maps: ActivationMaps) -> None:
    sheet, empty = draw_maps(maps), draw_maps(replace(maps, maps=np.zeros_like(maps.maps)))
    assert sheet.dtype == np.uint8
    assert sheet.shape == empty.shape
    rows = np.flatnonzero((sheet != empty).any(axis=(1, 2)))
    assert rows.max() > len(sheet) // 2  # the second snippet


def test_snippets_of_one_frame_are_columns(maps: ActivationMaps) -> None:
    frames = np.zeros((9, 1, 16, 16, 3), np.uint8)
    frames[..., 0] = 20 * np.arange(1, 10)[:, None, None, None]  # red
    single = replace(maps, frames=frames, frame_indices=np.arange(9)[:, None], maps=np.zeros((9, 1, 2, 2), np.float32))
    sheet = draw_maps(single)
    corners = [np.argwhere((sheet == [20 * u, 0, 0]).all(axis=2)).min(axis=0) for u in range(1, 10)]
    rows, columns = np.array(corners).T
    assert len(set(rows[:8])) == 1
    assert np.all(np.diff(columns[:8]) > 100)
    assert rows[8] > rows[0] + 200  # below the maps of the first line
    assert columns[8] == columns[0]


def test_blend_keeps_half_of_the_frame() -> None:
    frame = np.full((8, 8, 3), 100, np.uint8)
    cold, hot = blend(frame, np.zeros((8, 8), np.float32)), blend(frame, np.ones((8, 8), np.float32))
    assert cold.shape == (8, 8, 3)
    assert hot[0, 0, 0] > hot[0, 0, 2]  # red
    lighter = blend(frame + 100, np.zeros((8, 8), np.float32))
    assert np.all(lighter.astype(int) - cold == 50)


def test_video_has_frames_in_time_order(maps: ActivationMaps, tmp_path: Path) -> None:
    write_maps_video(maps, tmp_path / 'm.mp4')
    with av.open(str(tmp_path / 'm.mp4')) as container:
        images = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    assert len(images) == 4
    height = images[0].shape[0]
    left = [float(np.median(image[height // 3 : height // 2, : image.shape[1] // 4])) for image in images]
    assert left == pytest.approx([0, 40, 80, 120], abs=8)

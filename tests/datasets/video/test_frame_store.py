import cv2
import numpy as np
import pytest

from dsanet.datasets.video.frame_store import Clip, Crop, FrameStore, new_array

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), np.uint8)


def store_all(frames, crops):
    shapes = []
    store = FrameStore(
        len(frames), lambda shape: shapes.append(shape) or new_array(shape), crops and (lambda *_: [Clip(crops)])
    )
    for position, frame in enumerate(frames):
        store.put_whole(position, frame)
    return store.frames, shapes


def test_whole_frames_are_stored_without_a_plan():
    stored, shapes = store_all(FRAMES, None)
    np.testing.assert_array_equal(stored, FRAMES)
    assert shapes == [(3, 40, 60, 3)]


def test_crops_are_applied_in_order():
    crops = [Crop((2, 4, 30, 50), (20, 25)), Crop((0, 0, 20, 25), (32, 36)), Crop((1, 2, 16, 18), (16, 18))]
    stored, shapes = store_all(FRAMES, crops)
    for frame, result in zip(FRAMES, stored, strict=True):
        small = cv2.resize(frame[2:32, 4:54].copy(), (25, 20))
        np.testing.assert_array_equal(result, cv2.resize(small, (36, 32))[1:17, 2:20])
    assert shapes == [(3, 16, 18, 3)], 'memory only for the results'


def test_plan_is_made_once_with_the_size():
    sizes = []
    store = FrameStore(2, new_array, lambda *size: sizes.append(size) or [Clip([Crop((1, 1, 8, 8), (8, 8))])])
    assert [store.region(40, 60) for _ in range(3)] == [(1, 1, 8, 8)] * 3
    assert sizes == [(40, 60)]


def test_frame_of_another_size_is_an_error():
    store = FrameStore(2, new_array)
    store.put_whole(0, FRAMES[0])
    with pytest.raises(ValueError, match=r'\(40, 30\).*\(40, 60\)'):
        store.put_whole(1, FRAMES[1, :, :30])

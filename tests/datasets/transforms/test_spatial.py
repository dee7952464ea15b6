import cv2
import numpy as np
import pytest

from dsanet.datasets.transforms import CenterCrop, Flip, MultiScaleCrop, RandomResizedCrop, Resize, TenCrop, ThreeCrop
from dsanet.datasets.transforms.frame_steps import resize_frames


def numbered_frames(num_frames, height, width):
    """Return frames with pixel values (frame, row, column), so that corner pixels show the box of a crop."""
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    frames[..., 0] = np.arange(num_frames)[:, None, None]
    frames[..., 1] = np.arange(height)[:, None]
    frames[..., 2] = np.arange(width)
    return frames


def apply(transform, frames, seed=0):
    return transform({'frames': frames, 'rng': np.random.default_rng(seed)})['frames']


def corners(frame):
    """Return (row, column) of the first and the last pixel."""
    return tuple(frame[0, 0, 1:].tolist()), tuple(frame[-1, -1, 1:].tolist())


@pytest.mark.parametrize(
    ('size', 'expected'), [((240, 320), (120, 160)), ((320, 240), (160, 120)), ((101, 101), (120, 120))]
)
def test_resize_sets_short_side_keeps_aspect_ratio(size, expected):
    assert apply(Resize(120), np.zeros((2, *size, 3), np.uint8)).shape == (2, *expected, 3)


def test_resize_returns_frames_of_same_size_unchanged():
    frames = numbered_frames(2, 120, 160)
    assert apply(Resize(120), frames) is frames


def test_resized_frames_equal_opencv():
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
    resized = resize_frames(frames[:, 2:18, 5:25], 24, 12)
    for frame, result in zip(frames, resized, strict=True):
        assert (result == cv2.resize(frame[2:18, 5:25].copy(), (12, 24))).all()


@pytest.mark.parametrize('size', [(50, 70), (70, 50)])
@pytest.mark.parametrize('crop', [RandomResizedCrop, MultiScaleCrop])
def test_random_crops_use_one_box_per_video(crop, size):
    frames = numbered_frames(4, *size)
    for seed in range(50):
        cut = apply(crop((24, 16)), frames, seed)
        assert cut.shape == (4, 24, 16, 3)
        assert cut.dtype == np.uint8
        assert (cut[:, :, :, 1:] == cut[:1, :, :, 1:]).all()
        assert cut[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize('crop', [RandomResizedCrop, MultiScaleCrop])
def test_random_crops_depend_on_the_generator(crop):
    frames = numbered_frames(1, 50, 70)
    cuts = {apply(crop(16), frames, seed).tobytes() for seed in range(20)}
    assert len(cuts) > 10
    assert (apply(crop(16), frames, 3) == apply(crop(16), frames, 3)).all()


def test_random_resized_crop_respects_its_ranges():
    frames = numbered_frames(1, 100, 160)
    # A square of a quarter of the area is always 63 x 63 pixels, and is not resized.
    crop = RandomResizedCrop(63, area_range=(0.25, 0.25), aspect_ratio_range=(1, 1))
    for seed in range(20):
        (top, left), (bottom, right) = corners(apply(crop, frames, seed)[0])
        assert (bottom - top, right - left) == (62, 62)


def test_multi_scale_crop_respects_scales_and_distortion():
    frames = numbered_frames(1, 100, 160)
    for seed in range(20):
        (top, left), (bottom, right) = corners(apply(MultiScaleCrop(50, (0.5,), 0), frames, seed)[0])
        assert (bottom - top, right - left) == (49, 49)
        assert (top, left) in {(25 * i // 2, 55 * j // 2) for i in range(5) for j in range(5)}


def test_random_crops_never_resize_the_whole_frame(monkeypatch):
    sizes = []
    real = cv2.resize

    def watch(frame, *args, **kwargs):
        sizes.append(frame.shape[:2])
        return real(frame, *args, **kwargs)

    monkeypatch.setattr(cv2, 'resize', watch)
    apply(RandomResizedCrop(16, area_range=(0.1, 0.2)), numbered_frames(3, 50, 70))
    assert len(sizes) == 3
    assert all(height * width < 0.25 * 50 * 70 for height, width in sizes)


def test_center_crop_by_hand():
    cut = apply(CenterCrop((4, 6)), numbered_frames(2, 10, 20))
    assert cut.shape == (2, 4, 6, 3)
    assert corners(cut[1]) == ((3, 7), (6, 12))


def test_three_crop_is_crop_major_along_longer_side():
    wide = apply(ThreeCrop(10), numbered_frames(2, 10, 20))
    assert wide[:, 0, 0, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert [corners(frame)[0] for frame in wide] == [(0, 0), (0, 0), (0, 5), (0, 5), (0, 10), (0, 10)]
    high = apply(ThreeCrop(10), numbered_frames(2, 20, 10))
    assert [corners(frame)[0] for frame in high[::2]] == [(0, 0), (5, 0), (10, 0)]


def test_ten_crop_is_five_crops_and_their_flips():
    cut = apply(TenCrop((4, 6)), numbered_frames(2, 10, 20))
    assert cut.shape == (20, 4, 6, 3)
    assert cut[:, 0, 0, 0].tolist() == [0, 1] * 10
    assert [corners(frame)[0] for frame in cut[:10:2]] == [(0, 0), (0, 14), (6, 0), (6, 14), (3, 7)]
    assert (cut[10:] == cut[:10, :, ::-1]).all()


def test_flip_applies_to_all_frames_or_none():
    frames = numbered_frames(3, 4, 5)
    assert (apply(Flip(prob=1), frames) == frames[:, :, ::-1]).all()
    assert apply(Flip(prob=0), frames) is frames
    part = np.random.default_rng(0).integers(0, 256, (3, 9, 11, 3), np.uint8)[:, 2:8, 3:10]  # not contiguous
    mirrored = apply(Flip(prob=1), part)
    assert (mirrored == part[:, :, ::-1]).all()
    assert mirrored.flags.c_contiguous
    flipped = sum(apply(Flip(), frames, seed)[0, 0, 0, 2] == 4 for seed in range(1000))
    assert 430 < flipped < 570


SWAPS = ((2, 3), (5, 0))


@pytest.mark.parametrize(('label', 'mirrored'), [(0, 5), (1, 1), (2, 3), (3, 2), (4, 4), (5, 0)])
def test_flip_swaps_labels_only_if_it_flips(label, mirrored):
    for prob, expected in ((1, mirrored), (0, label)):
        record = {'frames': numbered_frames(2, 4, 5), 'rng': np.random.default_rng(0), 'label': label}
        assert Flip(prob, SWAPS)(record)['label'] == expected
    for seed in range(20):
        record = {'frames': numbered_frames(1, 4, 5), 'rng': np.random.default_rng(seed), 'label': label}
        result = Flip(swap_labels=SWAPS)(record)
        assert result['label'] == (mirrored if result['frames'][0, 0, 0, 2] == 4 else label)


def test_flip_swaps_multi_hot_labels():
    label = np.array([1, 1, 0, 1, 0, 0], np.float32)
    record = {'frames': numbered_frames(2, 4, 5), 'rng': np.random.default_rng(0), 'label': label}
    result = Flip(1, SWAPS)(record)['label']
    assert result.tolist() == [0, 1, 1, 0, 0, 1]
    assert result.dtype == np.float32
    assert label.tolist() == [1, 1, 0, 1, 0, 0], "the dataset's own array must stay as it is"


def test_flip_requires_label_only_with_swap_labels():
    assert (Flip().requires, Flip().provides, Flip().classes) == (('frames', 'rng'), ('frames',), ())
    flip = Flip(swap_labels=SWAPS)
    assert 'label' in flip.requires
    assert 'label' in flip.provides
    assert sorted(flip.classes) == [0, 2, 3, 5]


def test_swap_labels_does_not_change_random_numbers():
    for seed in range(20):
        record = {'frames': numbered_frames(1, 4, 5), 'rng': np.random.default_rng(seed), 'label': 2}
        plain = apply(Flip(), numbered_frames(1, 4, 5), seed)
        assert (Flip(swap_labels=SWAPS)(record)['frames'] == plain).all()


@pytest.mark.parametrize('crop', [CenterCrop, ThreeCrop, TenCrop])
def test_crop_larger_than_frames_is_refused(crop):
    with pytest.raises(ValueError, match='12x8.*10x20.*Resize.*short_side'):
        apply(crop((12, 8)), numbered_frames(1, 10, 20))
    with pytest.raises(ValueError, match='8x24.*10x20'):
        apply(crop((8, 24)), numbered_frames(1, 10, 20))


@pytest.mark.parametrize('crop', [CenterCrop, ThreeCrop, TenCrop, RandomResizedCrop, MultiScaleCrop])
def test_sizes_are_checked(crop):
    with pytest.raises(ValueError, match=r'size .*\b1\b.*\b0$'):
        crop(0)
    with pytest.raises(ValueError, match=r'size .*\b1\b.*2\.5'):
        crop(2.5)
    with pytest.raises(ValueError, match=r'size .*\(height, width\).*\(1, 2, 3\)'):
        crop((1, 2, 3))


@pytest.mark.parametrize(
    ('make', 'tokens'),
    [
        (lambda: Resize(0), r'short_side .*\b1\b.*\b0\b'),
        (lambda: Flip(1.5), r'prob .*\b0\b.*\b1\b.*1\.5'),
        (lambda: Flip(swap_labels=(86, 87)), r'swap_labels .* 86$'),
        (lambda: Flip(swap_labels=((1, 2, 3),)), r'swap_labels .*\(1, 2, 3\)'),
        (lambda: Flip(swap_labels=((1, 1),)), r'swap_labels .*\(1, 1\)'),
        (lambda: Flip(swap_labels=((0, -1),)), r'swap_labels .*\(0, -1\)'),
        (lambda: Flip(swap_labels=((0, 1.0),)), r'swap_labels .*\(0, 1\.0\)'),
        (lambda: Flip(swap_labels=((0, 1), (2, 1))), r'class 1 .*swap_labels=\(\(0, 1\), \(2, 1\)\)'),
        (lambda: RandomResizedCrop(8, area_range=(0.5, 2)), r'area_range .*<= 1\b.*\(0\.5, 2\)'),
        (lambda: RandomResizedCrop(8, area_range=(0, 1)), r'area_range .*\(0, 1\)'),
        (lambda: RandomResizedCrop(8, aspect_ratio_range=(2, 1)), r'aspect_ratio_range .*\(2, 1\)'),
        (lambda: MultiScaleCrop(8, scales=()), r'scales .*\b1\b.*\(\)'),
        (lambda: MultiScaleCrop(8, scales=(1.2,)), r'scales .*\(1\.2,\)'),
        (lambda: MultiScaleCrop(8, max_distort=-1), r'max_distort .*\b0\b.*-1\b'),
    ],
)
def test_options_are_checked(make, tokens):
    with pytest.raises(ValueError, match=tokens):
        make()

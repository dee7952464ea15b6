import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from dsanet.data_tools.visualization import (
    SHEET_LEGEND,
    SNIPPET_COLORS,
    NetworkInput,
    Sheet,
    draw_clip,
    draw_sheet,
    fit_into,
    height_of,
    save_clip,
    save_png,
    shorten,
    shorten_to_width,
    text_width,
    wrap_to_width,
)

RED, GREEN = (np.array(color, np.uint8) for color in ((255, 0, 0), (0, 255, 0)))


def block(height: int, width: int, color: np.ndarray) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def dark(image: np.ndarray) -> int:
    return int((image.min(axis=2) < 128).sum())


def test_sheet_shows_frames_unchanged() -> None:
    sheet = Sheet(200, 100)
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    sheet.paste(noise, 20, 30)
    drawn = sheet.draw()
    assert drawn.shape == (100, 200, 3)
    assert (drawn[30:70, 20:70] == noise).all()
    drawn[30:70, 20:70] = 255
    assert (drawn == 255).all()


@pytest.mark.parametrize('text', ['wave', '$wave$ 50 %', 'winken ä 跳', 'wei\udcdf.mp4'])
def test_caption_is_drawn_at_its_position(text: str) -> None:
    sheet = Sheet(300, 120)
    sheet.write(text, 100, 50, size=20, color='red', weight='bold')
    rows, columns = np.nonzero((sheet.draw() < 128).any(axis=2))
    assert 45 <= rows.min() <= rows.max() <= 80
    assert 98 <= columns.min() <= columns.max() <= 290


def test_png_is_written_atomically(tmp_path: Path) -> None:
    picture = np.dstack([np.full((8, 8), value, np.uint8) for value in (250, 100, 0)])
    save_png(picture, tmp_path / 'x.png')
    assert cv2.imread(str(tmp_path / 'x.png'))[0, 0].tolist() == [0, 100, 250]  # BGR
    assert [file.name for file in tmp_path.iterdir()] == ['x.png']
    with pytest.raises(FileNotFoundError, match='nowhere/x.png'):
        save_png(picture, tmp_path / 'nowhere' / 'x.png')
    with pytest.raises(OSError, match=r'x.png.*\b1 x 1000001\b'):
        save_png(block(1_000_001, 1, RED), tmp_path / 'x.png')
    assert cv2.imread(str(tmp_path / 'x.png')).shape == (8, 8, 3)


def test_images_keep_their_aspect_ratio() -> None:
    fitted = fit_into(block(50, 100, RED), 40, 40)
    assert fitted.shape == (40, 40, 3)
    assert (fitted == RED).all(axis=2).sum() == 40 * 20
    assert (fitted[10:30] == RED).all()
    assert fit_into(block(1, 900, RED), 30, 20).shape == (20, 30, 3)
    assert (fit_into(block(10, 10, RED), 30, 20) == RED).all(axis=2).sum() == 20 * 20


def test_shortened_text_keeps_both_ends() -> None:
    assert shorten('walk', 4) == 'walk'
    assert shorten('pushing something from left to right', 13) == 'pushin…\u0020right'
    assert len(shorten('x' * 100, 20)) == 20


@pytest.mark.parametrize('weight', ['normal', 'bold'])
def test_measured_width_is_that_of_the_drawing(weight: str) -> None:
    sheet = Sheet(500, 60)
    sheet.write('Pushing $5 from left', 10, 10, size=18, weight=weight)
    columns = np.nonzero((sheet.draw() < 128).any(axis=(0, 2)))[0]
    assert columns.max() - columns.min() == pytest.approx(text_width('Pushing $5 from left', 18, weight), abs=4)


def test_long_text_ends_before_its_width() -> None:
    text = 'WWWW ' * 40 + 'end'
    short = shorten_to_width(text, 150, 14, 'bold')
    assert text_width(short, 14, 'bold') <= 150 < text_width(shorten(text, len(short) + 1), 14, 'bold')
    assert short.endswith('end')
    sheet = Sheet(300, 40)
    sheet.write(text, 20, 10, size=14, weight='bold', width=150)
    assert np.nonzero((sheet.draw() < 250).any(axis=(0, 2)))[0].max() <= 20 + 150
    assert shorten_to_width('wave', 0, 14) == 'w…e'  # never empty
    assert shorten_to_width('W', 0, 14) == 'W'


def test_wrapped_lines_keep_all_words() -> None:
    text = 'The bars show where in the video the frames are'
    lines = wrap_to_width(text, 120, 12)
    assert ' '.join(lines) == text
    assert len(lines) > 2
    assert all(text_width(line, 12) <= 120 for line in lines)
    assert wrap_to_width('Donaudampfschiff', 10, 12) == ['Donaudampfschiff']


def test_headings_fit_a_narrow_sheet() -> None:
    sample = make_sample(1, 1)
    long = dataclasses.replace(sample, headings=['W' * 300, '/data/' + 'M' * 300])
    for picture in (draw_sheet([long], 'W' * 300, 16), draw_clip(long, 16)[0]):
        right = picture[:, -11:]
        assert (right == 255).all(), 'the margin is free of text'


def make_sample(groups: int, crops: int, snippets: int = 2, frames: int = 3) -> NetworkInput:
    """A sample that is red before augmentation; after it each frame has its own gray level."""
    shape = (groups, snippets, frames)
    inputs = np.zeros((crops * groups, snippets, frames, 8, 8, 3), np.uint8)
    for place in np.ndindex(inputs.shape[:3]):
        inputs[place] = gray(crops * groups, *place)
    whole = np.broadcast_to(RED, (groups, snippets, 6, 6, 3)).copy()
    indices = np.sort(np.random.default_rng(0).choice(50, np.prod(shape), replace=False)).reshape(shape)  # (G, U, T)
    return NetworkInput(inputs, whole, indices, 50, ['a label', 'more'])


def gray(views: int, view: int, snippet: int, frame: int) -> int:
    return 40 + view * 150 // views + 8 * snippet + 2 * frame


def count(picture: np.ndarray, color: object) -> int:
    return int((picture == np.asarray(color)).all(axis=2).sum())


@pytest.mark.parametrize(('groups', 'crops'), [(1, 1), (2, 3)])
def test_sheet_has_every_frame_of_every_view(groups: int, crops: int) -> None:
    sample = make_sample(groups, crops)
    picture = draw_sheet([sample, make_sample(1, 1)], 'title', 64)
    assert height_of(sample, 64) == 2 * 18 + groups * 10 + 10 + groups * 2 * (64 + 14 + 4) + 14
    legend = len(wrap_to_width(SHEET_LEGEND, picture.shape[1] - 24, 12)) * 16
    assert picture.shape[0] == 24 + 32 + legend + height_of(sample, 64) + height_of(make_sample(1, 1), 64)
    # Captions and the other sample may contain the same gray.
    assert abs(count(picture, RED) - (groups * 2 + 2) * 64 * 64) < 50
    shown = [
        count(picture, [gray(groups * crops, *place)] * 3) for place in [*np.ndindex(sample.inputs.shape[:3])][::5]
    ]
    assert min(shown) >= 64 * 64


def test_bar_shows_the_positions_of_frames() -> None:
    sample = make_sample(2, 1)
    picture = draw_sheet([sample], 'title', 64)
    length = picture.shape[1] - 24
    legend = len(wrap_to_width(SHEET_LEGEND, length, 12)) * 16
    for group, indices in enumerate(sample.frame_indices):
        for snippet, frames in enumerate(indices):
            bar = picture[12 + 32 + legend + 2 * 18 + group * 10 + snippet * 4 + 1]
            for index in frames:
                middle = 12 + int((index + 0.5) * length / 50)
                assert bar[middle].tolist() == list(SNIPPET_COLORS[snippet])
            lit = (bar[12:-12] != 225).any(axis=1).mean()
            assert lit == pytest.approx(3 / 50, abs=0.01)


def test_clip_has_one_picture_per_snippet_frame(tmp_path: Path) -> None:
    sample = make_sample(2, 2)
    pictures = draw_clip(sample, 64)
    assert len(pictures) == 3
    assert all(side % 2 == 0 for picture in pictures for side in picture.shape[:2])
    for number, picture in enumerate(pictures):
        for view in range(4):
            for snippet in range(2):
                assert count(picture, [gray(4, view, snippet, number)] * 3) >= 64 * 64
    save_clip(pictures, tmp_path / 'x.mp4', 5, 3)
    capture = cv2.VideoCapture(str(tmp_path / 'x.mp4'))
    assert (capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)) == (5, 9)
    capture.release()
    assert [file.name for file in tmp_path.iterdir()] == ['x.mp4']


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='no /dev/full')
def test_failed_clip_keeps_the_old_file(tmp_path: Path) -> None:
    picture = block(64, 64, RED)
    save_clip([picture] * 2, tmp_path / 'x.mp4', 5, 1)
    old = (tmp_path / 'x.mp4').read_bytes()
    with pytest.raises(ValueError, match='shape'):
        save_clip([picture, picture[..., :1]], tmp_path / 'x.mp4', 5, 1)
    (tmp_path / 'x.mp4.part').symlink_to('/dev/full')
    with pytest.raises(OSError, match='No space left on device'):
        save_clip([picture] * 2, tmp_path / 'x.mp4', 5, 1)
    assert [file.name for file in tmp_path.iterdir()] == ['x.mp4']
    assert (tmp_path / 'x.mp4').read_bytes() == old

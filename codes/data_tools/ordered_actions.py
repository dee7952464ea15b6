"""Make a small video dataset whose classes combine a direction of motion and the order of two events.

A disc and a cross move over a textured background, one after the other. The eight classes are four directions times two
orders, 'disc then cross' and 'cross then disc'. The motion is short-range: a few consecutive frames show it. The order
is long-range: no snippet contains both events. A recognizer that averages the scores of its snippets therefore reaches
50% top-1 accuracy (right direction, guessed order); one that relates snippets, like DSA, can reach 100%.

    dsanet make-demo-videos data/ordered_actions --num-videos 640 --seed 0

writes ``videos/*.mp4``, ``train.txt`` and ``val.txt`` (lines ``videos/00000.mp4 5``, relative to OUT), ``classes.txt``
and ``arguments.json``.

Why an average of snippet scores cannot see the order
-----------------------------------------------------
Time in frames::

    0       6               28      34              56     63
    | blank |    event 1    | blank |    event 2    | blank |

1. *A snippet contains at most one event.* There are 6 frames of background between the events. Four frames at interval
   1 or 2 span 4 or 7 frames, too few to contain a frame of both events.
2. *The second half has the same distribution as the first, 28 frames later.* Position, speed, size and color are drawn
   for each event from the same distributions, regardless of its shape; direction, background and noise do not depend on
   the order. There is background before and after both events. A shape has constant speed from its first to its last
   frame and leaves no trace. The picture wraps around: a shape is always complete, and its position does not depend on
   the time.
3. *The sampler treats both halves alike.* At interval 2 there are 63 - 4 * 2 + 1 = 56 starts, 14 in each of the four
   segments, and the last two segments are exactly 28 frames after the first two, like the events. At interval 1 (60
   starts, segments of 15) this holds approximately: each view of an event has the same probability in both halves, only
   the combinations of two views differ slightly. The best score of a single snippet predicts the order of 50.4% of the
   videos instead of 50%. In evaluation, all four snippets are inside the events at both intervals.
4. *The codec does not depend on time.* Each frame is encoded independently with a fixed quantizer: H.264 with key
   frames only. Frames encoded in another order decode to the same pictures in that order.

From 2 to 4 it follows that the two snippets of the disc have the same distribution whether the disc comes first or
second, and so have those of the cross; given direction and background, the two events are independent. The *set* of
snippets of a video therefore has the same distribution for both orders, so that an average, sum or maximum over
snippets cannot predict the order.

Train without flips: a mirrored 'moving left' is 'moving right'.
"""

import json
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
from tqdm import tqdm

from dsanet.utils.files import write_atomically
from dsanet.utils.json_lines import read_json

SHAPES = ('disc', 'cross')
DIRECTIONS = {'right': (0, 1), 'left': (0, -1), 'down': (1, 0), 'up': (-1, 0)}  # (dy, dx)
CLASSES = tuple(
    f'moving {direction}: {first} then {second}' for direction in DIRECTIONS for first, second in (SHAPES, SHAPES[::-1])
)

BLANK_FRAMES = 6  # before each event; one less than the span of a snippet with 4 frames at interval 2
EVENT_FRAMES = 22
TAIL_FRAMES = 7  # after the events; no snippet starts here
EVENT_STARTS = (BLANK_FRAMES, 2 * BLANK_FRAMES + EVENT_FRAMES)
NUM_FRAMES = 2 * (BLANK_FRAMES + EVENT_FRAMES) + TAIL_FRAMES
FPS = 25

MIN_SIZE = 32  # pixels; in smaller frames, cross and disc look alike
RADIUS_RANGE = (0.16, 0.2)  # fraction of the frame size
CROSS_ARM = 0.22  # half the width of the bars of a cross, as a fraction of its radius
SPEED_RANGE = (0.04, 0.07)  # fraction of the frame size per frame
BACKGROUND_RANGE = (30, 90)  # of each color channel; with texture still darker than shapes
SHAPE_RANGE = (150, 255)
TEXTURE_CELLS = 6  # random cells along each side of the background
TEXTURE_AMPLITUDE = 25  # gray levels
NOISE_AMPLITUDE = 6  # gray levels, independent in every pixel of every frame

DRAWING_VERSION = 1  # increase when the same arguments produce different videos
ARGUMENTS_FILE = 'arguments.json'
LIST_FILES = ('train.txt', 'val.txt', 'classes.txt')


def draw_video(label: int, rng: np.random.Generator, size: int = 40) -> np.ndarray:
    """Draw one video of a class.

    Labels that differ only in the order (``2*i`` and ``2*i + 1``) draw the same random numbers: with equal generators,
    the videos only differ in which shape moves first.

    Args:
        label: index into ``CLASSES``.
        rng: random generator for everything that the class does not determine.
        size: height and width in pixels.

    Returns:
        RGB frames, uint8 (NUM_FRAMES, size, size, 3).
    """
    if label not in range(len(CLASSES)):
        raise ValueError(f'label must be from 0 to {len(CLASSES) - 1}, got {label}')
    direction_index, swapped = divmod(label, 2)
    direction = list(DIRECTIONS.values())[direction_index]
    shapes = SHAPES[::-1] if swapped else SHAPES

    background = draw_background(size, rng)
    frames = np.stack([background] * NUM_FRAMES)
    for start, shape in zip(EVENT_STARTS, shapes, strict=True):
        _draw_event(frames[start : start + EVENT_FRAMES], shape, direction, rng)
    noise = rng.integers(-NOISE_AMPLITUDE, NOISE_AMPLITUDE, size=(*frames.shape[:3], 1), endpoint=True)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def draw_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random texture around a random dark color, float32 (size, size, 3)."""
    color = rng.uniform(*BACKGROUND_RANGE, size=3)
    cells = rng.uniform(-TEXTURE_AMPLITUDE, TEXTURE_AMPLITUDE, size=(TEXTURE_CELLS, TEXTURE_CELLS, 3))
    texture = cv2.resize(cells, (size, size), interpolation=cv2.INTER_LINEAR)
    return (color + texture).astype(np.float32)


def _draw_event(frames: np.ndarray, shape: str, direction: tuple[int, int], rng: np.random.Generator) -> None:
    """Draw a moving shape of random size, color, position and speed on ``frames`` (F, H, W, 3), in place."""
    num_frames, size = frames.shape[:2]
    radius = size * rng.uniform(*RADIUS_RANGE)
    velocity = size * rng.uniform(*SPEED_RANGE) * np.array(direction)
    start = rng.uniform(0, size, size=2)
    color = rng.uniform(*SHAPE_RANGE, size=3)

    centers = start + velocity * np.arange(num_frames)[:, None]  # (F, 2)
    offsets = np.arange(size) - centers[..., None]  # (F, 2, size)
    offsets = (offsets + size / 2) % size - size / 2  # the shorter distance, with wrap-around
    dy, dx = offsets[:, 0, :, None], offsets[:, 1, None, :]  # (F, H, 1), (F, 1, W)
    coverage = np.clip(0.5 - _distance_to_edge(shape, dy, dx, radius), 0, 1)[..., None]  # (F, H, W, 1)
    frames += coverage * (color - frames)


def _distance_to_edge(shape: str, dy: np.ndarray, dx: np.ndarray, radius: float) -> np.ndarray:
    """Return the distance in pixels to the edge of a shape, negative inside, at offsets (dy, dx) from its center."""
    if shape == 'disc':
        return np.hypot(dy, dx) - radius
    dy, dx = np.abs(dy), np.abs(dx)
    vertical_bar = np.maximum(dy - radius, dx - CROSS_ARM * radius)
    horizontal_bar = np.maximum(dy - CROSS_ARM * radius, dx - radius)
    return np.minimum(vertical_bar, horizontal_bar)


def write_video(path: Path, frames: np.ndarray) -> None:
    """Write RGB frames, uint8 (F, H, W, 3) with even H and W, as an MP4 file.

    Each frame is a key frame with a fixed quantizer, so that it decodes independently of the others. With one thread
    and without rate control, equal frames give equal bytes.
    """
    options = {'preset': 'veryfast', 'g': '1', 'qp': '18'}
    with av.open(str(path), mode='w') as container:
        stream = container.add_stream('libx264', rate=FPS, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode())


def split_labels(num_videos: int, val_fraction: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the shuffled labels of training and validation videos.

    In each split and in both together, class counts differ by at most one.
    """
    labels = np.arange(num_videos) % len(CLASSES)
    num_train = num_videos - round(num_videos * val_fraction)
    return rng.permutation(labels[:num_train]), rng.permutation(labels[num_train:])


def make_dataset(
    out: Path,
    num_videos: int = 640,
    seed: int = 0,
    val_fraction: float = 0.25,
    size: int = 40,
    overwrite: bool = False,
) -> bool:
    """Write the dataset to a folder.

    A complete dataset with the same arguments is not changed; an incomplete one is written again.

    Args:
        out: output folder; created if it does not exist.
        num_videos: number of training and validation videos.
        seed: random seed; equal seeds give equal files.
        val_fraction: fraction of the videos for validation.
        size: height and width in pixels.
        overwrite: replace an existing dataset, even if its arguments are different.

    Returns:
        Whether the dataset was written.

    Raises:
        ValueError: an argument is out of range.
        FileExistsError: ``out`` has a dataset with other arguments, or other files.
    """
    _check_arguments(num_videos, seed, val_fraction, size)
    arguments = {
        'num_videos': num_videos,
        'seed': seed,
        'val_fraction': val_fraction,
        'size': size,
        'num_frames': NUM_FRAMES,
        'drawing_version': DRAWING_VERSION,
    }
    found = _read_arguments(out)
    if found is not None and not overwrite:
        _check_equal(found, arguments, out)
        if _has_all_files(out):
            return False
    _clear(out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(json.dumps(arguments, indent=2).encode() + b'\n', out / ARGUMENTS_FILE)
    (out / 'videos').mkdir()

    label_seed, *video_seeds = np.random.SeedSequence(seed).spawn(1 + num_videos)
    train_labels, val_labels = split_labels(num_videos, val_fraction, np.random.default_rng(label_seed))
    labels = np.concatenate([train_labels, val_labels])
    lines = []
    for index, label in enumerate(tqdm(labels, desc='videos', unit='video', disable=None)):
        name = f'videos/{index:05d}.mp4'
        write_video(out / name, draw_video(int(label), np.random.default_rng(video_seeds[index]), size))
        lines.append(f'{name} {label}')

    # The lists are written last: if they exist, all videos do.
    num_train = len(train_labels)
    contents = (lines[:num_train], lines[num_train:], CLASSES)
    for list_name, list_lines in zip(LIST_FILES, contents, strict=True):
        write_atomically('\n'.join([*list_lines, '']).encode(), out / list_name)
    return True


def _check_arguments(num_videos: int, seed: int, val_fraction: float, size: int) -> None:
    if seed < 0:
        raise ValueError(f'seed must be at least 0, got {seed}')
    if size < MIN_SIZE or size % 2:
        raise ValueError(f'size must be even and at least {MIN_SIZE} pixels, got {size}')
    if not 0 < val_fraction < 1:
        raise ValueError(f'val_fraction={val_fraction} must be > 0 and < 1')
    num_val = round(num_videos * val_fraction)
    num_train = num_videos - num_val
    if min(num_train, num_val) < len(CLASSES):
        raise ValueError(
            f'num_videos={num_videos} with val_fraction={val_fraction} gives {num_train} training and {num_val} '
            f'validation videos; both must be at least {len(CLASSES)}, one per class'
        )


def _read_arguments(out: Path) -> dict | None:
    """Return the arguments of the dataset in ``out``; None if it is empty, an error if it has other files."""
    if out.exists() and not out.is_dir():
        raise FileExistsError(f'{out} is a file, not a folder')
    if not out.exists() or not any(out.iterdir()):
        return None
    if not (out / ARGUMENTS_FILE).exists():
        raise FileExistsError(f'{out} has files that this command did not write; choose another folder')
    return read_json(out / ARGUMENTS_FILE)


def _check_equal(found: dict, arguments: dict, out: Path) -> None:
    differences = [
        f'{name} {found.get(name)} instead of {value}' for name, value in arguments.items() if found.get(name) != value
    ]
    if differences:
        raise FileExistsError(
            f'{out} contains a dataset made with different arguments ({", ".join(differences)}); choose another folder '
            'or use --overwrite'
        )


def _has_all_files(out: Path) -> bool:
    if not all((out / name).exists() for name in LIST_FILES):
        return False
    lines = [line for name in LIST_FILES[:2] for line in (out / name).read_text().splitlines()]
    return all((out / line.split()[0]).exists() for line in lines)


def _clear(out: Path) -> None:
    """Remove only the files of this tool; the lists first, because they mark a complete dataset."""
    for name in LIST_FILES:
        (out / name).unlink(missing_ok=True)
    if (out / 'videos').exists():
        shutil.rmtree(out / 'videos')

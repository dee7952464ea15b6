"""Make a small video dataset in which the label is a motion and the order of two events.

A disc and a cross, one after the other, move over a textured background. Eight classes: four directions of
motion times two orders, 'disc then cross' or 'cross then disc'. The motion is short-range: a few
neighboring frames show it. The order is long-range: no snippet holds both events. A recognizer that
averages the scores of its snippets must therefore end at 50 % top-1 (right motion, guessed order), while
one that relates snippets to each other, like DSA, can reach 100 %.

    dsanet make-demo-videos data/ordered_actions --num-videos 640 --seed 0

writes ``videos/*.mp4``, ``train.txt`` and ``val.txt`` (lines ``videos/00000.mp4 5``, relative to OUT),
``classes.txt`` and ``arguments.json``.

Why an average of snippet scores cannot see the order
-----------------------------------------------------
Time, in frames::

    0       6               28      34              56     63
    | blank |    event 1    | blank |    event 2    | blank |

1. *A snippet sees one event at most.* Between the events lie 6 frames of background. Four frames at interval
   1 or 2 reach over 4 or 7 frames, too few to hold a frame of both.
2. *The second half is the first, 28 frames later.* Place, speed, size and color are drawn for each event
   anew, from the same distributions, by the same code, whatever its shape; direction, background and noise
   do not know the order. Background surrounds both events, so both appear and vanish alike. A shape moves at
   one speed from its first frame to its last and leaves no trace. The picture wraps around like an old
   arcade screen: a shape is always whole, and its place says nothing about the time.
3. *The sampler treats the halves alike.* At interval 2 there are 63 - 4 * 2 + 1 = 56 starts, 14 in each of the
   four segments, and the last two segments lie exactly 28 frames behind the first two, as event 2 lies behind
   event 1. At interval 1 (60 starts, segments of 15) this holds but nearly: each view of an event is as
   probable in one half as in the other, only which two views come together differs a little. The best score
   that a snippet can draw from it tells the order in 50.4 % of the videos instead of 50 %. In evaluation
   all four snippets lie inside of the events, at either interval.
4. *The codec does not know the time.* Every frame is coded for itself at a fixed quantiser: H.264 with key
   frames only. Encoding the frames in another order gives the same pictures in that order.

From 2 to 4 follows that the two snippets of the disc have one distribution, whether the disc comes first or
second, and so have those of the cross; given direction and background the two events are independent. The
*set* of the snippets of a video then is distributed alike for both orders, and whatever forgets the order of
the snippets, such as an average, a sum or a maximum, must guess. Only their order tells.

Train without flips: a mirrored 'moving left' is a 'moving right'.
"""

import json
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
from tqdm import tqdm

SHAPES = ('disc', 'cross')
DIRECTIONS = {'right': (0, 1), 'left': (0, -1), 'down': (1, 0), 'up': (-1, 0)}  # (dy, dx)
CLASSES = tuple(
    f'moving {direction}: {first} then {second}' for direction in DIRECTIONS for first, second in (SHAPES, SHAPES[::-1])
)

BLANK_FRAMES = 6  # before either event; one less than a snippet of 4 frames at interval 2 reaches over
EVENT_FRAMES = 22
TAIL_FRAMES = 7  # behind the events; the sampler starts no snippet here
EVENT_STARTS = (BLANK_FRAMES, 2 * BLANK_FRAMES + EVENT_FRAMES)
NUM_FRAMES = 2 * (BLANK_FRAMES + EVENT_FRAMES) + TAIL_FRAMES
FPS = 25

MIN_SIZE = 32  # pixels; below, a cross is hard to tell from a disc
RADIUS_RANGE = (0.16, 0.2)  # of the frame's side
CROSS_ARM = 0.22  # half the width of a cross's bars, of its radius
SPEED_RANGE = (0.04, 0.07)  # of the frame's side, per frame
BACKGROUND_RANGE = (30, 90)  # of each color channel; shapes are brighter, whatever the texture adds
SHAPE_RANGE = (150, 255)
TEXTURE_CELLS = 6  # random patches along each side of the background
TEXTURE_AMPLITUDE = 25  # gray levels
NOISE_AMPLITUDE = 6  # gray levels, anew in every pixel of every frame

DRAWING_VERSION = 1  # to be raised when the same arguments begin to give other videos
ARGUMENTS_FILE = 'arguments.json'
LIST_FILES = ('train.txt', 'val.txt', 'classes.txt')


def draw_video(label: int, rng: np.random.Generator, size: int = 40) -> np.ndarray:
    """Draw one video of a class.

    Two labels that differ only in the order (``2*i`` and ``2*i + 1``) consume the generator alike: from equal
    generators come videos that differ in nothing but which shape moves first.

    Args:
        label: Index into ``CLASSES``.
        rng: Source of everything that the class does not decide.
        size: Height and width in pixels.

    Returns:
        RGB frames, uint8 (NUM_FRAMES, size, size, 3).
    """
    if label not in range(len(CLASSES)):
        raise ValueError(f'label is {label}, must be from 0 to {len(CLASSES) - 1}')
    direction_index, swapped = divmod(label, 2)
    direction = list(DIRECTIONS.values())[direction_index]
    shapes = SHAPES[::-1] if swapped else SHAPES

    background = _draw_background(size, rng)
    frames = np.stack([background] * NUM_FRAMES)
    for start, shape in zip(EVENT_STARTS, shapes, strict=True):
        _draw_event(frames[start : start + EVENT_FRAMES], shape, direction, rng)
    noise = rng.integers(-NOISE_AMPLITUDE, NOISE_AMPLITUDE, size=(*frames.shape[:3], 1), endpoint=True)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def _draw_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth random texture around a random dark color, float32 (size, size, 3)."""
    color = rng.uniform(*BACKGROUND_RANGE, size=3)
    cells = rng.uniform(-TEXTURE_AMPLITUDE, TEXTURE_AMPLITUDE, size=(TEXTURE_CELLS, TEXTURE_CELLS, 3))
    texture = cv2.resize(cells, (size, size), interpolation=cv2.INTER_LINEAR)
    return (color + texture).astype(np.float32)


def _draw_event(frames: np.ndarray, shape: str, direction: tuple[int, int], rng: np.random.Generator) -> None:
    """Let a shape of random size, color, place and speed move over ``frames``, (F, H, W, 3), in place."""
    num_frames, size = frames.shape[:2]
    radius = size * rng.uniform(*RADIUS_RANGE)
    velocity = size * rng.uniform(*SPEED_RANGE) * np.array(direction)
    start = rng.uniform(0, size, size=2)
    color = rng.uniform(*SHAPE_RANGE, size=3)

    centers = start + velocity * np.arange(num_frames)[:, None]  # (F, 2)
    offsets = np.arange(size) - centers[..., None]  # (F, 2, size)
    offsets = (offsets + size / 2) % size - size / 2  # the shorter way around
    dy, dx = offsets[:, 0, :, None], offsets[:, 1, None, :]  # (F, H, 1), (F, 1, W)
    coverage = np.clip(0.5 - _distance_to_edge(shape, dy, dx, radius), 0, 1)[..., None]  # (F, H, W, 1)
    frames += coverage * (color - frames)


def _distance_to_edge(shape: str, dy: np.ndarray, dx: np.ndarray, radius: float) -> np.ndarray:
    """Distance in pixels from a shape's edge, negative inside, at offsets (dy, dx) from its center."""
    if shape == 'disc':
        return np.hypot(dy, dx) - radius
    dy, dx = np.abs(dy), np.abs(dx)
    upright_bar = np.maximum(dy - radius, dx - CROSS_ARM * radius)
    flat_bar = np.maximum(dy - CROSS_ARM * radius, dx - radius)
    return np.minimum(upright_bar, flat_bar)


def write_video(path: Path, frames: np.ndarray, fps: int = FPS) -> None:
    """Write RGB frames, uint8 (F, H, W, 3) with even H and W, as an MP4 file.

    Key frames only, at a fixed quantiser: what a frame decodes to depends on that frame alone. One thread and
    no rate control: equal frames give equal bytes.
    """
    options = {'preset': 'veryfast', 'g': '1', 'qp': '18'}
    with av.open(str(path), mode='w') as container:
        stream = container.add_stream('libx264', rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode())


def split_labels(num_videos: int, val_fraction: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the training and of the validation videos, shuffled.

    In either part, and in both together, any two classes differ by one video at most.
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

    A dataset that is there already, complete and made with the same arguments, is left as it is; one that
    was interrupted is made again from its beginning.

    Args:
        out: Folder, made if missing.
        num_videos: Videos in training and validation together.
        seed: Equal seeds give equal files.
        val_fraction: Share of the videos that go to validation.
        size: Height and width in pixels.
        overwrite: Replace a dataset that this tool made, whatever its arguments.

    Returns:
        Whether anything was written.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``out`` holds a dataset of other arguments, or files that are not this tool's.
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
    (out / ARGUMENTS_FILE).write_text(json.dumps(arguments, indent=2) + '\n')
    (out / 'videos').mkdir()

    label_seed, *video_seeds = np.random.SeedSequence(seed).spawn(1 + num_videos)
    train_labels, val_labels = split_labels(num_videos, val_fraction, np.random.default_rng(label_seed))
    labels = np.concatenate([train_labels, val_labels])
    lines = []
    for index, label in enumerate(tqdm(labels, desc='videos', unit='video', disable=None)):
        name = f'videos/{index:05d}.mp4'
        write_video(out / name, draw_video(int(label), np.random.default_rng(video_seeds[index]), size))
        lines.append(f'{name} {label}')

    # The lists come last: where they are, all videos are.
    num_train = len(train_labels)
    contents = (lines[:num_train], lines[num_train:], CLASSES)
    for list_name, list_lines in zip(LIST_FILES, contents, strict=True):
        (out / list_name).write_text('\n'.join(list_lines) + '\n')
    return True


def _check_arguments(num_videos: int, seed: int, val_fraction: float, size: int) -> None:
    if seed < 0:
        raise ValueError(f'seed is {seed}, must be 0 or more')
    if size < MIN_SIZE or size % 2:
        raise ValueError(f'size is {size}, must be an even number of at least {MIN_SIZE} pixels')
    if not 0 < val_fraction < 1:
        raise ValueError(f'val_fraction is {val_fraction}, must lie between 0 and 1, both excluded')
    num_val = round(num_videos * val_fraction)
    num_train = num_videos - num_val
    if min(num_train, num_val) < len(CLASSES):
        raise ValueError(
            f'{num_videos} videos with val_fraction {val_fraction} give {num_train} for training and '
            f'{num_val} for validation; both need at least {len(CLASSES)}, one of each class'
        )


def _read_arguments(out: Path) -> dict | None:
    """Arguments of the dataset in ``out``; None where nothing is, an error where other files are."""
    if out.exists() and not out.is_dir():
        raise FileExistsError(f'{out} is a file, must be a folder')
    if not out.exists() or not any(out.iterdir()):
        return None
    if not (out / ARGUMENTS_FILE).exists():
        raise FileExistsError(f'{out} holds files that this tool did not write; choose another folder')
    return json.loads((out / ARGUMENTS_FILE).read_text())


def _check_equal(found: dict, arguments: dict, out: Path) -> None:
    differences = [
        f'{name} {found.get(name)} instead of {value}' for name, value in arguments.items() if found.get(name) != value
    ]
    if differences:
        raise FileExistsError(
            f'{out} holds a dataset of other arguments ({", ".join(differences)}); choose another folder or --overwrite'
        )


def _has_all_files(out: Path) -> bool:
    if not all((out / name).exists() for name in LIST_FILES):
        return False
    lines = [line for name in LIST_FILES[:2] for line in (out / name).read_text().splitlines()]
    return all((out / line.split()[0]).exists() for line in lines)


def _clear(out: Path) -> None:
    """Remove what this tool wrote, and nothing else; the lists first, as they vouch for the videos."""
    for name in LIST_FILES:
        (out / name).unlink(missing_ok=True)
    if (out / 'videos').exists():
        shutil.rmtree(out / 'videos')

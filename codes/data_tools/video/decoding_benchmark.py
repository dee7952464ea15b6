"""Benchmark loading of training samples from videos, transcoded videos and frame folders.

A sample has 4 snippets of 8 frames with interval 2 at random positions, RandomResizedCrop to 224 and random flips, as
in training. In one process, all candidates in turn read the same frames of the same video.
"""

import math
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from dsanet.config.registry import TRANSFORMS, build
from dsanet.data_tools.lists.building import write_text
from dsanet.data_tools.video.batch import FAILURES_FILE, VideoJob, run_jobs
from dsanet.data_tools.video.extract import extract_frames
from dsanet.data_tools.video.targets import atomic_target
from dsanet.data_tools.video.transcode import transcode
from dsanet.datasets import RawFramesDataset, VideoDataset
from dsanet.datasets.loader import identity_collate
from dsanet.datasets.text_lists import list_path
from dsanet.datasets.transforms.base import BadSample
from dsanet.datasets.video.readers import READERS, is_installed
from dsanet.datasets.workers import WatchedLoader, init_worker
from dsanet.utils.markdown import markdown_table

Step = dict[str, Any]
SAMPLE: Step = {
    'type': 'SampleSnippets',
    'num_snippets': 4,
    'frames_per_snippet': 8,
    'frame_interval': 2,
    'random': True,
}
AUGMENT: list[Step] = [
    {'type': 'RandomResizedCrop', 'size': 224},
    {'type': 'Flip', 'prob': 0.5},
    {'type': 'PackInputs'},
]

GENERATED_GOPS = (12, 250)
FPS = 30
NUM_MOVING = 3  # textured patches in front of the background
NOISE = 1.2  # standard deviation of the camera noise in gray levels

# Arguments of ``transcode`` by name in the table.
TRANSCODED: dict[str, dict[str, Any]] = {
    'transcoded, GOP 1 (mjpeg)': {'gop': 1, 'codec': 'mjpeg'},
    'transcoded, GOP 1 (mjpeg, qscale 5)': {'gop': 1, 'codec': 'mjpeg', 'qscale': 5},
    'transcoded, GOP 1 (h264)': {'gop': 1, 'codec': 'h264'},
    'transcoded, GOP 8 (h264)': {'gop': 8, 'codec': 'h264'},
}
FRAMES = 'frame folders (JPEG, quality 90)'


def draw_texture(rng: np.random.Generator, height: int, width: int, steepness: float = 1.35) -> np.ndarray:
    """Return a random texture with the spectrum of natural images, whose contrast decreases with frequency.

    Args:
        rng: random generator.
        height, width: size in pixels.
        steepness: exponent of the decrease; about 1 in photographs.

    Returns:
        float32 (height, width, 3), gray levels, with weak colors.
    """
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = np.inf  # no mean
    channels = []
    for _ in range(3):
        image = np.fft.ifft2(np.fft.fft2(rng.standard_normal((height, width))) / frequency**steepness).real
        channels.append(image / image.std())
    # Brightness, and two weak color differences.
    mixture = np.array([[1, 0.2, 0.1], [1, -0.05, -0.15], [1, -0.15, 0.2]])
    return np.clip(120 + 40 * np.stack(channels, axis=-1) @ mixture.T, 0, 255).astype(np.float32)


def draw_video(seed: int, num_frames: int = 300, height: int = 256, width: int = 340) -> Iterator[np.ndarray]:
    """Yield the frames of a video: the camera pans over a texture with moving patches, with some noise.

    Args:
        seed: random seed.
        num_frames: number of frames.
        height, width: size in pixels.

    Yields:
        uint8 RGB (height, width, 3).
    """
    rng = np.random.default_rng(seed)
    pan = np.array([height, width]) / 4
    background = draw_texture(rng, 2 * height, 2 * width)
    patch_height, patch_width = height * 3 // 8, width // 5
    patches = [draw_texture(rng, patch_height, patch_width, 1.1) for _ in range(NUM_MOVING)]
    phases = rng.uniform(0, 2 * np.pi, (NUM_MOVING + 1, 2))
    for position in range(num_frames):
        top, left = pan * (2 + np.sin(position / np.array([85, 60]) + phases[-1]))
        view = np.array([[1, 0, -left], [0, 1, -top]], np.float32)
        frame = cv2.warpAffine(background, view, (width, height))
        for patch, (one, other) in zip(patches, phases, strict=False):
            center = (patch_width / 2, patch_height / 2)
            sway = cv2.getRotationMatrix2D(center, 20 * np.sin(position / 9 + one), 1)
            sway[0, 2] += width * (0.5 + 0.35 * np.sin(position / 25 + one)) - center[0]
            sway[1, 2] += height * (0.5 + 0.25 * np.cos(position / 33 + other)) - center[1]
            coverage = cv2.warpAffine(np.ones(patch.shape, np.float32), sway, (width, height))
            frame = frame * (1 - coverage) + cv2.warpAffine(patch, sway, (width, height))
        noise = NOISE * rng.standard_normal((height, width, 1), np.float32)
        yield np.clip(frame + noise, 0, 255).astype(np.uint8)


def write_original(path: Path, seed: int, gop: int, num_frames: int, height: int, width: int) -> None:
    """Write a generated video, encoded like those of cameras and websites: H.264 with B-frames, at medium quality."""
    import av

    with atomic_target(path) as part, av.open(str(part), 'w', format='mp4') as container:
        options = {'g': str(gop), 'keyint_min': str(gop), 'sc_threshold': '0', 'crf': '23'}
        stream: Any = container.add_stream('libx264', rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        for frame in draw_video(seed, num_frames, height, width):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode(None))


@dataclass
class Candidate:
    """A way to store and read the videos.

    Args:
        source: storage format, such as 'original, GOP 12'.
        decoder: decoder; '-' for frame folders.
        dataset: dataset that loads the samples.
        folder: folder of the files.
        names: files or frame folders in it.
        times: seconds for each sample, (rounds * videos,).
    """

    source: str
    decoder: str
    dataset: VideoDataset | RawFramesDataset
    folder: Path
    names: Sequence[str]
    times: list[float] = field(default_factory=list)

    def disk_usage(self) -> tuple[int, int]:
        """Return total bytes and number of files."""
        files = [
            file
            for name in self.names
            for file in ([self.folder / name] if (self.folder / name).is_file() else (self.folder / name).iterdir())
        ]
        return sum(file.stat().st_size for file in files), len(files)


def prepare(originals: dict[str, Path], names: Sequence[str], work_dir: Path, num_workers: int) -> list[Candidate]:
    """Convert the videos and return all candidates; frame folders are last.

    Args:
        originals: source name to folder of originals; the videos of the first folder are converted.
        names: names of the videos in each folder.
        work_dir: folder for converted videos.
        num_workers: number of processes that convert.

    Raises:
        ValueError: a name cannot be written to a list file, or a video cannot be converted.
    """
    for name in names:
        if '\n' in name or '\r' in name:
            raise ValueError(f'a list file cannot contain the path {name!r}; rename the video')
    folder = next(iter(originals.values()))
    candidates = []
    for source, original_folder in originals.items():
        candidates += _video_candidates(source, original_folder, names)
    for number, (source, settings) in enumerate(TRANSCODED.items()):
        out = work_dir / f'converted{number}'
        targets = _convert(source, partial(transcode, **settings), folder, names, out, '.mp4', num_workers)
        candidates += _video_candidates(source, out, targets)
    out = work_dir / 'frames'
    targets = _convert(FRAMES, extract_frames, folder, names, out, '', num_workers)
    steps = [build(step, TRANSFORMS) for step in (SAMPLE, {'type': 'DecodeRawFrames'}, *AUGMENT)]
    with _list_file(f'{list_path(name)} {len(os.listdir(out / name))} 0\n' for name in targets) as list_file:
        frames = RawFramesDataset(steps, list_file, str(out))
    return [*candidates, Candidate(FRAMES, '-', frames, out, targets)]


@contextmanager
def _list_file(lines: Iterable[str]) -> Iterator[str]:
    """Write a temporary list file: the work dir may have lists of the user."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'list.txt')
        write_text(path, ''.join(lines))
        yield str(path)


def _convert(
    source: str, work: Any, folder: Path, names: Sequence[str], out: Path, suffix: str, num_workers: int
) -> list[str]:
    """Convert videos and return the paths of the results below ``out``."""
    jobs = [VideoJob(name, folder / name, (out / name).with_suffix(suffix)) for name in names]
    outcome = run_jobs(work, jobs, out / FAILURES_FILE, num_workers, description=source)
    if outcome.failures:
        raise ValueError(f'cannot convert {outcome.failures[0].path}: {outcome.failures[0].reason}')
    return [str(job.target.relative_to(out)) for job in jobs]


def _video_candidates(source: str, folder: Path, names: Sequence[str]) -> list[Candidate]:
    candidates = []
    with _list_file(f'{list_path(name)} 0\n' for name in names) as list_file:
        for decoder in filter(is_installed, READERS):
            steps = [{'type': 'OpenVideo', 'decoder': decoder}, SAMPLE, {'type': 'DecodeVideo'}, *AUGMENT]
            dataset = VideoDataset([build(step, TRANSFORMS) for step in steps], list_file, str(folder))
            candidates.append(Candidate(source, decoder, dataset, folder, names))
    return candidates


def measure(candidates: Sequence[Candidate], num_rounds: int) -> list[str]:
    """Measure all candidates in turn, video by video, after one round of warm-up.

    Returns:
        An error message for each candidate that cannot read a video; it has no times.
    """
    problems: dict[int, str] = {}
    num_videos = len(candidates[0].names)
    for turn in tqdm(range((num_rounds + 1) * num_videos), desc='measuring', unit='turn', disable=None):
        epoch, index = divmod(turn, num_videos)
        # Rotate the order, so that the influence of the previous candidate is the same for all.
        for number in np.roll(np.arange(len(candidates)), -turn).tolist():
            candidate = candidates[number]
            if number in problems:
                continue
            started = time.perf_counter()
            try:
                candidate.dataset[epoch, index]
            except Exception as error:
                # Without the line of the list, which is a temporary file.
                text = f'{error.path} {error.reason}' if isinstance(error, BadSample) else str(error)
                problems[number] = f'{candidate.source}, {candidate.decoder}: {text}'
                candidate.times.clear()
                continue
            if epoch > 0:
                candidate.times.append(time.perf_counter() - started)
    return [problems[number] for number in sorted(problems)]


class _Measurement(Dataset[tuple[list[str], list[list[float]]]]):
    """A dataset with one item, the result of :func:`measure` in the process that loads it."""

    def __init__(self, candidates: Sequence[Candidate], num_rounds: int) -> None:
        self._candidates = candidates
        self._num_rounds = num_rounds

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _index: int) -> tuple[list[str], list[list[float]]]:
        problems = measure(self._candidates, self._num_rounds)
        return problems, [candidate.times for candidate in self._candidates]


def measure_in_worker(candidates: Sequence[Candidate], num_rounds: int) -> list[str]:
    """Run :func:`measure` in a data worker."""
    measurement = _Measurement(candidates, num_rounds)
    loader = WatchedLoader(measurement, None, num_workers=1, worker_init_fn=init_worker, collate_fn=identity_collate)
    loader.time_limit = math.inf  # the measurement is one batch
    ((problems, all_times),) = loader
    for candidate, times in zip(candidates, all_times, strict=True):
        candidate.times[:] = times
    return list(problems)


def make_table(candidates: Sequence[Candidate]) -> str:
    """Return a Markdown table; 'x frames' is the median ratio to the time of the same sample from frame folders."""
    rows = []
    frames = np.array(candidates[-1].times)
    for one in candidates:
        size, num_files = one.disk_usage()
        ms, ratio = '-', '-'
        if one.times:
            ms, ratio = f'{1000 * np.median(one.times):.1f}', f'{np.median(np.array(one.times) / frames):.2f}'
        rows.append([one.source, one.decoder, ms, ratio, f'{size / 1e6:.1f}', str(num_files)])
    return markdown_table(['source', 'decoder', 'ms/sample', 'x frames', 'MB', 'files'], rows, num_left=2)


def generate_originals(
    work_dir: Path, names: Sequence[str], num_frames: int, height: int, width: int
) -> dict[str, Path]:
    """Write generated videos for each of ``GENERATED_GOPS``; return the folder for each.

    Args:
        work_dir: parent of the folders; existing videos are kept.
        names: names of the videos; the index is the random seed.
        num_frames, height, width: length and size of each video.
    """
    jobs = [(gop, seed) for gop in GENERATED_GOPS for seed in range(len(names))]
    for gop, seed in tqdm(jobs, desc='generating', unit='video', disable=None):
        path = work_dir / f'original{gop}' / names[seed]
        if not path.exists():
            write_original(path, seed, gop, num_frames, height, width)
    return {f'original, GOP {gop}': work_dir / f'original{gop}' for gop in GENERATED_GOPS}

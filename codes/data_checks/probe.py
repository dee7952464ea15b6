"""What is in the files of a dataset: each one is opened as in training, and some of its frames are decoded.

Results are kept in a file, a line a video, so that an interrupted inspection goes on where it was. A video is inspected
again when it has changed, when other things are asked about it, or when it could not be read: the cause may have been
the disk, its permissions or a lack of memory.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dsanet.datasets.transforms.base import Record
from dsanet.datasets.transforms.decoding import DecodeRawFrames, DecodeVideo, OpenVideo
from dsanet.datasets.transforms.sampling import spread_indices
from dsanet.utils.worker_pool import Failure, run_guarded

NUM_DECODED = 8  # frames of a video that are decoded, unless every frame is
_NUM_LOOKING = 8  # threads that ask the file system for the state of files, which is waiting for the disk

Identity = tuple[int, int]


@dataclass(frozen=True)
class FileFacts:
    """What was found in one video.

    Args:
        path: the file, or the folder of frames.
        kind: 'ok', 'missing', 'unreadable', 'hung' or 'crashed'.
        error: why it is not 'ok'.
        warning: what is wrong although it can be read.
        num_frames: counted by the decoder that reads them; of a folder, those of the list.
        height, width: of its frames, turned as the decoder turns them.
        fps: frames a second; None for folders, and where the file does not say.
        read_seconds: how long opening and decoding took.
        digest: of its content; None if it was not asked for.
    """

    path: str
    kind: str = 'ok'
    error: str | None = None
    warning: str | None = None
    num_frames: int = 0
    height: int = 0
    width: int = 0
    fps: float | None = None
    read_seconds: float = 0.0
    digest: str | None = None


@dataclass(frozen=True)
class Job:
    """One video to inspect. Jobs are equal if they open the same video in the same way, however thoroughly.

    Args:
        path: the file, or the folder of frames.
        decoder: how it is opened; None for a folder of frames.
        num_frames: of a folder, those of the list.
        filename_tmpl, start_index: how the frames of a folder are called.
        every_frame: decode all frames and not only some.
        digest: take a digest of the content.
    """

    path: str
    decoder: str | None = None
    num_frames: int | None = None
    filename_tmpl: str = ''
    start_index: int = 1
    every_frame: bool = field(default=False, compare=False)
    digest: bool = field(default=False, compare=False)


def stat_video(job: Job) -> tuple[str, Identity | None]:
    """Ask the file system for the state of a video, without opening it.

    Returns:
        What a result is valid for, the question and the state of the file; and device and number of the file, or of a
        folder's first frame, which paths that links lead to the same file have in common. None for the latter if it is
        not there, or on a network drive that does not number its files.
    """
    try:
        state, identity = _folder_state(job) if job.decoder is None else _file_state(job.path)
    except OSError:
        state, identity = [], None
    return json.dumps([*asdict(job).values(), *state]), identity


def _file_state(path: str) -> tuple[list[int], Identity | None]:
    """Return what changes with a file, its size and the time of its last change, and which file it is."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns], _identity(found)


def _folder_state(job: Job) -> tuple[list[int], Identity | None]:
    """Return what changes with the files of a folder; the folder's own time stays if one is written over in place."""
    number, size, newest = 0, 0, 0
    first = job.filename_tmpl.format(job.start_index)
    identity = None
    with os.scandir(job.path) as entries:
        for entry in entries:
            number += 1
            try:
                found = entry.stat()
            except OSError:  # such as a link to nowhere
                continue
            size += found.st_size
            newest = max(newest, found.st_mtime_ns)
            if entry.name == first:
                identity = _identity(found)
    return [number, size, newest], identity


def _identity(found: os.stat_result) -> Identity | None:
    return (found.st_dev, found.st_ino) if found.st_ino else None


def inspect_video(job: Job) -> FileFacts:
    """Open one video as a dataset does, and decode frames spread over it, the first and the last among them."""
    started = time.monotonic()
    missing = f'{job.path}: no such file or folder'
    if not os.path.exists(job.path):
        return FileFacts(job.path, 'missing', missing)
    if os.path.isfile(job.path) and not os.path.getsize(job.path):
        return FileFacts(job.path, 'missing', f'{job.path}: empty file')
    try:
        facts = _inspect_file(job) if job.decoder is not None else _inspect_folder(job)
        facts['digest'] = _digest(job) if job.digest else None
    except ImportError:
        raise  # says nothing about the video
    except Exception as error:
        return FileFacts(job.path, 'unreadable', str(error))
    return FileFacts(job.path, read_seconds=round(time.monotonic() - started, 4), **facts)


def read_frames(job: Job, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return some frames of a video as a dataset decodes them, before any augmentation.

    Args:
        job: the video.
        indices: (len,), from 0 on.

    Returns:
        RGB frames (len, H, W, 3).
    """
    record: Record = {'path': job.path, 'frame_indices': indices.reshape(1, 1, -1)}  # (1, 1, len)
    if job.decoder is not None:
        record = DecodeVideo()(OpenVideo(job.decoder)(record))
    else:
        record = DecodeRawFrames()(record | {'filename_tmpl': job.filename_tmpl, 'start_index': job.start_index})
    frames: npt.NDArray[np.uint8] = record['frames']
    return frames


def _inspect_file(job: Job) -> dict[str, Any]:
    record = OpenVideo(job.decoder or '')({'path': job.path})
    num_frames = record['num_frames']
    indices = spread_indices(num_frames, NUM_DECODED).reshape(1, 1, -1)  # (1, 1, len)
    frames = DecodeVideo()(record | {'frame_indices': indices})['frames']
    fps, warning = _ask_ffmpeg(job.path, job.every_frame)
    _, height, width, _ = frames.shape
    return {'num_frames': num_frames, 'height': height, 'width': width, 'fps': fps, 'warning': warning}


def _inspect_folder(job: Job) -> dict[str, Any]:
    num_frames = job.num_frames or 0
    names = [job.filename_tmpl.format(job.start_index + i) for i in range(num_frames + 1)]
    there = set(os.listdir(job.path)) if os.path.isdir(job.path) else set()
    lacking = [index for index, name in enumerate(names[:-1]) if name not in there]
    if lacking:
        # Nobody says better what lies there instead than the error of the dataset.
        read_frames(job, np.array(lacking[:1]))
    indices = np.arange(num_frames) if job.every_frame else spread_indices(num_frames, NUM_DECODED)
    shapes = {read_frames(job, chunk).shape[1:3] for chunk in np.array_split(indices, -(-len(indices) // 32))}
    if len(shapes) > 1:
        raise ValueError(f'{job.path} has frames of different (height, width): {sorted(shapes)}')
    is_longer = names[-1] in there
    warning = f'{job.path} has {names[-1]}, although the list says {num_frames} frames' if is_longer else None
    height, width = shapes.pop()
    return {'num_frames': num_frames, 'height': height, 'width': width, 'warning': warning}


def _ask_ffmpeg(path: str, every_frame: bool) -> tuple[float | None, str | None]:
    """Return frames a second, and what FFmpeg finds wrong if it decodes every frame and may hide nothing."""
    import av

    fps, decoded = None, 0
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            fps = float(stream.average_rate) if stream.average_rate else None
            if every_frame:
                stream.codec_context.options = {'err_detect': 'explode'}
                for _ in container.decode(stream):
                    decoded += 1
    except Exception as error:
        return fps, f'{path} is damaged: FFmpeg stops behind frame {decoded} of it ({error})' if every_frame else None
    return fps, None


def _digest(job: Job) -> str:
    """Return a digest of a file, or of all frames of a folder in their order."""
    files = [job.path]
    if job.decoder is None:
        names = (job.filename_tmpl.format(job.start_index + i) for i in range(job.num_frames or 0))
        files = [os.path.join(job.path, name) for name in names]
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        with open(file, 'rb') as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _as_raised(text: str, path: str) -> ImportError | RuntimeError:
    """Return the error of a worker process of which only the text is left, 'kind: message'."""
    is_import = text.startswith(('ImportError: ', 'ModuleNotFoundError: '))
    return ImportError(text) if is_import else RuntimeError(f'{path}: {text}')


def _inspect(job: Job) -> FileFacts:
    """Inspect in a worker process, which has one core."""
    cv2.setNumThreads(0)
    return inspect_video(job)


def read_facts(file: Path) -> dict[str, FileFacts]:
    """Return results of earlier inspections by key. A line that an interruption cut off is left out."""
    known = {}
    for line in file.read_text(encoding='utf-8').splitlines() if file.is_file() else ():
        try:
            entry = json.loads(line)
            key = entry.pop('key')
            known[key] = FileFacts(**entry)
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
    return known


class Inspection:
    """Inspect videos, or take what is known of them.

    Args:
        jobs: the videos; those that several splits share and open in the same way are inspected once.
        file: where results are kept, and looked up; None to keep none.
        num_workers: number of processes.
        time_limit: seconds that a video may take before it counts as 'hung'.
        progress: called without arguments after each video whose state was looked at, which is the first thing done.

    Attributes:
        known: number of videos whose results are taken from the file.
        open_jobs: what is left to do.
        identities: of the videos' files, as of :func:`stat_video`, where they are known.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        file: Path | None,
        num_workers: int,
        time_limit: float,
        progress: Callable[[], object] | None = None,
    ) -> None:
        distinct: dict[Job, str] = {}
        self.identities: dict[Job, Identity] = {}
        every = list(dict.fromkeys(jobs))
        with ThreadPoolExecutor(_NUM_LOOKING) as pool:
            for job, (key, identity) in zip(every, pool.map(stat_video, every), strict=True):
                distinct[job] = key
                if identity is not None:
                    self.identities[job] = identity
                if progress is not None:
                    progress()
        kept = read_facts(file) if file is not None else {}
        # What could not be read gets another chance: the machine may have been busy, the disk away, the memory short.
        usable = {key: facts for key, facts in kept.items() if facts.kind == 'ok'}
        self._facts = {job: usable[key] for job, key in distinct.items() if key in usable}
        self.known = len(self._facts)
        self.open_jobs: Sequence[Job] = [job for job, key in distinct.items() if key not in usable]
        self._keys = distinct
        self._file = file
        self._num_workers = num_workers
        self._time_limit = time_limit

    def run(self, progress: Any = None) -> Mapping[Job, FileFacts]:
        """Inspect what is left.

        Args:
            progress: called without arguments after each video.

        Returns:
            The facts by job: what is true of a video depends on how it is opened.

        Raises:
            ImportError: the decoder's package is missing.
            RuntimeError: another error, which is none of the video's; names the video.
        """
        stream = self._file.open('a', encoding='utf-8') if self._file is not None and self.open_jobs else None
        try:
            if stream is not None and stream.tell():
                stream.write('\n')  # the last line may have been cut off
            for number, result in run_guarded(_inspect, self.open_jobs, self._num_workers, self._time_limit):
                job = self.open_jobs[number]
                if isinstance(result, Failure):
                    if result.kind == 'error':  # nothing that the video can help
                        raise _as_raised(result.text, job.path)
                    result = FileFacts(job.path, result.kind, f'{job.path}: {result.text}')
                self._facts[job] = result
                if stream is not None:
                    stream.write(json.dumps({'key': self._keys[job], **asdict(result)}) + '\n')
                    stream.flush()
                if progress is not None:
                    progress()
        finally:
            if stream is not None:
                stream.close()
        return self._facts

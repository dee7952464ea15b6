"""Inspect the files of a dataset: open each one as in training, and decode some of its frames.

Results are saved in a file, one line per video, so that an interrupted inspection can continue. A video is inspected
again if it or the options have changed, or if it could not be read: the cause may have been the disk, its permissions
or a lack of memory.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from dsanet.datasets.transforms.base import Record
from dsanet.datasets.transforms.decoding import DecodeRawFrames, DecodeVideo, OpenVideo
from dsanet.datasets.transforms.sampling import evenly_spaced_indices
from dsanet.datasets.video.opening import frame_rate, open_video
from dsanet.utils.json_lines import read_json_lines
from dsanet.utils.machine_faults import MachineError, explain_shortage
from dsanet.utils.worker_pool import WorkerFailure, run_in_processes

NUM_DECODED = 8  # frames of a video that are decoded, unless all are
_NUM_STAT_THREADS = 8  # they mostly wait for the disk

Identity = tuple[int, int]  # device and inode of a file


@dataclass(frozen=True)
class ProbeResult:
    """Result of the inspection of one video.

    Args:
        path: the file, or the folder of frames.
        kind: 'ok', 'missing', 'unreadable', 'hung' or 'crashed'.
        error: error message if it is not 'ok'.
        warning: problem of a video that can be read.
        num_frames: counted by the decoder; for a folder, the number in the list.
        height, width: frame size after rotation.
        fps: frame rate; None for folders, and if the file does not state it.
        digest: hash of the content; None if not requested.
    """

    path: str
    kind: str = 'ok'
    error: str | None = None
    warning: str | None = None
    num_frames: int = 0
    height: int = 0
    width: int = 0
    fps: float | None = None
    digest: str | None = None


@dataclass(frozen=True)
class ProbeTask:
    """One video to inspect. Jobs that open the same video in the same way are equal; the last two options may differ.

    Args:
        path: the file, or the folder of frames.
        decoder: decoder of a video file; None for a folder of frames.
        num_frames: number of frames of a folder, from the list.
        filename_tmpl, start_index: file names of the frames of a folder.
        every_frame: decode all frames instead of some.
        digest: compute a hash of the content.
    """

    path: str
    decoder: str | None = None
    num_frames: int | None = None
    filename_tmpl: str = ''
    start_index: int = 1
    every_frame: bool = field(default=False, compare=False)
    digest: bool = field(default=False, compare=False)


def stat_video(job: ProbeTask) -> tuple[str, Identity | None]:
    """Return the state of a video in the file system, without opening it.

    Returns:
        The key under which a result is saved: the job and the state of the file. And the identity of the file, or of a
        folder's first frame, which is the same for all links to it; None if it is missing, or on a network drive
        without inodes.
    """
    try:
        state, identity = _folder_state(job) if job.decoder is None else _file_state(job.path)
    except OSError:
        state, identity = [], None
    return json.dumps([*asdict(job).values(), *state]), identity


def _file_state(path: str) -> tuple[list[int], Identity | None]:
    """Return [size, modification time] of a file, and its identity."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns], _identity(found)


def _folder_state(job: ProbeTask) -> tuple[list[int], Identity | None]:
    """Return [number, total size, last modification] of a folder's files, and the identity of the first frame.

    The modification time of the folder itself does not change if a file is overwritten.
    """
    number, size, newest = 0, 0, 0
    first = job.filename_tmpl.format(job.start_index)
    identity = None
    with os.scandir(job.path) as entries:
        for entry in entries:
            number += 1
            try:
                found = entry.stat()
            except OSError:  # such as a dangling link
                continue
            size += found.st_size
            newest = max(newest, found.st_mtime_ns)
            if entry.name == first:
                identity = _identity(found)
    return [number, size, newest], identity


def _identity(found: os.stat_result) -> Identity | None:
    return (found.st_dev, found.st_ino) if found.st_ino else None


def inspect_video(job: ProbeTask) -> ProbeResult:
    """Open one video as a dataset does, and decode evenly spaced frames from the first to the last one."""
    if not os.path.exists(job.path):
        return ProbeResult(job.path, 'missing', f'{job.path}: no such file or folder')
    if os.path.isfile(job.path) and not os.path.getsize(job.path):
        return ProbeResult(job.path, 'missing', f'{job.path}: empty file')
    try:
        facts = _inspect_file(job) if job.decoder is not None else _inspect_folder(job)
        facts['digest'] = _digest(job) if job.digest else None
    except ImportError:
        raise  # not an error of the video
    except Exception as error:
        if (shortage := explain_shortage(error)) is not None:
            raise MachineError(shortage) from error
        return ProbeResult(job.path, 'unreadable', str(error))
    return ProbeResult(job.path, **facts)


def read_frames(job: ProbeTask, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Decode frames (len, H, W, 3), RGB, of a video as a dataset does, without augmentation."""
    record: Record = {'path': job.path, 'frame_indices': indices.reshape(1, 1, -1)}  # (1, 1, len)
    if job.decoder is not None:
        record = DecodeVideo()(OpenVideo(job.decoder)(record))
    else:
        record = DecodeRawFrames()(record | {'filename_tmpl': job.filename_tmpl, 'start_index': job.start_index})
    frames: npt.NDArray[np.uint8] = record['frames']
    return frames


def _inspect_file(job: ProbeTask) -> dict[str, Any]:
    record = OpenVideo(job.decoder or '')({'path': job.path})
    num_frames = record['num_frames']
    indices = evenly_spaced_indices(num_frames, NUM_DECODED).reshape(1, 1, -1)  # (1, 1, len)
    frames = DecodeVideo()(record | {'frame_indices': indices})['frames']
    fps, warning = _probe_with_ffmpeg(job.path, job.every_frame)
    _, height, width, _ = frames.shape
    return {'num_frames': num_frames, 'height': height, 'width': width, 'fps': fps, 'warning': warning}


def _inspect_folder(job: ProbeTask) -> dict[str, Any]:
    num_frames = job.num_frames or 0
    names = [job.filename_tmpl.format(job.start_index + i) for i in range(num_frames + 1)]
    existing = set(os.listdir(job.path)) if os.path.isdir(job.path) else set()
    missing = [index for index, name in enumerate(names[:-1]) if name not in existing]
    if missing:
        read_frames(job, np.array(missing[:1]))  # raises an error that names the existing files
    indices = np.arange(num_frames) if job.every_frame else evenly_spaced_indices(num_frames, NUM_DECODED)
    shapes = {read_frames(job, chunk).shape[1:3] for chunk in np.array_split(indices, -(-len(indices) // 32))}
    if len(shapes) > 1:
        raise ValueError(f'{job.path} has frames of different sizes (height, width): {sorted(shapes)}')
    is_longer = names[-1] in existing
    warning = f'{job.path} has {names[-1]}, but the list says {num_frames} frames' if is_longer else None
    height, width = shapes.pop()
    return {'num_frames': num_frames, 'height': height, 'width': width, 'warning': warning}


def _probe_with_ffmpeg(path: str, every_frame: bool) -> tuple[float | None, str | None]:
    """Return the frame rate, and with ``every_frame`` the first error that FFmpeg finds in strict mode."""
    fps, decoded = None, 0
    try:
        container, stream = open_video(path)
        with container:
            rate = frame_rate(container, stream)
            fps = float(rate) if rate else None
            if every_frame:
                stream.codec_context.options = {'err_detect': 'explode'}
                for _ in container.decode(stream):
                    decoded += 1
    except Exception as error:
        return fps, f'{path} is damaged: FFmpeg stops after frame {decoded} ({error})' if every_frame else None
    return fps, None


def _digest(job: ProbeTask) -> str:
    """Return a hash of a file, or of all frames of a folder in order."""
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


def _inspect(job: ProbeTask) -> ProbeResult:
    """Inspect a video in a worker process."""
    cv2.setNumThreads(0)
    return inspect_video(job)


def read_facts(file: Path) -> dict[str, ProbeResult]:
    """Return saved results by key; damaged lines are skipped with a warning."""
    types = get_type_hints(ProbeResult)
    lines = read_json_lines(file, {'key': str, **types})
    return {line['key']: ProbeResult(**{name: line[name] for name in types}) for line in lines}


def inspect_videos(
    tasks: Iterable[ProbeTask], file: Path | None, num_workers: int, time_limit: float
) -> tuple[dict[ProbeTask, ProbeResult], dict[ProbeTask, Identity]]:
    """Inspect videos in worker processes with a progress bar, and save the results.

    Args:
        tasks: the videos; equal tasks are inspected once.
        file: file of saved results, which are reused and extended; None to save none.
        num_workers: number of processes.
        time_limit: seconds per video, after which it is 'hung'.

    Returns:
        The results, and the identities of the videos' files, see :func:`stat_video`, if known.

    Raises:
        ImportError: the decoder's package is missing.
        RuntimeError: an unexpected error, with the path of the video.
    """
    distinct = list(dict.fromkeys(tasks))
    with ThreadPoolExecutor(_NUM_STAT_THREADS) as pool:
        states = dict(zip(distinct, pool.map(stat_video, distinct), strict=True))
    saved = read_facts(file) if file is not None else {}
    # Videos that could not be read are inspected again.
    facts = {task: saved[key] for task, (key, _) in states.items() if key in saved and saved[key].kind == 'ok'}
    pending = [task for task in distinct if task not in facts]
    with ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(total=len(distinct), initial=len(facts), desc='checking videos', unit='video', disable=None)
        )
        stream = stack.enter_context(file.open('a', encoding='utf-8')) if file is not None and pending else None
        if stream is not None and stream.tell():
            stream.write('\n')  # the last line may be incomplete
        for number, result in run_in_processes(_inspect, pending, num_workers, time_limit):
            task = pending[number]
            if isinstance(result, WorkerFailure):
                if result.kind == 'error':  # not an error of the video; its text is 'type: message'
                    if result.text.startswith(('ImportError: ', 'ModuleNotFoundError: ')):
                        raise ImportError(result.text)
                    raise RuntimeError(f'{task.path}: {result.text}')
                result = ProbeResult(task.path, result.kind, f'{task.path}: {result.text}')
            facts[task] = result
            if stream is not None:
                stream.write(json.dumps({'key': states[task][0], **asdict(result)}) + '\n')
                stream.flush()
            bar.update()
    return facts, {task: identity for task, (_, identity) in states.items() if identity is not None}

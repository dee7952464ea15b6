"""Decode videos in a subprocess of the data worker, so that a damaged file cannot hang or crash the worker.

Decoders are C code. A hanging decoder cannot be interrupted from Python, and a crash ends its process: the data worker,
and so the training, without naming the file. So a data worker forks a process that opens the video. At the time limit
the kernel ends this process, even in C code; then the worker reports the file and forks a new process. Frames are
returned in shared memory.
"""

import contextlib
import faulthandler
import gc
import math
import mmap
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import cv2
import numpy as np
from torch.utils.data import get_worker_info

from dsanet.datasets.video import remembered
from dsanet.datasets.video.frame_store import Clip, Frames, PlanClips
from dsanet.datasets.video.readers import FrameTimes, Indices, VideoReader
from dsanet.datasets.video.span_reader import Span, SpanError, open_reader
from dsanet.utils.machine_faults import MachineError, explain_shortage
from dsanet.utils.processes import die_with_parent

_KILL_TIMEOUT_S = 5.0  # time after the time limit in which the alarm signal must end the process
# A process with more shared memory or more videos than this is replaced: decoders leak a little memory.
_MAX_SHARED_BYTES = 2**28
_MAX_VIDEOS = 10000


def can_isolate() -> bool:
    """Return True if this process can decode in a subprocess: a data worker on Linux.

    The main process cannot: fork is not safe with a GPU or with threads.
    """
    return get_worker_info() is not None and hasattr(os, 'fork') and hasattr(os, 'memfd_create')


def shorten_error(error: Exception) -> str:
    """Return a decoder's error as one line without a stack trace; its type if it has no message."""
    text = ' '.join(str(error).split('Stack trace')[0].split())
    return text or type(error).__name__


class IsolatedReader(VideoReader):
    """A video that is open in a subprocess.

    The next video overwrites the frames: copy them before closing the reader.

    Args:
        decoder: one of ``READERS``.
        path: the file.
        time_limit: seconds for opening the file, and again for each read.
        span: start and end in seconds; None for the whole video.
    """

    reuses_memory = True

    def __init__(self, decoder: str, path: str, time_limit: float, span: Span | None = None) -> None:
        self.path = path
        self.decoder = decoder
        self._time_limit = time_limit
        self._process: _DecodingProcess | None = _take_process()
        self._process.num_videos += 1
        self.num_frames, self.fps, results = self._request('open', decoder, path, span)
        remembered.add(results)

    def _find_times(self) -> FrameTimes:
        times: FrameTimes
        times, results = self._request('times')
        remembered.add(results)
        return times

    def _read(self, indices: Indices) -> Frames:
        return self._read_with(indices, None)

    def _read_clips(self, indices: Indices, plan: PlanClips) -> Frames:
        return self._read_with(indices, plan)

    def _read_with(self, indices: Indices, plan: PlanClips | None) -> Frames:
        shape = self._request('read', indices, plan=plan)
        assert self._process is not None, 'the process has answered'
        return self._process.memory.array(shape)

    def close(self) -> None:
        process = self._process
        if process is None:
            return
        # The frames have been read: an error of 'close' only ends the process.
        with contextlib.suppress(ValueError):
            self._request('close')
            if process.memory.num_bytes <= _MAX_SHARED_BYTES and process.num_videos < _MAX_VIDEOS:
                _IDLE.append(process)
                self._process = None
        self._end_process()

    def _request(self, *request: Any, plan: PlanClips | None = None) -> Any:
        if self._process is None:
            raise ValueError('the decoder process has ended')
        try:
            return self._process.request(self._time_limit, *request, plan=plan)
        except Exception:
            self._end_process()  # do not reuse a decoder after an error
            raise

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


class _NeedsPlan(Exception):
    """Not an error: the process asks for the crops of the frames, whose size it knows now."""


class _SharedMemory:
    """Growing memory for frames that two processes share."""

    def __init__(self) -> None:
        self._file = os.memfd_create('frames')
        self._map: mmap.mmap | None = None

    @property
    def num_bytes(self) -> int:
        return os.fstat(self._file).st_size

    def array(self, shape: tuple[int, ...]) -> Frames:
        """Return the memory as an array, enlarged if necessary."""
        size = math.prod(shape)
        if size > self.num_bytes:
            os.ftruncate(self._file, size)
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self._file, self.num_bytes)
        return np.frombuffer(self._map, np.uint8, count=size).reshape(shape)  # (len, H, W, 3)

    def close(self) -> None:
        self._map = None
        os.close(self._file)


class _DecodingProcess:
    """A forked process that decodes one video at a time."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.num_videos = 0
        try:
            self.memory = _SharedMemory()
            self._connection, other = multiprocessing.Pipe()
            self._pid = os.fork()
        except OSError as error:
            text = explain_shortage(error) or f'{error}; is the number of processes limited (`ulimit -u`)?'
            raise MachineError(f'cannot start a process to decode videos: {text}') from error
        if self._pid == 0:
            die_with_parent(self.owner)  # it would outlive its worker if it is stopped or hangs
            self._connection.close()
            _serve(other, self.memory)
        other.close()

    def request(self, time_limit: float, *request: Any, plan: PlanClips | None = None) -> Any:
        """Return the answer to ('open', decoder, path, span), ('times',), ('read', indices) or ('close',).

        Args:
            time_limit: seconds.
            request: see above.
            plan: answers the question of the process for the crops of 'read'; None to read whole frames.
        """
        timed_out = f'the decoder did not finish within time_limit={time_limit:g} s'
        try:
            self._connection.send((time_limit, plan is not None, *request))
            error, answer = self._receive(time_limit, timed_out)
            if error is _NeedsPlan:
                assert plan is not None, 'the process asks only if there is a plan'
                self._connection.send(plan(*answer))
                error, answer = self._receive(time_limit, timed_out)
        except (EOFError, OSError):
            number = self._wait()
            if number == signal.SIGALRM:
                raise ValueError(timed_out) from None
            name = signal.Signals(number).name if number else 'no signal'
            hint = ', perhaps out of memory' if number == signal.SIGKILL else ''
            raise ValueError(f'the decoder crashed ({name}{hint})') from None
        if error is not None:
            raise error(answer)
        return answer

    def _receive(self, time_limit: float, timed_out: str) -> tuple[type[Exception] | None, Any]:
        if not self._connection.poll(time_limit + _KILL_TIMEOUT_S):
            raise ValueError(timed_out)
        received: tuple[type[Exception] | None, Any] = self._connection.recv()
        return received

    def _wait(self) -> int:
        """Return the signal that ended the process; 0 if it exited or is still running after a second."""
        pid, self._pid = self._pid, 0
        for _ in range(100):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            time.sleep(0.01)
        return 0  # it hangs in the kernel, for example because a network drive does not respond

    def end(self) -> None:
        """Kill the process if it is running, and free its memory."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._wait()
        self._connection.close()
        self.memory.close()


_IDLE: list[_DecodingProcess] = []


def _take_process() -> _DecodingProcess:
    """Return an idle process of this data worker, not of its parent, or a new one."""
    while _IDLE:
        process = _IDLE.pop()
        if process.owner == os.getpid():
            return process
    return _DecodingProcess()


def _serve(connection: Connection, memory: _SharedMemory) -> NoReturn:
    """Answer requests until the other end is closed. Never return to the forked program."""
    try:
        for number in (signal.SIGALRM, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT):
            signal.signal(number, signal.SIG_DFL)  # end the process
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # sent to all processes of a job; this one ends with its worker
        faulthandler.disable()
        cv2.setNumThreads(0)
        gc.freeze()  # exclude forked objects from garbage collection, so that their memory stays shared
        reader: VideoReader | None = None

        def ask(height: int, width: int) -> Sequence[Clip]:
            connection.send((_NeedsPlan, (height, width)))
            clips: Sequence[Clip] = connection.recv()
            return clips

        while True:
            time_limit, has_plan, request, *arguments = connection.recv()
            answer: Any = None
            signal.setitimer(signal.ITIMER_REAL, time_limit)
            try:
                if request == 'open':
                    reader = open_reader(*arguments)
                    reader.allocate = memory.array
                    answer = reader.num_frames, reader.fps, remembered.take_new()
                elif reader is not None and request == 'times':
                    answer = reader.frame_times, remembered.take_new()
                elif reader is not None and request == 'read':
                    frames = reader.read(arguments[0], ask if has_plan else None)
                    shared = memory.array(frames.shape)
                    if not np.may_share_memory(frames, shared):  # otherwise the reader has decoded into it
                        shared[:] = frames
                    answer = frames.shape
                    del frames
                elif reader is not None:
                    reader.close()
                    reader = None
                error: type[Exception] | None = None
            except Exception as failure:
                shortage = explain_shortage(failure)
                kinds = (kind for kind in (ImportError, SpanError) if isinstance(failure, kind))
                error = next(kinds, MachineError if shortage else ValueError)
                answer = shortage or shorten_error(failure)
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send((error, answer))
    finally:
        os._exit(0)

"""Decoding in a process beside the data worker, which a damaged file may hang or crash without harm.

Decoders are C code. One that hangs cannot be interrupted from Python, and one that crashes takes its process along:
here a data worker, and with it the training, without a word about the file. So a data worker forks a process that
holds the open video. The kernel ends that process when the time is over, even while it is stuck in C code; the worker
sees the end of it, names the file and forks another one. Frames travel through shared memory.
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
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import cv2
import numpy as np
from torch.utils.data import get_worker_info

from dsanet.datasets.video.readers import READERS, Frames, Indices, VideoReader

_GRACE = 5.0  # seconds beyond the time limit until a process is given up that its alarm did not end
_KEPT_BYTES = 2**28  # a process that shares more memory than this does not wait for the next video
_KEPT_VIDEOS = 10000  # nor does one that has seen so many: decoders keep a little memory of each


def can_isolate() -> bool:
    """Say whether this process can decode in another one: a data worker on Linux.

    The main process cannot: it may hold a GPU and threads, with which it is not safe to fork.
    """
    return get_worker_info() is not None and hasattr(os, 'fork') and hasattr(os, 'memfd_create')


def describe_error(error: Exception) -> str:
    """Return a decoder's error as one line; some say nothing but their type, and decord tells its stack."""
    text = ' '.join(str(error).split('Stack trace')[0].split())
    return text or type(error).__name__


class IsolatedReader(VideoReader):
    """A video that is open in another process.

    Frames that it has read are overwritten by the next video: copy them before closing it.

    Args:
        decoder: one of ``READERS``.
        path: the file.
        time_limit: seconds that opening may take, and reading as many again.

    Raises:
        ValueError: the decoder cannot open the file, is not done in time or crashes.
        ImportError: the decoder's package is missing.
    """

    lends_frames = True

    def __init__(self, decoder: str, path: str, time_limit: float) -> None:
        self.path = path
        self.decoder = decoder
        self._time_limit = time_limit
        self._process: _DecodingProcess | None = _take_process()
        self._process.num_videos += 1
        self.num_frames = self._ask('open', decoder, path)

    def _read(self, indices: Indices) -> Frames:
        shape = self._ask('read', indices)
        assert self._process is not None, 'a process that answered is there'
        return self._process.memory.array(shape)

    def close(self) -> None:
        process = self._process
        if process is None:
            return
        # The frames are read, so whatever goes wrong from here on concerns the process alone.
        with contextlib.suppress(ValueError):
            self._ask('close')
            if process.memory.num_bytes <= _KEPT_BYTES and process.num_videos < _KEPT_VIDEOS:
                _IDLE.append(process)
                self._process = None
        self._drop()

    def _ask(self, *request: Any) -> Any:
        if self._process is None:
            raise ValueError('its decoder has ended')
        try:
            return self._process.ask(self._time_limit, *request)
        except Exception:
            self._drop()  # a decoder that failed once is not trusted with the next video
            raise

    def _drop(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


class _SharedMemory:
    """Memory for frames that two processes see. It grows."""

    def __init__(self) -> None:
        self._file = os.memfd_create('frames')
        self._map: mmap.mmap | None = None

    @property
    def num_bytes(self) -> int:
        return os.fstat(self._file).st_size

    def array(self, shape: tuple[int, ...]) -> Frames:
        """Return the beginning of the memory as an array."""
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
    """A forked process that opens one video at a time."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.num_videos = 0
        self.memory = _SharedMemory()
        self._connection, other = multiprocessing.Pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._connection.close()
            _serve(other, self.memory)
        other.close()

    def ask(self, time_limit: float, *request: Any) -> Any:
        """Return the answer to ('open', decoder, path), ('read', indices) or ('close',)."""
        too_late = f'the decoder was not done after time_limit={time_limit:g} s'
        try:
            self._connection.send((time_limit, *request))
            if not self._connection.poll(time_limit + _GRACE):
                raise ValueError(too_late)
            error, answer = self._connection.recv()
        except (EOFError, OSError):
            number = self._wait()
            if number == signal.SIGALRM:
                raise ValueError(too_late) from None
            name = signal.Signals(number).name if number else 'no signal'
            hint = ', perhaps for want of memory' if number == signal.SIGKILL else ''
            raise ValueError(f'the decoder crashed ({name}{hint})') from None
        if error is not None:
            raise error(answer)
        return answer

    def _wait(self) -> int:
        """Return the signal that ended the process, 0 if none did or if it has not ended."""
        pid, self._pid = self._pid, 0
        for _ in range(100):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            time.sleep(0.01)
        return 0  # stuck in the kernel, as on a network drive that is gone: not to be waited for

    def end(self) -> None:
        """End the process, if it still runs, and let its memory go."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._wait()
        self._connection.close()
        self.memory.close()


_IDLE: list[_DecodingProcess] = []


def _take_process() -> _DecodingProcess:
    """Return a process without a video. Those of the process that this one was forked from are not this one's."""
    while _IDLE:
        process = _IDLE.pop()
        if process.owner == os.getpid():
            return process
    return _DecodingProcess()


def _serve(connection: Connection, memory: _SharedMemory) -> NoReturn:
    """Answer requests until the other end is closed. Whatever happens, never return into the forked program."""
    try:
        for number in (signal.SIGALRM, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT):
            signal.signal(number, signal.SIG_DFL)  # that is, die
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # they reach all processes of a job; this one ends with its worker
        faulthandler.disable()
        cv2.setNumThreads(0)
        gc.freeze()  # what was forked is not collected, so that its memory stays shared
        reader: VideoReader | None = None
        while True:
            time_limit, job, *arguments = connection.recv()
            answer: Any = None
            signal.setitimer(signal.ITIMER_REAL, time_limit)
            try:
                if job == 'open':
                    decoder, path = arguments
                    reader = READERS[decoder](path)
                    reader.allocate = memory.array
                    answer = reader.num_frames
                elif reader is not None and job == 'read':
                    frames = reader.read(arguments[0])
                    shared = memory.array(frames.shape)
                    if not np.may_share_memory(frames, shared):  # else the reader has put them there
                        shared[:] = frames
                    answer = frames.shape
                    del frames
                elif reader is not None:
                    reader.close()
                    reader = None
                error = None
            except Exception as failure:
                error = ImportError if isinstance(failure, ImportError) else ValueError
                answer = describe_error(failure)
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send((error, answer))
    finally:
        os._exit(0)

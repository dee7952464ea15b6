"""Read a video in a process of its own, which ends at a time limit even if a decoder hangs in C code.

The process is forked by a server process without threads, as forking a process with threads may hang.
"""

import contextlib
import io
import multiprocessing
import multiprocessing.forkserver
import pickle
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection

import torch

from dsanet.datasets.transforms.compose import Compose
from dsanet.inference.samples import LoadedSamples, read_sample
from dsanet.inference.sources import Source
from dsanet.utils.signals import block_sigint

TIME_LIMIT_S = 60.0
_START_LIMIT_S = 60.0  # for the process to start, if the machine is busy

_CONTEXT = multiprocessing.get_context('forkserver')


def start_server() -> None:
    """Start the server process, unless it runs. It imports this package once, and ends with this process."""
    _CONTEXT.set_forkserver_preload([__name__])
    with block_sigint():  # Ctrl-C in a terminal reaches all processes
        multiprocessing.forkserver.ensure_running()


def read_in_time(source: Source, pipelines: Sequence[Compose], time_limit: float = TIME_LIMIT_S) -> list[LoadedSamples]:
    """Return the samples of a video from each pipeline.

    Args:
        source: the video.
        pipelines: for this kind of source.
        time_limit: seconds for all of them.

    Raises:
        ValueError: the video cannot be read, or not in time.
    """
    start_server()
    connection, other = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_read, args=(other, source, pipelines, time_limit), daemon=True)
    with connection:
        process.start()
        other.close()
        is_late = not connection.poll(time_limit + _START_LIMIT_S)
        content = None
        if not is_late:
            with contextlib.suppress(EOFError):  # the process has died
                content = connection.recv_bytes()
        if content is None:
            process.kill()
        process.join()
    if content is None and (is_late or process.exitcode == -signal.SIGALRM):
        raise ValueError(f'{source.name} was not decoded within {time_limit:g} s')
    if content is None:
        raise ValueError(f'{source.name}: the decoder crashed (exit code {process.exitcode})')
    samples = pickle.loads(content)
    if isinstance(samples, str):
        raise ValueError(samples)
    for sample in samples:
        if 'error' in sample:
            raise ValueError(sample['error'])
    return [LoadedSamples([sample]) for sample in samples]


def _read(connection: Connection, source: Source, pipelines: Sequence[Compose], time_limit: float) -> None:
    """Send the samples of a video, or an error; runs in a process of its own, which the kernel ends at the limit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, time_limit)
    torch.set_num_threads(1)
    try:
        content = [read_sample(source, pipeline) for pipeline in pipelines]
    except Exception as error:
        connection.send_bytes(pickle.dumps(f'{source.name}: {error}'))
        return
    stream = io.BytesIO()
    pickle.Pickler(stream, protocol=5).dump(content)  # not the pickler of multiprocessing, which shares memory
    connection.send_bytes(stream.getbuffer())

"""The processes that load data: how they start, how a run waits for their batches, and how they end.

torch waits for a batch without a time limit, and does not notice an error in the thread of a worker that sends
batches. So a lack of shared memory or a frozen worker would block a run forever; :class:`WatchedLoader` ends it with an
error.
"""

import atexit
import errno
import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.process import BaseProcess, active_children
from multiprocessing.queues import Queue
from typing import Any

import cv2
import torch
from torch._utils import ExceptionWrapper
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from dsanet.utils.machine_faults import MachineError, explain_dead_worker, explain_shared_memory, explain_shortage
from dsanet.utils.processes import die_with_parent, process_state
from dsanet.utils.signals import call_every

TIME_LIMIT_S = 600.0  # to wait for a batch, unless a run has set runtime.timeout_minutes
TICK_S = 0.5
STOPPED_LIMIT_S = 15.0  # to wait while a worker is stopped by SIGSTOP; a suspended job resumes as a whole
LOST_TIMEOUT_S = 1.0  # for a process to end after its connections are lost
KILL_TIMEOUT_S = 5.0  # for a killed process to end; it may hang in the kernel


def init_worker(worker_id: int) -> None:
    """Set up a worker process: use one thread, ignore Ctrl-C, and exit with the main process.

    There is one worker per core, so more threads would compete. Ctrl-C in a terminal reaches all processes of a job;
    the main process reacts at the end of an iteration, for which it needs its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    # By default a batch that cannot be sent is lost, and the main process waits for it.
    Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]
    # Of a thread of multiprocessing, when the main process ends while it receives a batch. Errors of the worker itself
    # are sent to the main process.
    sys.excepthook = lambda *_: None


def _send_error(queue: Any, error: Exception, item: Any) -> None:
    """Send the error to the main process instead of the batch; runs in the thread of the queue."""
    number, batch = item
    text = explain_shortage(error) or f'a batch cannot be sent: {error}'
    if 'allocate shared memory' in str(error):
        text = explain_shared_memory(sum(leaf.nbytes for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)))
    info = get_worker_info()
    where = f'in DataLoader worker process {info.id if info is not None else ""}'
    queue.put((number, ExceptionWrapper((MachineError, MachineError(text), None), where)))


def _do_nothing() -> None:
    pass


class _Iterator(_MultiProcessingDataLoaderIter):
    """Torch's iterator, whose destructor raises no error if some workers were not started, and waits for none that is
    frozen.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._owner = os.getpid()
        try:
            with _shared_objects():
                super().__init__(loader)
        except BaseException:
            self._shutdown = True
            raise

    def _shutdown_workers(self) -> None:
        if self._owner == os.getpid() and not self._shutdown:  # otherwise a forked copy, or done
            WatchedLoader._kill([worker for worker in self._workers if process_state(worker.pid or 0) == 'T'])
        super()._shutdown_workers()


@contextmanager
def _shared_objects() -> Iterator[None]:
    """Keep all objects out of the garbage collection of processes forked here.

    A full collection writes into each object that it looks at. So the first one in a worker would copy the memory of
    all objects of this process, also of the imported modules: 90 MB. There is no collection before the fork: it could
    end loaders of the past here, and leaves holes in the memory that the workers would fill and so copy.
    """
    is_frozen = gc.get_freeze_count() > 0  # by the program that uses this one
    if not is_frozen:
        gc.freeze()
    try:
        yield
    finally:
        if not is_frozen:
            gc.unfreeze()


class WatchedLoader(DataLoader[Any]):
    """A DataLoader that raises an error if a batch does not arrive in time.

    Attributes:
        time_limit: seconds to wait for a batch, if there are workers. The time during which this process itself is
            suspended does not count.
        while_waiting: called about twice a second during a wait, in the main thread; an exception ends the wait.
        workers: the processes, if they have been started.
    """

    time_limit: float = TIME_LIMIT_S
    while_waiting: Callable[[], None] = staticmethod(_do_nothing)
    workers: Sequence[BaseProcess] = ()
    _owner = 0  # process that started them

    def __iter__(self) -> Any:
        """Yield batches.

        Raises:
            MachineError: the workers cannot be started, one was killed or stopped, or a batch did not arrive in time or
                cannot be sent.
        """
        before = active_children()
        try:
            with self._limited(), _kept_sigchld_handler():
                iterator: Any = super().__iter__()
        except BaseException as error:  # some may have been started, and would not end with this process
            self._kill([worker for worker in active_children() if worker not in before])
            if isinstance(error, OSError) and not isinstance(error, MachineError):
                reason = explain_shortage(error) or str(error)
                text = explain_shared_memory() if error.errno == errno.ENOSPC else reason
                raise MachineError(f'cannot start the data workers: {text}') from error
            raise
        workers = getattr(iterator, '_workers', ())
        if workers is not self.workers:
            self.workers, self._owner = workers, os.getpid()
            # Registered after torch's exit handler, and so called before it: torch would wait
            # for each worker, and not kill one that is frozen. This also comes before multiprocessing sends SIGTERM.
            _STARTED.add(self)
            atexit.register(_kill_all)
        return self._batches(iterator)

    def _get_iterator(self) -> Any:
        return _Iterator(self) if self.num_workers else super()._get_iterator()

    def _batches(self, iterator: Iterator[Any]) -> Iterator[Any]:
        done = object()
        while True:
            try:
                with self._limited():
                    batch = next(iterator, done)
            except (EOFError, OSError, RuntimeError) as error:
                dead = self.find_dead(LOST_TIMEOUT_S if isinstance(error, EOFError | ConnectionError) else 0)
                if dead is None:
                    raise
                self.kill_workers()
                raise _explain_exit(dead) from error
            if batch is done:
                return
            yield batch

    def find_dead(self, timeout: float = 0) -> BaseProcess | None:
        """Return a worker that has ended, or ends within ``timeout`` seconds; None if there is none."""
        deadline = time.monotonic() + timeout
        while True:
            dead = next((worker for worker in self.workers if worker.exitcode is not None), None)
            if dead is not None or time.monotonic() >= deadline:
                return dead
            time.sleep(0.01)

    def _limited(self) -> AbstractContextManager[None]:
        return call_every(TICK_S, _Wait(self).check)

    def kill_workers(self) -> None:
        """Kill the workers, if this process has started them."""
        if self._owner != os.getpid():
            return  # a forked copy
        self._kill([worker for worker in self.workers if worker.is_alive()])

    @staticmethod
    def _kill(workers: Sequence[BaseProcess]) -> None:
        for worker in workers:
            worker.kill()
        deadline = time.monotonic() + KILL_TIMEOUT_S
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    def __del__(self) -> None:
        self.kill_workers()


_STARTED: 'weakref.WeakSet[WatchedLoader]' = weakref.WeakSet()


def _kill_all() -> None:
    for loader in list(_STARTED):
        loader.kill_workers()


@contextmanager
def _kept_sigchld_handler() -> Iterator[None]:
    """Undo that torch installs a handler in this context that raises an error as soon as a worker is killed.

    It would raise it anywhere in the main thread: in a training step, or while another error is handled.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        in_main_thread = threading.current_thread() is threading.main_thread()  # others cannot set a handler
        if in_main_thread and signal.getsignal(signal.SIGCHLD) is not handler:
            signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)  # None if C code installed it


def _explain_exit(worker: BaseProcess) -> MachineError:
    """Return the error for a worker that has ended."""
    name = signal.strsignal(-worker.exitcode) if worker.exitcode is not None and worker.exitcode < 0 else None
    return MachineError(explain_dead_worker(worker.pid or 0, name))


class _Wait:
    """One wait for a batch; adds up the ticks, so that time during which this process is suspended does not count."""

    def __init__(self, loader: WatchedLoader) -> None:
        self.loader = loader
        self.seconds = self.stopped_seconds = 0.0

    def check(self) -> None:
        """Raise a MachineError if there is no point in waiting any longer."""
        self.loader.while_waiting()
        dead = self.loader.find_dead()
        if dead is not None and dead.exitcode != 0:  # 0 at the end of an epoch
            raise _explain_exit(dead)
        pids = [worker.pid for worker in self.loader.workers if worker.pid is not None]
        states = {pid: process_state(pid) for pid in pids}
        stopped = [pid for pid, state in states.items() if state == 'T']
        self.seconds += TICK_S
        self.stopped_seconds = self.stopped_seconds + TICK_S if stopped else 0.0
        if self.stopped_seconds >= min(STOPPED_LIMIT_S, self.loader.time_limit):
            raise MachineError(
                f'no batch arrives, because data worker process {", ".join(map(str, stopped))} is stopped (SIGSTOP)'
            )
        if pids and self.seconds >= self.loader.time_limit:
            doing = ', '.join(f'{pid} {_STATES.get(state, "")}'.rstrip() for pid, state in states.items())
            raise MachineError(
                f'no batch from the data workers for {self.loader.time_limit:g} s (runtime.timeout_minutes): the '
                f'storage does not respond, or loading a batch takes longer. Worker processes: {doing}'
            )


_STATES = {'D': '(waiting for a disk or network drive)', 'T': '(stopped)', 'Z': '(dead)', 'R': '(running)'}


def start_workers(loader: WatchedLoader) -> None:
    """Start a loader's worker processes before they are needed, and before this process has threads.

    Workers are forked. Forking copies no threads, but copies the locks that other threads hold at that moment. The
    threads of a process group take such locks at any time, and workers forked while they run sometimes hang. Forking is
    kept because the workers of a forkserver import torch again, and have their own copies of all modules and lists.

    The workers block SIGTERM, which a scheduler sends to all processes of a job; the main process reacts to it as to
    Ctrl-C (see :func:`init_worker`), and kills its workers when it ends.

    Args:
        loader: from ``build_dataloader``.

    Raises:
        MachineError: there is too little shared memory, or there are too many open files or processes.
    """
    if not loader.num_workers:
        return
    sampler: Any = loader.sampler
    sampler.is_paused = True
    # Blocked while forking, so that all threads of a worker inherit it: some libraries start threads during a fork.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    sampler.is_paused = False

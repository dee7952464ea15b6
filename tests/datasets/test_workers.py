"""Data workers: how they start, and that nothing makes a run wait for them forever."""

import errno
import gc
import multiprocessing
import multiprocessing.synchronize
import os
import resource
import signal
import subprocess
import sys
import time

import cv2
import pytest
import torch

from dsanet.datasets import VideoDataset, build_dataloader
from dsanet.datasets.transforms import DecodeVideo, OpenVideo, PackInputs, SampleSnippets, Transform
from dsanet.datasets.workers import STOPPED_LIMIT_S, WatchedLoader, init_worker, start_workers
from dsanet.utils.machine_faults import MachineError, explain_shortage
from dsanet.utils.processes import is_alive, process_state
from tests.datasets.test_loader import dataset, root  # noqa: F401


class InsideOfWorkers(torch.utils.data.Dataset):
    """Samples are facts about the process that loads them."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        return os.getpid(), torch.get_num_threads(), cv2.getNumThreads()


def test_workers_have_one_thread_and_ignore_signals(dataset):  # noqa: F811
    assert build_dataloader(dataset, 1, 1, training=False).persistent_workers
    assert not build_dataloader(dataset, 1, 0, training=False).persistent_workers
    loader = WatchedLoader(
        InsideOfWorkers(), batch_size=None, num_workers=1, worker_init_fn=init_worker, persistent_workers=True
    )
    start_workers(loader)
    seen = [tuple(sample) for sample in [*loader, *loader]]
    assert len(set(seen)) == 1
    worker, *threads = seen[0]
    assert threads == [1, 1]
    assert worker != os.getpid()
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


class GarbageCollection(torch.utils.data.Dataset):
    """Samples are the numbers of objects that are excluded from garbage collection, and included in it."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return gc.get_freeze_count(), len(gc.get_objects())


@pytest.mark.parametrize('was_frozen', [False, True])
def test_workers_never_collect_objects_of_the_run(was_frozen):
    assert gc.get_freeze_count() == 0
    num_objects = len(gc.get_objects())
    if was_frozen:
        gc.freeze()
    try:
        loader = WatchedLoader(GarbageCollection(), batch_size=None, num_workers=1)
        start_workers(loader)
        assert (gc.get_freeze_count() > 0) == was_frozen
        for frozen, collected in loader:
            assert frozen > 0.9 * num_objects
            assert collected < 0.1 * num_objects
    finally:
        gc.unfreeze()


HOST = """
import multiprocessing, signal, sys, time
from pathlib import Path

folder = Path(sys.argv[1])

def clean_up(number, frame):
    (folder / 'child').write_text('cleaned up')
    sys.exit()

def work():
    signal.signal(signal.SIGTERM, clean_up)
    (folder / 'child').write_text('running')
    time.sleep(60)

def wait_for(name):
    while not (folder / name).exists():
        time.sleep(0.01)

multiprocessing.Process(target=work, daemon=True).start()
wait_for('child')

import ctypes, torch
import dsanet.apis
from dsanet.datasets.loader import ShardSampler
from dsanet.datasets.workers import WatchedLoader, init_worker, start_workers

class Stuck(torch.utils.data.Dataset):
    def __getitem__(self, index):
        if index:
            wait_for('first sample')
            (folder / f'stuck {index}').touch()
            ctypes.PyDLL(None).sleep(100)  # keeps the GIL, so that no thread of the worker can answer a signal
        return index

loader = WatchedLoader(
    Stuck(), sampler=ShardSampler(9, 1, 0, 1), num_workers=2, worker_init_fn=init_worker, persistent_workers=True
)
start_workers(loader)
next(iter(loader))
(folder / 'first sample').touch()
wait_for('stuck 1')
wait_for('stuck 2')
print(*(worker.pid for worker in loader._iterator._workers))
ctypes.pythonapi.Py_IncRef(ctypes.py_object(loader))  # keeps the loader alive, so that nothing shuts its workers down
"""


@pytest.mark.sweep
def test_exit_kills_our_workers_and_no_others(tmp_path):
    command = [sys.executable, '-c', HOST, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (tmp_path / 'child').read_text() == 'cleaned up'
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == 2
    assert not any(is_alive(pid) for pid in workers)
    assert not done.stderr


@pytest.mark.parametrize('training', [True, False])
def test_workers_started_early_wait_for_work(dataset, training):  # noqa: F811
    loaders = [build_dataloader(dataset, 2, 1, training=training) for _ in range(2)]
    start_workers(loaders[1])
    workers = list(loaders[1]._iterator._workers)
    assert all(worker.is_alive() for worker in workers)
    assert not loaders[1]._iterator._tasks_outstanding
    for epoch in range(2):
        if training:
            for loader in loaders:
                loader.sampler.set_epoch(epoch)
        one, two = ([batch['inputs'] for batch in loader] for loader in loaders)
        assert len(one) == len(two) > 1
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert loaders[1]._iterator._workers == workers
    start_workers(build_dataloader(dataset, 2, 0, training=training))  # none to start


class Numbers(torch.utils.data.Dataset):
    """Tensors of a loader whose worker does something at an index."""

    def __init__(self, action, at=2):
        self.action = action
        self.at = at

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.action() if index == self.at else torch.full((3,), index)


class Unsendable:
    def __reduce__(self):
        raise RuntimeError('unable to allocate shared memory(shm) for file </x>: No space left on device (28)')


def load(action, time_limit=60.0):
    loader = WatchedLoader(Numbers(action), None, num_workers=1, worker_init_fn=init_worker, persistent_workers=True)
    loader.time_limit = time_limit
    return loader, iter(loader)


def wait_for_error(batches):
    started = time.monotonic()
    with pytest.raises((MachineError, RuntimeError)) as caught:
        list(batches)
    return explain_shortage(caught.value), time.monotonic() - started


def test_batch_that_cannot_be_sent_is_an_error():
    text, seconds = wait_for_error(load(lambda: [torch.zeros(1000), Unsendable()])[1])
    assert '/dev/shm' in text
    assert '4 kB' in text
    assert '--shm-size' in text
    assert seconds < 10
    text, _ = wait_for_error(load(lambda: lambda: None)[1])  # a function cannot be pickled
    assert 'cannot be sent' in text


def test_wait_for_a_batch_has_a_limit():
    loader, batches = load(lambda: time.sleep(60), time_limit=1)
    text, seconds = wait_for_error(batches)
    assert str(loader.workers[0].pid) in text
    assert 'runtime.timeout_minutes' in text
    assert 1 <= seconds < 10


def test_stopped_worker_ends_the_wait(monkeypatch):
    assert STOPPED_LIMIT_S < 60
    monkeypatch.setattr('dsanet.datasets.workers.STOPPED_LIMIT_S', 1)
    loader, batches = load(lambda: os.kill(os.getpid(), signal.SIGSTOP))
    text, seconds = wait_for_error(batches)
    assert str(loader.workers[0].pid) in text
    assert 'SIGSTOP' in text
    assert seconds < 10
    started = time.monotonic()
    loader.kill_workers()
    assert not is_alive(loader.workers[0].pid)
    assert time.monotonic() - started < 4


def test_frozen_workers_do_not_delay_the_end():
    started = time.monotonic()
    loaders = [load(list)[0] for _ in range(2)]
    pids = [loader.workers[0].pid for loader in loaders]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        while process_state(pid) != 'T':
            time.sleep(0.01)
    for loader in loaders:
        loader._iterator._shutdown_workers()  # as its destructor does
    assert time.monotonic() - started < 4
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize(('number', 'part'), [(signal.SIGKILL, 'Killed'), (signal.SIGBUS, '/dev/shm')])
def test_killed_worker_is_explained(number, part):
    text, seconds = wait_for_error(load(lambda: os.kill(os.getpid(), number))[1])
    assert part in text
    assert seconds < 10


def test_killed_worker_ends_only_a_wait():
    before = signal.getsignal(signal.SIGCHLD)
    loader, batches = load(lambda: time.sleep(60))
    next(batches)
    loader.workers[0].kill()
    loader.workers[0].join()
    time.sleep(0.1)  # a handler of the signal would raise an error here, as in a training step
    assert signal.getsignal(signal.SIGCHLD) is before
    text, seconds = wait_for_error(batches)
    assert str(loader.workers[0].pid) in text
    assert seconds < 4


def test_function_called_while_waiting_may_end_it():
    loader, batches = load(lambda: time.sleep(60))
    calls = []

    def end_wait():
        calls.append(time.monotonic())
        if len(calls) == 2:
            raise KeyboardInterrupt

    loader.while_waiting = end_wait
    with pytest.raises(KeyboardInterrupt):
        list(batches)
    assert len(calls) == 2


def test_failed_start_leaves_no_workers(dataset, monkeypatch):  # noqa: F811
    started = []
    start = multiprocessing.context.ForkProcess.start

    def fail_at_second(process):
        if started:
            raise OSError(errno.EAGAIN, 'no more processes')
        start(process)
        started.append(process)

    monkeypatch.setattr(multiprocessing.context.ForkProcess, 'start', fail_at_second)
    with pytest.raises(MachineError):
        start_workers(build_dataloader(dataset, 2, 2, training=True))
    assert not started[0].is_alive()


def test_shared_memory_for_no_semaphore_is_explained(monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, '__init__', fail)
    with pytest.raises(MachineError) as caught:  # also of loaders that are started when iterated
        load(list)
    assert '--shm-size' in explain_shortage(caught.value)


def limit_files():
    first_free = os.open(os.devnull, os.O_RDONLY)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, first_free))


def run_out_of_memory():
    raise MemoryError


class Lack(Transform):
    def __init__(self, action):
        self.action = action

    def __call__(self, record):
        self.action()
        return record


@pytest.mark.parametrize(('action', 'part'), [(limit_files, 'ulimit -n'), (run_out_of_memory, 'memory')])
def test_shortage_in_worker_is_no_bad_sample(root, action, part):  # noqa: F811
    steps = [Lack(action), OpenVideo('opencv'), SampleSnippets(1, 2), DecodeVideo(), PackInputs()]
    videos = VideoDataset(steps, str(root / 'list.txt'), str(root))
    loader = build_dataloader(videos, 2, 1, on_error='resample', training=True)
    text, _ = wait_for_error(loader)
    assert part in text
    assert 'Traceback' not in text
    assert 'list.txt:' in text

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dsanet.utils import file_lock
from dsanet.utils.file_lock import FileLock, LockHeldError

AT_ONCE = 10  # seconds on a busy machine; a lock that must become stale takes 30
ELSEWHERE = {'id': 'x', 'host': 'node7', 'pid': 4242, 'started': 5, 'place': 'node7', 'since': 'noon', 'job': ['', '']}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock file to be; heartbeats are fast."""
    for name, seconds in (('HEARTBEAT_S', 0.05), ('POLL_S', 0.02)):
        monkeypatch.setattr(file_lock, name, seconds)
    return tmp_path / 'running.json'


@pytest.fixture
def soon_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_lock, 'STALE_S', 0.4)


def acquire(file: Path) -> FileLock:
    lock = FileLock(file, file.parent)
    lock.acquire()
    return lock


def test_second_lock_names_the_first(file: Path) -> None:
    lock = acquire(file)
    owner = json.loads(file.read_text())
    assert owner['pid'] == os.getpid()
    with pytest.raises(LockHeldError) as refused:
        acquire(file)
    for token in (file.parent, owner['host'], os.getpid(), owner['since']):
        assert str(token) in str(refused.value)
    lock.release()
    assert not list(file.parent.iterdir())
    acquire(file).release()


def test_lock_of_killed_process_is_taken_at_once(file: Path) -> None:
    code = f"""
import os, pathlib, signal
from dsanet.utils.file_lock import FileLock
FileLock(pathlib.Path({str(file)!r}), pathlib.Path('x')).acquire()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode < 0
    assert file.is_file()
    started = time.monotonic()
    acquire(file)
    assert time.monotonic() - started < AT_ONCE


def test_reused_process_id_holds_nothing(file: Path) -> None:
    acquire(file)
    owner = json.loads(file.read_text())
    file.write_text(json.dumps({**owner, 'started': owner['started'] - 1}))
    assert json.loads(acquire(file).file.read_text())['id'] != owner['id']


def test_running_process_keeps_a_lock_without_heartbeat(file: Path) -> None:
    acquire(file)
    os.utime(file, (1, 1))
    with pytest.raises(LockHeldError):
        acquire(file)


def test_lock_of_other_machine_is_taken_when_stale(file: Path, soon_stale: None) -> None:
    file.write_text(json.dumps(ELSEWHERE))
    started = time.monotonic()
    acquire(file)
    assert time.monotonic() - started > 0.3


@pytest.mark.parametrize('seconds', [1, 4e9], ids=['long ago', 'in the future'])
def test_time_of_a_foreign_lock_decides_nothing(file: Path, soon_stale: None, seconds: float) -> None:
    file.write_text(json.dumps(ELSEWHERE))
    os.utime(file, (seconds, seconds))
    started = time.monotonic()
    acquire(file)
    assert time.monotonic() - started > 0.3
    assert [one.name for one in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize('first', [1, 4e9], ids=['slow clock', 'fast clock'])
def test_lock_of_other_machine_holds_while_it_beats(file: Path, first: float) -> None:
    file.write_text(json.dumps(ELSEWHERE))
    os.utime(file, (first, first))
    has_ended = threading.Event()

    def beat() -> None:
        seconds = first
        while not has_ended.wait(0.05):
            seconds += 1
            os.utime(file, (seconds, seconds))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(LockHeldError, match=r'\b4242\b.*\bnode7\b.*\bnoon\b'):
            acquire(file)
    finally:
        has_ended.set()
        thread.join()


def test_requeued_job_takes_its_own_lock(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(json.dumps({**ELSEWHERE, 'job': ['77', '']}))
    monkeypatch.setenv('SLURM_JOB_ID', '77')
    monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
    started = time.monotonic()
    acquire(file)
    assert time.monotonic() - started < AT_ONCE


def test_step_of_the_same_job_waits(file: Path, soon_stale: None, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(json.dumps({**ELSEWHERE, 'job': ['77', '']}))
    monkeypatch.setenv('SLURM_JOB_ID', '77')
    monkeypatch.delenv('SLURM_RESTART_COUNT', raising=False)
    started = time.monotonic()
    acquire(file)
    assert time.monotonic() - started > 0.3


@pytest.mark.parametrize('content', ['', '{"i', '{"id": "x", "ho', '\0' * 99])
def test_incomplete_lock_blocks_only_until_stale(file: Path, soon_stale: None, content: str) -> None:
    file.write_text(content)
    acquire(file)
    assert json.loads(file.read_text())['pid'] == os.getpid()


@pytest.mark.parametrize('content', ['{"gpu": 3}', '[1, 2]', '7', 'my notes', '{"gpu": '])
def test_file_of_the_user_is_kept(file: Path, content: str) -> None:
    file.write_text(content)
    os.utime(file, (1, 1))
    with pytest.raises(ValueError, match='running.json'):
        acquire(file)
    assert file.read_text() == content


@pytest.mark.parametrize('kind', ['folder', 'pipe', 'link', 'broken link'])
def test_what_is_no_file_is_kept(file: Path, kind: str) -> None:
    target = file.with_name('notes.txt')
    target.write_text('mine')
    if kind == 'folder':
        file.mkdir()
    elif kind == 'pipe':
        os.mkfifo(file)
    else:
        file.symlink_to(target if kind == 'link' else file.with_name('nothing'))
    before = file.lstat()
    with pytest.raises(ValueError, match='running.json'):
        acquire(file)
    assert file.lstat() == before
    assert target.read_text() == 'mine'


def test_release_removes_remains_of_killed_processes(file: Path) -> None:
    remains = [file.with_name(f'.{file.name}.{name}') for name in ('a', 'b')]
    others = [file.with_name('.other.json.a'), file.with_name('x.json')]
    lock = acquire(file)
    for one in remains + others:
        one.touch()
    lock.release()
    assert sorted(file.parent.iterdir()) == sorted(others)


def test_late_heartbeat_leaves_no_lock(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_in_beat, may_go_on = threading.Event(), threading.Event()
    utime = os.utime

    def slow_utime(path: Path) -> None:
        is_in_beat.set()
        assert may_go_on.wait(10)
        utime(path)

    lock = acquire(file)
    lock.start_heartbeat()
    monkeypatch.setattr(file_lock.os, 'utime', slow_utime)
    assert is_in_beat.wait(10)
    lock.release()
    assert not file.exists()
    may_go_on.set()
    assert lock._heart is not None
    lock._heart.join(10)
    assert not file.exists()


def test_heartbeat_renews_and_rewrites_the_file(file: Path) -> None:
    lock = acquire(file)
    os.utime(file, (1, 1))
    lock.start_heartbeat()
    assert file.stat().st_mtime > 1
    file.unlink()
    deadline = time.monotonic() + 5
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert lock.taken_by() is None
    lock.release()
    assert not file.exists()


def test_holder_notices_that_another_took_over(file: Path) -> None:
    lock = acquire(file)
    lock.start_heartbeat()
    file.write_text(json.dumps(ELSEWHERE))
    os.utime(file, (1, 1))
    time.sleep(0.2)
    assert '4242' in lock.taken_by()
    assert file.stat().st_mtime == 1, 'the lock of another is not renewed'
    with pytest.raises(LockHeldError, match='4242'):
        lock.start_heartbeat()
    lock.release()
    assert json.loads(file.read_text()) == ELSEWHERE


def test_vanished_folder_does_not_end_the_holder(file: Path) -> None:
    lock = acquire(file)
    lock.start_heartbeat()
    file.parent.rename(file.parent.with_name('moved'))
    time.sleep(0.2)
    assert lock.taken_by() is None
    lock.release()


@pytest.mark.parametrize('stale', [ELSEWHERE, None], ids=['of a machine', 'incomplete'])
def test_slow_process_does_not_take_a_renewed_lock(
    file: Path, soon_stale: None, monkeypatch: pytest.MonkeyPatch, stale: dict | None
) -> None:
    """A suspended process has found a stale lock; when it continues, a second holds the lock and a third waits."""
    file.write_text(json.dumps(stale) if stale else '')
    take_over, others = FileLock._take_over, []

    def stopped_take_over(lock: FileLock, found: file_lock._Found) -> bool:
        monkeypatch.setattr(FileLock, '_take_over', take_over)
        others.append(acquire(file))
        return take_over(lock, found)

    monkeypatch.setattr(FileLock, '_take_over', stopped_take_over)
    for _ in range(2):  # the slow one, then a third
        with pytest.raises(LockHeldError):
            acquire(file)
    assert [lock.taken_by() for lock in others] == [None]
    assert list(file.parent.iterdir()) == [file]


def test_claim_of_a_killed_process_is_passed_on(file: Path, soon_stale: None) -> None:
    file.write_text(json.dumps(ELSEWHERE))
    claim = file.with_name(f'.{file.name}.{ELSEWHERE["id"]}')
    claim.write_text(json.dumps({**ELSEWHERE, 'id': 'y'}))
    lock = acquire(file)
    with pytest.raises(LockHeldError):
        acquire(file)
    lock.release()
    assert not list(file.parent.iterdir())


def test_claim_that_was_claimed_is_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow process does not interrupt the chain of claims of the one that has claimed its lock."""
    file.write_text(json.dumps(ELSEWHERE))
    lock = FileLock(file, file.parent)
    create, claim = FileLock._create, file.with_name(f'.{file.name}.{ELSEWHERE["id"]}')
    later = file.with_name(f'.{file.name}.{lock._owner["id"]}')

    def slow_create(lock: FileLock, name: Path) -> bool:
        created = create(lock, name)
        later.write_text(json.dumps({**ELSEWHERE, 'id': 'y'}))
        return created

    monkeypatch.setattr(FileLock, '_create', slow_create)
    assert not lock._take_over(file_lock._read(file))
    assert claim.is_file()


def test_claim_of_a_running_process_holds(file: Path) -> None:
    """The process has claimed the lock, and was stopped before it renamed the claim."""
    owner = json.loads(acquire(file).file.read_text())
    file.rename(file.with_name(f'.{file.name}.x'))
    file.write_text(json.dumps(ELSEWHERE))
    with pytest.raises(LockHeldError, match=str(owner['pid'])):
        acquire(file)


def _try(file: Path, barrier: multiprocessing.Barrier, results: multiprocessing.Queue) -> None:
    barrier.wait()
    try:
        acquire(file)
        results.put(True)
    except LockHeldError:
        results.put(False)
    barrier.wait()  # the holder stays alive until all have tried


@pytest.mark.parametrize('stale', [None, ELSEWHERE])
def test_of_many_processes_one_gets_the_lock(file: Path, soon_stale: None, stale: dict | None) -> None:
    for _ in range(3):
        if stale is not None:
            file.write_text(json.dumps(stale))
            os.utime(file, (1, 1))
        context = multiprocessing.get_context('fork')
        barrier, results = context.Barrier(6), context.Queue()
        processes = [context.Process(target=_try, args=(file, barrier, results)) for _ in range(6)]
        for process in processes:
            process.start()
        assert sum(results.get(timeout=30) for _ in processes) == 1
        for process in processes:
            process.join(30)
        file.unlink()

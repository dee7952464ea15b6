"""Ctrl-C ends a program with one line and status 130 at any moment; other errors keep their traceback."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from dsanet.utils.signals import block_sigint, call_every, run_interruptible

START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # the shell may ignore it
from dsanet.utils.signals import run_interruptible
"""
INTERRUPT = 'signal.raise_signal(signal.SIGINT)'


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-c', START + code], capture_output=True, text=True, check=False)


IMPORTER = f"""
class Interrupt:
    def find_spec(self, name, *_):
        if name in ('numpy', 'tqdm', 'cv2', 'av', 'torch'):
            {INTERRUPT}
sys.meta_path.insert(0, Interrupt())
"""


def test_interrupt_during_import_exits_at_once() -> None:
    main = """
def main():
    try:
        import torch
    finally:
        print('raised')
sys.exit(run_interruptible(main))
"""
    done = run(IMPORTER + main)
    assert (done.returncode, done.stdout, done.stderr.count('\n')) == (130, '', 1)


MAIN = """
def main():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        {}
sys.exit(run_interruptible(main, 'interrupted; continue'))
"""


def test_interrupted_program_cleans_up_and_prints_hint() -> None:
    done = run(MAIN.format('print("cleaned up")'))
    assert (done.returncode, done.stdout, done.stderr) == (130, 'cleaned up\n', 'interrupted; continue\n')


def test_second_interrupt_prints_no_traceback() -> None:
    done = run(MAIN.format(INTERRUPT))
    assert (done.returncode, done.stderr) == (130, 'interrupted; continue\n')


PROGRAM = """
import atexit, weakref
from dsanet.utils.signals import run_program
"""


@pytest.mark.parametrize(
    'code',
    [
        'def main(): pass\natexit.register(lambda: signal.raise_signal(signal.SIGINT))',
        'class Deleted:\n def __del__(self): signal.raise_signal(signal.SIGINT)\ndef main():\n Deleted()',
    ],
)
def test_interrupt_where_exceptions_are_ignored_exits(code: str) -> None:
    done = run(f'{PROGRAM}{code}\nsys.exit(run_program(main))')
    assert done.returncode == 130
    assert done.stderr in ('', 'interrupted\n')


def test_launched_process_leaves_the_report_to_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', 'x')
    done = run(MAIN.format('pass'))
    assert (done.returncode, done.stderr) == (130, '')


def test_function_is_called_during_a_wait() -> None:
    times: list[float] = []

    def end() -> None:
        times.append(time.monotonic())
        if len(times) == 3:
            raise TimeoutError('the third call')

    begin = time.monotonic()
    with pytest.raises(TimeoutError), call_every(0.02, end):
        threading.Event().wait(10)
    assert len(times) == 3
    assert times[2] - begin >= 0.055  # three intervals; the first call may be late
    time.sleep(0.05)
    assert len(times) == 3


def test_alarms_of_the_program_are_left_alone() -> None:
    before = signal.signal(signal.SIGALRM, handler := lambda *_: None)
    try:
        with call_every(0.01, pytest.fail):
            time.sleep(0.03)
            assert signal.getsignal(signal.SIGALRM) is handler
            assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_handler_is_restored() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run_interruptible(lambda: None)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_exits_are_unchanged() -> None:
    assert run_interruptible(lambda: 3) == 3
    assert run_interruptible(lambda: None) == 0
    with pytest.raises(ZeroDivisionError):
        run_interruptible(lambda: 1 // 0)
    with pytest.raises(SystemExit, match='2'):
        run_interruptible(lambda: sys.exit(2))


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_interruptible(lambda: signal.raise_signal(signal.SIGINT)) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt_itself(connection: Connection) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    connection.send(signal.SIGINT in signal.sigpending())


def test_interrupt_is_blocked_in_new_processes() -> None:
    mine, other = multiprocessing.Pipe()
    process = multiprocessing.Process(target=interrupt_itself, args=(other,))
    with block_sigint():
        process.start()
    assert mine.recv(), 'the signal is pending'
    process.join()
    assert process.exitcode == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_signals_module_imports_nothing_heavy() -> None:
    done = run('assert not {"torch", "numpy", "av", "cv2"} & set(sys.modules), sorted(sys.modules)')
    assert (done.returncode, done.stderr) == (0, '')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_termination_removes_temporary_files(number: signal.Signals, tmp_path: Path) -> None:
    code = f"""
import os, signal, tempfile, time
from dsanet.utils.signals import signals_exit
signal.signal({int(number)}, signal.SIG_DFL)
with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}), signals_exit():
    os.kill(os.getpid(), {int(number)})
    time.sleep(30)
"""
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 128 + number
    assert not list(tmp_path.iterdir())

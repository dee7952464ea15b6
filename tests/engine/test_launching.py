"""The launcher, called in this process, with programs that start quickly because they do not import torch."""

import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from dsanet.engine import launching
from dsanet.engine.launching import LaunchCfg, read_environment
from dsanet.engine.rendezvous import find_interface, local_address
from tests.engine.test_rendezvous import free_port

CATCHABLE = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
START = """
import os, signal, sys, time
rank, attempt = (int(os.environ[name]) for name in ('RANK', 'TORCHELASTIC_RESTART_COUNT'))
"""
REPORT = """
import json
def report(text, **extra):
    message = {'message': text, 'extraInfo': {'py_callstack': text, 'timestamp': str(int(time.time())), **extra}}
    file = os.environ['TORCHELASTIC_ERROR_FILE']
    with open(file + '.part', 'w') as stream:
        stream.write(json.dumps({'message': message}))
    os.replace(file + '.part', file)
"""


@pytest.fixture(autouse=True)
def _restore_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the signal handlers and the variables that the launcher sets."""
    handlers = {number: signal.getsignal(number) for number in CATCHABLE}
    for name in ('GLOO_SOCKET_IFNAME', 'TORCHELASTIC_SIGNALS_TO_HANDLE'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _show_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    caplog.set_level(logging.WARNING)


def run(code: str, launch: LaunchCfg) -> tuple[int, str]:
    """Launch a program, which can use the variables ``rank`` and ``attempt``."""
    return launching.run(launch, [sys.executable, '-c', START + code])


def numbers(text: str) -> list[int]:
    """Return the numbers in the first line of a message: ranks, exit statuses, seconds."""
    return [int(number) for number in re.findall(r'(?<![\w.])\d+(?![\w.])', text.split('\n')[0])]


def send_soon(number: signal.Signals, sign: Path, delay: float = 0) -> None:
    """Send this process a signal ``delay`` seconds after the file ``sign`` exists."""

    def send() -> None:
        deadline = time.monotonic() + 30
        while not sign.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(delay)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


# -- environment -------------------------------------------------------------------------------------------------------


def test_single_machine_takes_a_free_port() -> None:
    launch = read_environment(2, {'MASTER_ADDR': 'left.over.from.something.else'})
    assert launch == LaunchCfg(gpus=2, master_addr='127.0.0.1', port=0)
    assert launch.stop_timeout >= 120  # an iteration and a checkpoint


def test_environment_of_several_machines_is_read() -> None:
    environment = {'NNODES': '3', 'NODE_RANK': '1', 'MASTER_ADDR': '10.0.0.1'}
    assert read_environment(8, environment) == LaunchCfg(8, 3, 1, '10.0.0.1', 29500)
    more = {'PORT': '4321', 'MAX_RESTARTS': '3', 'JOIN_TIMEOUT': '60', 'STOP_TIMEOUT': '200'}
    assert read_environment(8, environment | more) == LaunchCfg(8, 3, 1, '10.0.0.1', 4321, 3, 60, 200)


def test_several_machines_require_rank_and_master_address() -> None:
    for environment in ({'NODE_RANK': '0'}, {'MASTER_ADDR': '10.0.0.1'}):
        with pytest.raises(ValueError, match='NNODES=2 .*NODE_RANK.*MASTER_ADDR'):
            read_environment(8, {'NNODES': '2', **environment})


@pytest.mark.parametrize(
    ('environment', 'text'),
    [
        ({'PORT': 'http'}, 'PORT=http .*0 to 65535'),
        ({'MAX_RESTARTS': '-1'}, 'MAX_RESTARTS=-1 .*0'),
        ({'PORT': '65536'}, 'PORT=65536 .*65535'),
        ({'NNODES': '2', 'NODE_RANK': '0', 'MASTER_ADDR': 'x', 'PORT': '0'}, 'PORT=0 .*1 to 65535'),
        ({'NNODES': '0', 'NODE_RANK': '0', 'MASTER_ADDR': 'a'}, 'NNODES=0 .*1'),
        ({'JOIN_TIMEOUT': '0'}, 'JOIN_TIMEOUT=0 .*1'),
        ({'NODE_RANK': '1'}, 'NODE_RANK=1 .*NNODES=1'),
    ],
)
def test_invalid_numbers_are_rejected(environment: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_environment(1, environment)


# -- end of a run ------------------------------------------------------------------------------------------------------


def test_processes_get_rank_and_network_interface(tmp_path: Path) -> None:
    code = f"open('{tmp_path}/' + str(rank), 'w').write(os.environ.get('GLOO_SOCKET_IFNAME', ''))"
    assert run(code, LaunchCfg(2)) == (0, '')
    names = [(tmp_path / str(rank)).read_text() for rank in (0, 1)]
    assert names == [find_interface('127.0.0.1') or ''] * 2


def test_traceback_of_first_failure_is_shown(tmp_path: Path) -> None:
    code = f"""{REPORT}
if rank == 1:
    report('Traceback ...\\nValueError: boom')
    open('{tmp_path}/reported', 'w')
    time.sleep(0.5)  # the others exit before
    sys.exit(1)
while not os.path.exists('{tmp_path}/reported'):
    time.sleep(0.01)
report(f'process {{rank}} lost contact', lost_contact=True)
sys.exit(1)"""
    status, text = run(code, LaunchCfg(3))
    assert (status, numbers(text)) == (1, [1])
    assert text.split('\n')[1:] == ['Traceback ...', 'ValueError: boom']


def test_usage_error_wins_over_earlier_exits(tmp_path: Path) -> None:
    code = f"""{REPORT}
if rank == 1:
    open('{tmp_path}/log', 'a').write('x')
    report('error: no such key')
    open('{tmp_path}/reported', 'w')
    time.sleep(0.5)
    sys.exit(2)
while not os.path.exists('{tmp_path}/reported'):
    time.sleep(0.01)
report('process 0 lost contact', lost_contact=True)
sys.exit(1)"""
    assert run(code, LaunchCfg(2, max_restarts=3)) == (2, 'error: no such key')
    assert (tmp_path / 'log').read_text() == 'x'


def test_hanging_process_with_message_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, 'REPORTED_EXIT_TIMEOUT_S', 0.2)
    code = f"""{REPORT}
if rank == 1:
    report('process 1 lost contact', lost_contact=True)
    open('{tmp_path}/reported', 'w')
    time.sleep(60)
while not os.path.exists('{tmp_path}/reported'):
    time.sleep(0.01)
sys.exit(4)"""
    started = time.monotonic()
    status, text = run(code, LaunchCfg(2))
    assert (status, numbers(text)) == (1, [0, 4])
    assert time.monotonic() - started < 20


def test_lost_contact_alone_is_the_reason() -> None:
    code = f"{REPORT}\nreport(f'nothing from 7', lost_contact=True)\nsys.exit(1)"
    assert run(code, LaunchCfg(1)) == (1, 'nothing from 7')


def test_killed_process_ends_the_others(tmp_path: Path) -> None:
    code = f"""
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
open('{tmp_path}/0', 'w')
time.sleep(60)"""
    started = time.monotonic()
    status, text = run(code, LaunchCfg(2))
    assert time.monotonic() - started < 30
    assert (status, numbers(text)) == (1, [1])
    assert 'SIGKILL' in text


@pytest.mark.faults
def test_frozen_process_is_killed_after_another_failed() -> None:
    code = """
if rank == 1:
    time.sleep(1)
    sys.exit(5)
os.kill(os.getpid(), signal.SIGSTOP)"""
    started = time.monotonic()
    status, text = run(code, LaunchCfg(2, stop_timeout=1))
    assert (status, numbers(text)) == (1, [1, 5])
    assert time.monotonic() - started < 20


@pytest.mark.faults
def test_straggler_after_the_others_ends_the_run() -> None:
    status, text = run('time.sleep(60 * rank)', LaunchCfg(2, stop_timeout=1))
    assert (status, text.startswith('error: ')) == (1, True)
    assert re.search(r'\b1 .*STOP_TIMEOUT=1\b', text)


def test_all_processes_restart_after_a_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = f"""
open('{tmp_path}/log', 'a').write(f'{{attempt}} ')
if attempt < 2:
    time.sleep(60 * (1 - rank))
    os.kill(os.getpid(), signal.SIGKILL)"""
    assert run(code, LaunchCfg(2, max_restarts=3)) == (0, '')
    assert sorted((tmp_path / 'log').read_text().split()) == ['0', '0', '1', '1', '2', '2']
    assert [numbers(message) for message in caplog.messages] == [[1, 1, 3], [1, 2, 3]]
    assert all('SIGKILL' in message for message in caplog.messages)


@pytest.mark.faults
def test_restarts_are_limited(tmp_path: Path) -> None:
    code = f"open('{tmp_path}/log', 'a').write('x'); sys.exit(4)"
    status, text = run(code, LaunchCfg(1, max_restarts=1))
    assert (status, numbers(text)) == (1, [0, 4])
    assert (tmp_path / 'log').read_text() == 'xx'


def test_usage_errors_are_not_restarted(tmp_path: Path) -> None:
    assert run('sys.exit(2)', LaunchCfg(1)) == (2, ''), 'argparse has printed the message'
    code = f"{REPORT}\nopen('{tmp_path}/log', 'a').write('x'); report('error: no such key'); sys.exit(2)"
    assert run(code, LaunchCfg(1, max_restarts=3)) == (2, 'error: no such key')
    assert (tmp_path / 'log').read_text() == 'x'


@pytest.mark.parametrize(('end', 'status'), [('sys.exit(143)', 143), ('sys.exit(130)', 130), ('stop()', 143)])
def test_stopped_processes_are_not_restarted(end: str, status: int, tmp_path: Path) -> None:
    code = f"""
stop = lambda: os.kill(os.getpid(), signal.SIGTERM)
open('{tmp_path}/log', 'a').write('x')
{end}"""
    ended, text = run(code, LaunchCfg(1, max_restarts=3))
    assert ended == status
    assert signal.Signals(status - 128).name in text
    assert (tmp_path / 'log').read_text() == 'x'


@pytest.mark.parametrize('end', ['sys.exit(143)', 'os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)'])
def test_printed_stop_is_not_repeated(end: str) -> None:
    code = f"{REPORT}\nif rank == 0:\n    report('stopped', is_printed=True)\n    {end}\ntime.sleep(60)"
    assert run(code, LaunchCfg(2)) == (143, '')


def test_stop_wins_over_lost_contact(tmp_path: Path) -> None:
    code = f"""{REPORT}
open('{tmp_path}/' + str(rank), 'w')
while not os.path.exists('{tmp_path}/' + str(1 - rank)):
    time.sleep(0.01)
if rank == 0:
    os._exit(143)  # as run_main does
time.sleep(0.05)  # to exit after rank 0
report('process 1 lost contact', lost_contact=True)
sys.exit(1)"""
    status, text = run(code, LaunchCfg(2, max_restarts=1))
    assert status == 143
    assert 'SIGTERM' in text


@pytest.mark.parametrize('number', [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.faults)])
def test_signals_are_forwarded_and_processes_exit(number: signal.Signals, tmp_path: Path) -> None:
    code = f"""
def save(*_):
    time.sleep(1.5)
    open('{tmp_path}/saved', 'w')
    sys.exit(9)
signal.signal({int(number)}, save)
open('{tmp_path}/started', 'w')
time.sleep(60)"""
    send_soon(number, tmp_path / 'started')
    status, text = run(code, LaunchCfg(1, max_restarts=3))
    assert status == 128 + number
    assert number.name in text
    assert (tmp_path / 'saved').exists()


@pytest.mark.faults
def test_stop_timeout_ends_in_a_kill(tmp_path: Path) -> None:
    code = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open('{tmp_path}/started', 'w').write(str(os.getpid()))
time.sleep(60)"""
    send_soon(signal.SIGTERM, tmp_path / 'started')
    started = time.monotonic()
    assert run(code, LaunchCfg(1, stop_timeout=1))[0] == 143
    assert time.monotonic() - started < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / 'started').read_text()), 0)


@pytest.mark.faults
@pytest.mark.parametrize('exits', [True, False])
def test_second_signal_is_sigterm_third_kills(exits: bool, tmp_path: Path) -> None:
    code = f"""
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: {exits} and sys.exit(0))
open('{tmp_path}/started', 'w').write(str(os.getpid()))
while True:
    time.sleep(0.1)"""
    send_soon(signal.SIGINT, tmp_path / 'started')
    send_soon(signal.SIGINT, tmp_path / 'started', delay=1)
    if not exits:
        send_soon(signal.SIGINT, tmp_path / 'started', delay=2)
    started = time.monotonic()
    assert run(code, LaunchCfg(1))[0] == 130
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / 'started').read_text()), 0)


@pytest.mark.parametrize('name', ['SIGHUP', 'SIGINT'])
def test_ignored_signals_stay_ignored(name: str) -> None:
    number = signal.Signals[name]
    for other in CATCHABLE:
        signal.signal(other, signal.SIG_IGN if other == number else signal.SIG_DFL)
    launching.handle_signals()
    assert signal.getsignal(number) == signal.SIG_IGN
    handled = os.environ['TORCHELASTIC_SIGNALS_TO_HANDLE'].split(',')
    assert handled == [other.name for other in CATCHABLE if other != number]
    signal.signal(number, signal.SIG_DFL)
    launching.handle_signals()
    assert name in os.environ['TORCHELASTIC_SIGNALS_TO_HANDLE']


# -- several machines --------------------------------------------------------------------------------------------------


def test_missing_machines_are_named_within_timeout() -> None:
    launch = LaunchCfg(1, num_nodes=3, port=free_port(), join_timeout=2)
    started = time.monotonic()
    status, text = run('pass', launch)
    assert status == 1
    assert re.search(r'JOIN_TIMEOUT=2\b.*NODE_RANK 1, 2 .*NNODES=3\b', text)
    assert time.monotonic() - started < 15


def test_unknown_host_name_is_a_usage_error() -> None:
    status, text = run('pass', LaunchCfg(1, num_nodes=2, node_rank=1, master_addr='no-such-host.invalid', port=1))
    assert status == 2
    assert "MASTER_ADDR='no-such-host.invalid'" in text


def test_master_address_may_belong_to_a_service() -> None:
    # 192.0.2.1 is reserved for documentation, so no machine has it.
    try:
        local_address('192.0.2.1', 1)
    except ConnectionError:
        pytest.skip('this machine has no network')
    assert run('pass', LaunchCfg(1, master_addr='192.0.2.1', port=free_port())) == (0, '')


# -- messages ----------------------------------------------------------------------------------------------------------


def failure(tmp_path: Path, rank: int, status: int, text: str | None = None, **extra: object) -> ProcessFailure:
    file = tmp_path / f'{rank}.json'
    if text is not None:
        file.write_text(json.dumps({'message': {'message': text, 'extraInfo': {'py_callstack': text, **extra}}}))
    return ProcessFailure(rank, pid=1, exitcode=status, error_file=str(file))


def test_earliest_failure_is_described(tmp_path: Path) -> None:
    failures = {
        0: failure(tmp_path, 0, 1, 'lost', timestamp='5', lost_contact=True),
        1: failure(tmp_path, 1, 1, 'late', timestamp='7', lost_contact=False),
        2: failure(tmp_path, 2, 1, 'early', timestamp='6', lost_contact=False),
    }
    assert launching.first_failure(failures)[0] == 2
    text = launching.describe_failures(failures, with_traceback=False)
    assert numbers(text) == [2]
    assert text.endswith('early')


def test_abort_hints_at_the_nccl_timeout(tmp_path: Path) -> None:
    text = launching.describe_failures({3: failure(tmp_path, 3, -signal.SIGABRT)})
    assert numbers(text) == [3]
    assert re.search('SIGABRT.*runtime.timeout_minutes', text)


@pytest.mark.parametrize(
    ('status', 'expected'), [(1, 1), (2, 2), (143, 143), (130, 130), (-15, 143), (-2, 130), (-9, 1), (77, 1)]
)
def test_exit_status_of_the_launcher(status: int, expected: int) -> None:
    assert launching.exit_status(status) == expected

import errno
import json
import logging
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import torch.distributed as dist
from torch._utils import ExceptionWrapper

from dsanet.datasets.transforms.base import SampleError
from dsanet.engine import failures
from dsanet.engine.stopping import Stopped
from dsanet.utils import distributed
from tests.as_processes import set_variables

GLOO = (
    '[/pytorch/gloo/transport/tcp/pair.cc:561] Connection closed by peer [10.0.0.2]:60632. This is typically caused by'
)


@pytest.mark.parametrize(
    ('error', 'expected'),
    [
        (RuntimeError(GLOO), True),
        (RuntimeError('[..] Timed out waiting 6000ms for recv, Gloo says'), True),
        (RuntimeError('Application timeout caused pair closure'), True),
        (dist.DistBackendError('NCCL error'), True),
        (RuntimeError('the loss became nan'), False),
        (ValueError('gloo is not a backend'), False),
    ],
)
def test_communication_errors_are_recognized(error: Exception, expected: bool) -> None:
    assert failures.is_comm_error(error) is expected


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> dist.Store:
    """The store of process 1 of 4."""
    store = dist.HashStore()
    monkeypatch.setattr(distributed, '_STORE', store)
    set_variables(monkeypatch, RANK=1, WORLD_SIZE=4)
    monkeypatch.setattr(failures.signal, 'signal', lambda *_: None)  # the handler would outlive the test
    return store


def test_explanation_names_failed_and_silent_ranks(member: dist.Store) -> None:
    member.set('end of 0', 'ValueError: boom')
    member.set('end of 2', '')
    text = failures.explain_comm_error(RuntimeError(GLOO), timeout=0.2)
    own, failed, silent = text.split('; ')
    assert re.search(r'\b1\b.*: Connection closed by peer \[10.0.0.2\]:60632$', own)
    assert re.search(r'\b0\b.*: ValueError: boom$', failed)
    assert re.findall(r'\d+', silent) == ['3']
    assert member.get('end of 1') == b''  # so that the others know that this one is alive


def test_unresponsive_store_is_given_up(member: dist.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class CutOff:
        def set(self, *_: object) -> None:
            time.sleep(20)

    monkeypatch.setattr(distributed, '_STORE', CutOff())
    monkeypatch.setattr(failures, 'STORE_TIMEOUT_S', 0.2)
    started = time.monotonic()
    text = failures.explain_comm_error(RuntimeError(GLOO))
    assert time.monotonic() - started < 10
    assert len(text.split('; ')) == 2
    assert re.findall(r'\d+', text.split('; ')[1]) == ['0']


def test_call_with_timeout_returns_raises_or_gives_up() -> None:
    assert failures.call_with_timeout(lambda: 3, seconds=20) == 3
    with pytest.raises(LookupError, match='boom'):
        failures.call_with_timeout(lambda: fail(LookupError('boom')), seconds=20)
    with pytest.raises(TimeoutError, match='0.1 s'):
        failures.call_with_timeout(lambda: time.sleep(5), seconds=0.1)


def test_late_failures_are_waited_for(member: dist.Store) -> None:
    member.set('end of 0', '')
    member.set('end of 2', '')
    threading.Timer(0.3, lambda: member.set('end of 3', 'KeyError: x')).start()
    started = time.monotonic()
    assert re.search(r'\b3\b.*: KeyError: x$', failures.explain_comm_error(RuntimeError(GLOO), timeout=20))
    assert time.monotonic() - started < 10  # less than the timeout


def test_failure_reaches_launcher_and_other_ranks(
    member: dist.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    failures.report_failure('KeyError: x', 'Traceback ...')
    message = json.loads((tmp_path / 'error.json').read_text())['message']
    assert message['message'] == 'KeyError: x'
    assert message['extraInfo']['py_callstack'] == 'Traceback ...'
    assert abs(int(message['extraInfo']['timestamp']) - time.time()) < 10
    assert member.get('end of 1') == b'KeyError: x'


def test_failure_without_error_file_goes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', '')
    failures.report_failure('KeyError: x', 'Traceback ...')
    assert capsys.readouterr().err == 'Traceback ...\n'


def test_full_disk_leaves_no_partial_error_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    monkeypatch.setattr(os, 'fsync', fail)
    failures.report_failure('KeyError: x', 'Traceback ...')
    assert os.listdir(tmp_path) == []


def fail(error: BaseException) -> None:
    raise error


def test_single_process_raises_and_logs_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    with pytest.raises(LookupError, match='boom'):
        failures.run_main(lambda: fail(LookupError('boom')))
    assert 'Traceback' in caplog.text  # for the log file
    assert caplog.records[0].file_only


@pytest.mark.parametrize(
    ('error', 'shown'),
    [
        (SampleError('list.txt:3: a.mp4: crop too large'), 'list.txt:3: a.mp4: crop too large'),
        (ImportError('no decord'), 'no decord'),
        (PermissionError(errno.EACCES, 'Permission denied', 'bad_samples.jsonl'), 'bad_samples.jsonl'),
    ],
)
@pytest.mark.parametrize('is_in_worker', [False, True])
def test_known_failure_is_one_line_with_status_1(
    error: Exception,
    shown: str,
    is_in_worker: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)

    def raise_as_torch_does() -> None:
        try:
            raise error
        except Exception:
            ExceptionWrapper(where='in DataLoader worker process 0').reraise()

    with pytest.raises(SystemExit) as end:
        failures.run_main(raise_as_torch_does if is_in_worker else lambda: fail(error))
    assert end.value.code == 1
    on_console = [record.getMessage() for record in caplog.records if not getattr(record, 'file_only', False)]
    assert len(on_console) == 1
    assert on_console[0].startswith('error: ')
    assert shown in on_console[0]
    assert is_in_worker or '\n' not in on_console[0]
    assert 'Traceback' not in on_console[0]


def test_ctrl_c_logs_one_line_and_exits_130(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        failures.run_main(interrupt)
    assert end.value.code == 130
    assert len(caplog.messages) == 1
    assert 'SIGINT' in caplog.messages[0]


@pytest.mark.parametrize(
    ('error', 'shown', 'lost'),
    [(LookupError('boom'), r'Traceback', False), (RuntimeError(GLOO), r'[^\n]*\b1\b[^\n]*10.0.0.2[^\n]*$', True)],
)
def test_worker_reports_its_error_and_exits(
    error: Exception, shown: str, lost: bool, member: dist.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    monkeypatch.setattr(os, '_exit', lambda status: fail(SystemExit(status)))
    monkeypatch.setattr(logging, 'shutdown', lambda: None)
    for other in (0, 2, 3):
        member.set(f'end of {other}', '')
    with pytest.raises(SystemExit, match='^1$'):
        failures.run_main(lambda: fail(error))
    extra = json.loads((tmp_path / 'error.json').read_text())['message']['extraInfo']
    assert re.match(shown, extra['py_callstack'])
    assert extra['lost_contact'] is lost


@pytest.mark.parametrize('rank', [0, 1])
def test_first_rank_alone_prints_stop(
    rank: int, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / 'error.json'
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(file))
    monkeypatch.setattr(distributed, 'rank', lambda: rank)
    monkeypatch.setattr(failures, 'die_with_parent', lambda: None)
    monkeypatch.setattr(os, '_exit', lambda status: fail(SystemExit(status)))
    monkeypatch.setattr(logging, 'shutdown', lambda: None)
    with pytest.raises(SystemExit, match='^143$'):
        failures.run_main(lambda: fail(Stopped(signal.SIGTERM, 'after epoch 1')))
    printed = [record for record in caplog.records if not getattr(record, 'file_only', False)]
    assert [record.getMessage() for record in printed] == ['Stopped by SIGTERM after epoch 1'][rank:]
    assert file.exists() == (rank == 0)
    if rank == 0:
        assert json.loads(file.read_text())['message']['extraInfo']['is_printed'] is True

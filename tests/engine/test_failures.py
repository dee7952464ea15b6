import errno
import json
import logging
import os
import threading
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from dsanet.engine import failures
from dsanet.utils import distributed

# -- when a process fails ----------------------------------------------------------------------------------------------

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
        (ValueError('gloo is no backend'), False),
    ],
)
def test_lost_contact_is_told_from_own_errors(error: Exception, expected: bool) -> None:
    assert failures.is_comm_error(error) is expected


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> dist.Store:
    """The store of process 1 of 4."""
    store = dist.HashStore()
    monkeypatch.setattr(distributed, '_STORE', store)
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '4')
    monkeypatch.setattr(failures.signal, 'signal', lambda *_: None)  # it would outlive the test
    return store


def test_who_lost_contact_names_who_failed_and_who_is_silent(member: dist.Store) -> None:
    member.set('end of 0', 'ValueError: boom')
    member.set('end of 2', '')
    text = failures.explain_comm_error(RuntimeError(GLOO), patience=0.2)
    assert text == (
        'process 1 lost contact with the others: Connection closed by peer [10.0.0.2]:60632; '
        'process 0 failed: ValueError: boom; no sign of life from process 3'
    )
    assert member.get('end of 1') == b''  # a sign of life for the others


def test_a_store_that_does_not_answer_is_not_waited_for(member: dist.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class CutOff:
        def set(self, *_: object) -> None:
            time.sleep(20)

    monkeypatch.setattr(distributed, '_STORE', CutOff())
    monkeypatch.setattr(failures, 'PATIENCE', 0.2)
    started = time.monotonic()
    text = failures.explain_comm_error(RuntimeError(GLOO))
    assert time.monotonic() - started < 10
    assert text.endswith('; the machine of process 0 is out of reach')


def test_calls_give_their_value_or_their_error_or_are_given_up() -> None:
    assert failures.call_with_timeout(lambda: 3, seconds=20) == 3
    with pytest.raises(LookupError, match='boom'):
        failures.call_with_timeout(lambda: fail(LookupError('boom')), seconds=20)
    with pytest.raises(TimeoutError, match='no answer within 0.1 seconds'):
        failures.call_with_timeout(lambda: time.sleep(5), seconds=0.1)


def test_who_lost_contact_waits_for_the_words_of_others(member: dist.Store) -> None:
    member.set('end of 0', '')
    member.set('end of 2', '')
    threading.Timer(0.3, lambda: member.set('end of 3', 'KeyError: x')).start()
    started = time.monotonic()
    assert failures.collect_failures(patience=20) == {0: '', 2: '', 3: 'KeyError: x'}
    assert time.monotonic() - started < 10  # no longer than it takes


def test_messages_reach_the_launcher_and_the_other_processes(
    member: dist.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    failures.report_failure('KeyError: x', 'Traceback ...')
    message = json.loads((tmp_path / 'error.json').read_text())['message']
    assert message['message'] == 'KeyError: x'
    assert message['extraInfo']['py_callstack'] == 'Traceback ...'
    assert abs(int(message['extraInfo']['timestamp']) - time.time()) < 10
    assert member.get('end of 1') == b'KeyError: x'


def test_messages_without_a_file_are_on_the_console(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', '')
    failures.report_failure('KeyError: x', 'Traceback ...')
    assert capsys.readouterr().err == 'Traceback ...\n'


def test_message_that_does_not_fit_the_disk_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    monkeypatch.setattr(os, 'fsync', fail)
    failures.report_failure('KeyError: x', 'Traceback ...')
    assert os.listdir(tmp_path) == []


def fail(error: Exception) -> None:
    raise error


def test_a_single_process_fails_as_python_does(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    with pytest.raises(LookupError, match='boom'):
        failures.run_main(lambda: fail(LookupError('boom')))
    assert 'Traceback' in caplog.text  # for the log file
    assert caplog.records[0].file_only


def test_ctrl_c_is_a_line_and_its_status(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        failures.run_main(interrupt)
    assert end.value.code == 130
    assert caplog.messages == ['stopped by SIGINT']


@pytest.mark.parametrize(
    ('error', 'shown', 'lost'),
    [(LookupError('boom'), 'Traceback', False), (RuntimeError(GLOO), 'process 1 lost contact with the others', True)],
)
def test_one_of_many_hands_its_error_over_and_ends(
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
    assert extra['py_callstack'].startswith(shown)
    assert extra['lost_contact'] is lost

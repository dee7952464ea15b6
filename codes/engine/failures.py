"""Report to the log file, the launcher and the other processes why a process failed."""

import contextlib
import json
import logging
import os
import queue
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch.distributed as dist

from dsanet.datasets.transforms.base import SampleError
from dsanet.engine.stopping import RunError, Stopped
from dsanet.utils import console, distributed
from dsanet.utils.files import write_atomically
from dsanet.utils.machine_faults import explain_shortage
from dsanet.utils.processes import die_with_parent
from dsanet.utils.text import strip_worker_traceback

T = TypeVar('T')
LOGGER = logging.getLogger(__name__)

STORE_TIMEOUT_S = 5.0  # for the store, and for the other processes to report their failures


def is_comm_error(error: BaseException) -> bool:
    """Return whether an error occurred in communication with other processes, and so is probably caused by them."""
    network = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
    # Most errors of gloo contain the path of their source file; the error of an aborted wait does not.
    is_of_gloo = isinstance(error, RuntimeError) and re.search(r'/gloo/|\bGloo\b|pair closure', str(error)) is not None
    return is_of_gloo or isinstance(error, network)


def report_failure(text: str, traceback_text: str | None = None, lost_contact: bool = False) -> None:
    """Report why this process ends to its log file, the launcher and the other processes.

    Args:
        text: the reason in one line.
        traceback_text: shown instead of ``text`` in the log file and by the launcher.
        lost_contact: whether another process is the reason.
    """
    log_to_file(traceback_text or text)
    if os.environ.get('TORCHELASTIC_ERROR_FILE') == '':  # torchrun --log-dir /dev/null, which does not collect messages
        sys.stderr.write(f'{traceback_text or text}\n')
    _tell_launcher(text, traceback_text, lost_contact=lost_contact)
    if not lost_contact:
        try:
            _notify_others(text)
        except (RuntimeError, TimeoutError) as error:
            log_to_file(f'Could not notify the other processes: {error}')


def _tell_launcher(text: str, traceback_text: str | None = None, **extra: bool) -> None:
    """Write why this process ends where the launcher reads it, in the format of torch's elastic agent."""
    file = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if not file:
        return
    info = {'py_callstack': traceback_text or text, 'timestamp': str(int(time.time())), **extra}
    with contextlib.suppress(OSError):  # a full disk must not keep this process alive
        # Atomically, because this process may be killed at any moment, and the launcher reads the file.
        write_atomically(json.dumps({'message': {'message': text, 'extraInfo': info}}).encode(), Path(file))


def _notify_others(text: str) -> None:
    store = distributed.store()
    if store is not None:
        call_with_timeout(lambda: store.set(f'end of {distributed.rank()}', text), STORE_TIMEOUT_S)


def log_to_file(text: str) -> None:
    """Log to the file of this process but not to the console (see :func:`dsanet.engine.logging.setup_logging`)."""
    if LOGGER.hasHandlers():
        LOGGER.error('%s', text, extra={'file_only': True})


def call_with_timeout(call: Callable[[], T], seconds: float) -> T:
    """Return the result of a call to a store. torch itself waits up to 15 minutes for an unreachable node.

    Raises:
        TimeoutError: no result in time. The call continues in a daemon thread.
    """
    results: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            results.put((call(), None))
        except Exception as error:
            results.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        value, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f'no answer within {seconds:g} s') from None
    if error is not None:
        raise error
    return value


def _collect_failures(timeout: float) -> Mapping[int, str | None]:
    """Return the reason by rank: '' for a rank that only lost contact, too; None for one that did not report in time.

    Waiting ends early if the launcher sends SIGTERM to this process.
    """
    store = distributed.store()
    assert store is not None, 'only for members of a process group'
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: signals.append(number))
    others = [other for other in range(int(os.environ['WORLD_SIZE'])) if other != distributed.rank()]
    deadline = time.monotonic() + timeout

    def collect() -> dict[int, str | None]:
        while True:
            silent = {other for other in others if not store.check([f'end of {other}'])}
            if not silent or signals or time.monotonic() > deadline:
                return {other: None if other in silent else store.get(f'end of {other}').decode() for other in others}
            time.sleep(0.1)

    return call_with_timeout(collect, timeout + STORE_TIMEOUT_S)


def explain_comm_error(error: BaseException, timeout: float = STORE_TIMEOUT_S) -> str:
    """Explain a communication error in one line, with the ranks that failed or do not respond."""
    reason = re.sub(r'^\[[^]]*\] ', '', str(error)).split('\n')[0]
    reason = re.sub(r'\. This is typically caused by.*', '', reason)
    parts = [f'Rank {distributed.rank()} lost contact with the other processes: {reason}']
    if distributed.store() is not None:
        try:
            _notify_others('')  # because they may wait for a report of this process, too
            reasons = _collect_failures(timeout)
        except (RuntimeError, TimeoutError):
            return f'{parts[0]}; the node of rank 0 is unreachable'
        parts += [f'rank {other} failed: {text}' for other, text in reasons.items() if text]
        silent = [str(other) for other, text in reasons.items() if text is None]
        if silent:
            one = len(silent) == 1
            parts.append(f'rank{"" if one else "s"} {", ".join(silent)} {"is" if one else "are"} not responding')
    return '; '.join(parts)


def run_main(main: Callable[[], None]) -> None:
    """Run the main function of a command, and report why it failed.

    A single process ends with Python's traceback. A launched process reports the failure and then exits without
    destructors, because those of a broken process group may wait forever. Reasons that are not bugs are reported in one
    line: :class:`RunError`, errors of samples, missing packages and system errors (exit status 1), :class:`Stopped` and
    Ctrl-C (exit status of the signal). The log file has the traceback.
    """
    is_launched = 'TORCHELASTIC_ERROR_FILE' in os.environ
    if is_launched:
        die_with_parent()
    try:
        main()
    except (Stopped, KeyboardInterrupt) as stop:
        text = str(stop) or 'Stopped by SIGINT'
        if is_launched and distributed.rank():  # rank 0 prints it
            log_to_file(text)
        else:
            LOGGER.warning('%s', text)
            _tell_launcher(text, is_printed=True)
        status = stop.exit_status if isinstance(stop, Stopped) else 128 + signal.SIGINT
        if is_launched:
            _exit_now(status)
        sys.exit(status)
    except console.ConsoleClosed:
        if not is_launched:
            raise
        _exit_now(console.STATUS)
    except RunError as error:
        _end_failed_run(str(error), is_launched)
    except (SampleError, ImportError) as error:
        log_to_file(traceback.format_exc())
        _end_failed_run(strip_worker_traceback(error), is_launched)
    except Exception as error:
        is_comm = is_launched and is_comm_error(error)
        reason = None if is_comm else explain_shortage(error)
        if reason is None and isinstance(error, OSError):  # such as a file without permission to read it
            reason = strip_worker_traceback(error)
        if reason is not None or is_comm or not is_launched:
            log_to_file(traceback.format_exc())
        if reason is not None:
            _end_failed_run(reason, is_launched)
        if not is_launched:
            raise
        if is_comm:
            report_failure(explain_comm_error(error), lost_contact=True)
        else:
            report_failure(f'{type(error).__name__}: {error}', traceback.format_exc())
        _exit_now()


def _end_failed_run(text: str, is_launched: bool) -> NoReturn:
    if not is_launched:
        LOGGER.error('error: %s', text)
        sys.exit(1)
    report_failure(text)
    _exit_now()


def _exit_now(status: int = 1) -> NoReturn:
    """Exit without destructors, which may wait for other processes."""
    with contextlib.suppress(console.ConsoleClosed):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)

"""What happens when one process of a run fails: who says why, who is told, and how every process ends."""

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

from dsanet.engine.stopping import RunError, Stopped
from dsanet.utils import distributed
from dsanet.utils.files import write_atomically
from dsanet.utils.processes import die_with_parent

T = TypeVar('T')
LOGGER = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds in which a process that lost the others learns which of them are still there


# -- when a process fails ----------------------------------------------------------------------------------------------


def is_comm_error(error: BaseException) -> bool:
    """Say whether an error is about reaching other processes, and so more likely their fault than this one's."""
    network = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
    # Most of gloo's errors hold the path of their source; that of a wait which another one has ended does not.
    is_of_gloo = isinstance(error, RuntimeError) and re.search(r'/gloo/|\bGloo\b|pair closure', str(error)) is not None
    return is_of_gloo or isinstance(error, network)


def report_failure(text: str, traceback_text: str | None = None, lost_contact: bool = False) -> None:
    """Say why this process ends: in its log file, to the launcher, and to the processes that wait for it.

    Args:
        text: the reason in one line.
        traceback_text: what the log file and, last of all on the console, the launcher show instead of it.
        lost_contact: whether the reason lies in another process.
    """
    log_to_file(traceback_text or text)
    file = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if file:  # the format of torch.distributed.elastic.multiprocessing.errors
        extra = {
            'py_callstack': traceback_text or text,
            'timestamp': str(int(time.time())),
            'lost_contact': lost_contact,
        }
        with contextlib.suppress(OSError):  # a full disk must not keep this process from ending
            # Never a part of it, which the launcher could not read: this process may be ended at any moment.
            write_atomically(json.dumps({'message': {'message': text, 'extraInfo': extra}}).encode(), Path(file))
    elif file is not None:  # torchrun --log-dir /dev/null, which collects no messages
        sys.stderr.write(f'{traceback_text or text}\n')
    if not lost_contact:
        try:
            _tell_the_others(text)
        except (RuntimeError, TimeoutError) as error:
            log_to_file(f'the other processes could not be told: {error}')


def _tell_the_others(text: str) -> None:
    store = distributed.store()
    if store is not None:
        call_with_timeout(lambda: store.set(f'end of {distributed.rank()}', text), PATIENCE)


def log_to_file(text: str) -> None:
    """Log something that the console is to show in another way, or not at all (see dsanet.engine.logging)."""
    if LOGGER.hasHandlers():
        LOGGER.error('%s', text, extra={'file_only': True})


def call_with_timeout(call: Callable[[], T], seconds: float) -> T:
    """Return what a call to a store returns, or give up: torch's store waits for a quarter of an hour, until the
    system gives up, for a machine that is cut off without a farewell.

    Raises:
        TimeoutError: there is no answer. The call goes on in a thread, which does not keep the process from ending.
    """
    answers: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((call(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f'no answer within {seconds:g} seconds') from None
    if error is not None:
        raise error
    return value


def collect_failures(patience: float = PATIENCE) -> Mapping[int, str | None]:
    """Return by rank why the other processes end: None for those of which nothing is heard, '' for those like us.

    Args:
        patience: seconds to wait for them; less if the launcher ends this process with SIGTERM.

    Raises:
        RuntimeError, TimeoutError: the machine of process 0 is out of reach.
    """
    store = distributed.store()
    assert store is not None, 'only for members of a process group'
    called: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: called.append(number))
    others = [other for other in range(int(os.environ['WORLD_SIZE'])) if other != distributed.rank()]
    deadline = time.monotonic() + patience

    def collect() -> dict[int, str | None]:
        while True:
            silent = {other for other in others if not store.check([f'end of {other}'])}
            if not silent or called or time.monotonic() > deadline:
                return {other: None if other in silent else store.get(f'end of {other}').decode() for other in others}
            time.sleep(0.1)

    return call_with_timeout(collect, patience + PATIENCE)


def explain_comm_error(error: BaseException, patience: float = PATIENCE) -> str:
    """Return one line on an error for which :func:`is_comm_error` holds: who is to blame, as far as is known.

    Tells the other processes, too, that this one is still there.

    Args:
        error: what torch raised.
        patience: as for :func:`collect_failures`.
    """
    reason = re.sub(r'^\[[^]]*\] ', '', str(error)).split('\n')[0]
    reason = re.sub(r'\. This is typically caused by.*', '', reason)
    parts = [f'process {distributed.rank()} lost contact with the others: {reason}']
    if distributed.store() is not None:
        try:
            _tell_the_others('')  # they may look for this process while it looks for them
            words = collect_failures(patience)
        except (RuntimeError, TimeoutError):
            return f'{parts[0]}; the machine of process 0 is out of reach'
        parts += [f'process {other} failed: {text}' for other, text in words.items() if text]
        silent = [str(other) for other, text in words.items() if text is None]
        if silent:
            parts.append(f'no sign of life from process {", ".join(silent)}')
    return '; '.join(parts)


def run_main(main: Callable[[], None]) -> None:
    """Run a tool's main function, and see to it that a process that fails says why and ends.

    A single process ends with Python's traceback. One of many writes it to its log file and hands it to the launcher;
    one that merely lost contact with the others hands over one line. Then it ends at once: destructors of a broken
    process group may wait for processes that will not come. A reason that is no defect is told in one line: a
    :class:`RunError`, exit status 1, and :class:`Stopped` or Ctrl-C, with the status of the signal.
    """
    is_launched = 'TORCHELASTIC_ERROR_FILE' in os.environ
    if is_launched:
        die_with_parent()
    try:
        main()
    except Stopped as stop:
        LOGGER.warning('%s', stop)
        if is_launched:
            _end_now(stop.exit_status)
        sys.exit(stop.exit_status)
    except KeyboardInterrupt:
        LOGGER.warning('stopped by SIGINT')
        if is_launched:
            _end_now(128 + signal.SIGINT)
        sys.exit(128 + signal.SIGINT)
    except RunError as error:
        if not is_launched:
            LOGGER.error('error: %s', error)
            sys.exit(1)
        report_failure(str(error))
        _end_now()
    except Exception as error:
        text = f'{type(error).__name__}: {error}'
        if not is_launched:
            log_to_file(traceback.format_exc())
            raise
        if is_comm_error(error):
            log_to_file(traceback.format_exc())
            report_failure(explain_comm_error(error), lost_contact=True)
        else:
            report_failure(text, traceback.format_exc())
        _end_now()


def _end_now(status: int = 1) -> NoReturn:
    """End this process without its destructors, which may wait for other processes."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

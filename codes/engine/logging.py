"""Logging to console and file, and scalars for TensorBoard, ``scalars.jsonl`` and trackers."""

import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dsanet.engine import failures
from dsanet.engine.trackers import Tracker
from dsanet.utils import distributed
from dsanet.utils.json_lines import RecordFile
from dsanet.utils.machine_faults import is_machine_fault
from dsanet.utils.text import EscapingFormatter, printable_lines

LOGGER = logging.getLogger(__name__)


class _BarHandler(logging.Handler):
    """Write to stdout above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def setup_logging(work_dir: Path | None = None) -> None:
    """Log to the console and, with a work dir, to a file in it: ``run.log`` of rank 0, ``run.rank1.log``, and so on.

    Ranks other than 0 show only warnings on the console. A resumed run appends to the files.
    """
    rank = distributed.rank()
    logger = logging.getLogger('dsanet')
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    console = _BarHandler(logging.WARNING if rank else logging.INFO)
    # Tracebacks go to the file only. The launcher shows the traceback of the first failure.
    console.addFilter(lambda record: not getattr(record, 'file_only', False))
    handlers: list[logging.Handler] = [console]
    if work_dir is not None:
        handlers.append(
            logging.FileHandler(work_dir / (f'run.rank{rank}.log' if rank else 'run.log'), encoding='utf-8')
        )
    for handler in handlers:
        handler.setFormatter(EscapingFormatter('%(asctime)s  %(message)s', '%Y-%m-%d %H:%M:%S'))
        logger.addHandler(handler)


def _wait_for_later_name(folder: Path) -> None:
    """Wait until the next second if a file of TensorBoard was created in this one.

    TensorBoard reads the files in the order of their names, which begin with the second of their creation, so that the
    lines of an interrupted run would replace those of the resumed one.
    """
    now = time.time()
    if any(folder.glob(f'events.out.tfevents.{int(now)}.*')):
        time.sleep(int(now) + 1 - now)


class ScalarWriter:
    """Write scalars to TensorBoard, ``scalars.jsonl`` and trackers, on rank 0.

    A full disk does not end the run: lines are lost, and one warning is logged.

    Args:
        work_dir: an existing folder.
        is_main: whether this is rank 0.
        iteration: iterations finished before this run. Later lines of an interrupted run are removed.
        validated: whether the validation after that iteration is finished; if not, its line is removed, too.
        trackers: receive the same scalars, and are closed at the end.
    """

    def __init__(
        self,
        work_dir: Path,
        is_main: bool,
        iteration: int = 0,
        validated: bool = True,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.is_main = is_main
        self._trackers = trackers
        if is_main:
            from torch.utils.tensorboard import SummaryWriter

            def is_done(line: Mapping[str, Any]) -> bool:
                again = not validated and line['iteration'] == iteration and any(k.startswith('val/') for k in line)
                return line['iteration'] <= iteration and not again

            self._record = RecordFile(work_dir / 'scalars.jsonl', is_done, {'iteration': int})
            self._board: Any = None

            def open_board() -> None:
                folder = work_dir / 'tensorboard'
                _wait_for_later_name(folder)
                self._board = SummaryWriter(str(folder), purge_step=iteration + 1)

            self._record.try_write(open_board)

    def write(self, prefix: str, scalars: Mapping[str, Any], epoch: int, iteration: int) -> None:
        """Write scalars.

        Args:
            prefix: 'train' or 'val', put before each name.
            scalars: values by name; one that is not finite is null in ``scalars.jsonl``.
            epoch: current epoch, 1-based.
            iteration: number of finished iterations, the x axis.
        """
        if not self.is_main:
            return
        named = {f'{prefix}/{name}': value for name, value in scalars.items()}
        self._record.append({'epoch': epoch, 'iteration': iteration, **named})
        if self._board is not None:
            for name, value in named.items():
                self._record.try_write(partial(self._board.add_scalar, name, value, iteration))
        for tracker in self._trackers:
            tracker.log(named, iteration)

    def draw(self, draw: Callable[[Any], None]) -> None:
        """Call a function with the ``SummaryWriter`` of TensorBoard, on rank 0; an error is logged as a warning."""
        if not self.is_main or self._board is None:
            return
        try:
            draw(self._board)
        except Exception as error:  # a missing picture must not end the run
            LOGGER.warning('TensorBoard: %s: %s', type(error).__name__, str(error).strip().partition('\n')[0])

    def close(self) -> None:
        """Close files and trackers."""
        if self.is_main and self._board is not None:
            self._record.try_write(self._board.close)
        for tracker in self._trackers:
            tracker.finish()

    def __enter__(self) -> 'ScalarWriter':
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Print an error in one line, without a traceback, and exit with status 2, or 1 for a system error.

    For the setup of a run, where errors are about configs, files and arguments. In a launched process the launcher
    prints the line, once per node.
    """
    try:
        yield
    except (OSError, KeyError, MemoryError, TypeError, ValueError) as error:
        # Probably a user error, but the log file keeps the traceback in case it is a bug.
        failures.log_to_file(traceback.format_exc())
        text = error.args[0] if isinstance(error, KeyError) and error.args else str(error) or 'not enough memory'
        try:
            rank, is_first_node = distributed.rank(), distributed.rank() < distributed.local_world_size()
        except ValueError:  # the error that is reported
            rank, is_first_node = 0, True
        text = printable_lines(str(text), '    ')
        line = f'error: {text}' if is_first_node else f'error on rank {rank} ({platform.node()}): {text}'
        failures.report_failure(line)
        if 'TORCHELASTIC_ERROR_FILE' not in os.environ:
            sys.stderr.write(f'{line}\n')
        sys.exit(1 if is_machine_fault(error) and not isinstance(error, PermissionError) else 2)

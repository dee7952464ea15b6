"""What people watch: console lines with a progress bar, TensorBoard curves, and numbers as JSON lines."""

import logging
import os
import platform
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dsanet.engine import failures
from dsanet.engine.trackers import Tracker
from dsanet.utils import distributed
from dsanet.utils.json_lines import RecordFile


class _BarHandler(logging.Handler):
    """Writes lines to standard output above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def setup_logging(work_dir: Path | None, is_main: bool, file_name: str = 'run.log') -> None:
    """Send the project's log to the console and, with a work dir, to a file in it.

    Args:
        work_dir: an existing folder, or None for the console alone.
        is_main: whether this is rank 0; of the others the console shows warnings only.
        file_name: name of the file of rank 0; that of rank 1 is ``run.rank1.log``, and so on. A resumed run appends.
    """
    logger = logging.getLogger('dsanet')
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    console = _BarHandler(logging.INFO if is_main else logging.WARNING)
    # Tracebacks go to the file alone; of all processes' ones the launcher shows the one that matters.
    console.addFilter(lambda record: not getattr(record, 'file_only', False))
    handlers: list[logging.Handler] = [console]
    if work_dir is not None:
        file = work_dir / file_name
        if not is_main:
            file = file.with_name(f'{file.stem}.rank{distributed.rank()}{file.suffix}')
        handlers.append(logging.FileHandler(file))
    for handler in handlers:
        handler.setFormatter(logging.Formatter('%(asctime)s  %(message)s', '%Y-%m-%d %H:%M:%S'))
        logger.addHandler(handler)


class ScalarWriter:
    """Writes scalars to TensorBoard, ``scalars.jsonl`` and trackers; does nothing on ranks other than 0.

    A full disk costs lines and is said once; it does not end the run.

    Args:
        work_dir: an existing folder.
        is_main: whether to write at all.
        iteration: where the run starts, by the count of the lines that are there. What an interrupted run wrote beyond
            it will be written again, and goes.
        validated: whether the validation of that iteration is done; if not, its lines go too.
        trackers: get every line, too, and are finished at the end.
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

            self._record = RecordFile(work_dir / 'scalars.jsonl', is_done)
            self._board: Any = None

            def open_board() -> None:
                self._board = SummaryWriter(str(work_dir / 'tensorboard'), purge_step=iteration + 1)

            self._record.attempt(open_board)

    def write(self, prefix: str, scalars: Mapping[str, Any], epoch: int, iteration: int) -> None:
        """Write named numbers under ``train/`` or ``val/``.

        Args:
            prefix: 'train' or 'val'.
            scalars: name to number.
            epoch: finished epochs and the running one, 1-based, for the JSON line.
            iteration: iterations done, the x axis of the curves.
        """
        if not self.is_main:
            return
        named = {f'{prefix}/{name}': value for name, value in scalars.items()}
        self._record.append({'epoch': epoch, 'iteration': iteration, **named})
        if self._board is not None:
            for name, value in named.items():
                self._record.attempt(partial(self._board.add_scalar, name, value, iteration))
        for tracker in self._trackers:
            tracker.log(named, iteration)

    def close(self) -> None:
        """Finish the files."""
        if self.is_main and self._board is not None:
            self._record.attempt(self._board.close)
        for tracker in self._trackers:
            tracker.finish()

    def __enter__(self) -> 'ScalarWriter':
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show a user's mistake as one line and end with exit status 2.

    For setting a run up, where such errors are about configs, files and arguments; not for training, where a
    traceback tells more. One process of many hands the line to the launcher, which shows one a machine.
    """
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError) as error:
        # Most likely a slip of the user's; should it be a defect after all, here is where it was.
        failures.log_to_file(traceback.format_exc())
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        rank = int(os.environ.get('RANK', 0))
        is_elsewhere = rank >= int(os.environ.get('LOCAL_WORLD_SIZE', 1))  # than on the first machine
        line = f'error{f" of process {rank} on {platform.node()}" if is_elsewhere else ""}: {text}'
        failures.report_failure(line)
        if 'TORCHELASTIC_ERROR_FILE' not in os.environ:
            sys.stderr.write(f'{line}\n')
        sys.exit(2)

"""One run per work dir, and no run replaces the files of another one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsanet.engine.checkpointing import RUN_FILE, Position, list_checkpoints
from dsanet.engine.logging import exit_on_user_error
from dsanet.utils import distributed
from dsanet.utils.file_lock import FileLock, LockHeldError
from dsanet.utils.json_lines import read_json_lines

LOCK_FILE = 'running.json'
_RECORDS = ('scalars.jsonl', 'bad_samples.jsonl', 'nonfinite.jsonl')


@contextmanager
def hold_lock(path: Path, way_out: str) -> Iterator[FileLock | None]:
    """Hold the lock of an output in rank 0; if a running process holds it, print which and exit with status 2.

    Args:
        path: an existing folder, for a lock file in it; or a file, for a lock file next to it.
        way_out: what the user can do, such as 'choose another --work-dir'.

    Yields:
        The lock; None in other ranks.
    """
    if distributed.rank():
        yield None
        return
    lock = FileLock(path / LOCK_FILE if path.is_dir() else path.with_name(f'{path.name}.{LOCK_FILE}'), path)
    with exit_on_user_error():
        try:
            lock.acquire()
        except LockHeldError as error:
            raise ValueError(f'{error}. Wait until it ends, or {way_out}') from error
    try:
        yield lock
    finally:
        lock.release()


def check_no_other_run(work_dir: Path, resume: str | None, resumed_from: Position | None) -> None:
    """Check that a run does not replace the best checkpoint or the curves of another one.

    Args:
        work_dir: of the run.
        resume: the file to resume from; 'auto' for the latest checkpoint of the work dir.
        resumed_from: position of the checkpoint that the run continues, if any.

    Raises:
        ValueError: the work dir has files of a run that this one does not continue.
    """
    if resume is None and list_checkpoints(work_dir):
        return  # remove_leftovers refuses them
    is_own = resume is not None and (resume == 'auto' or Path(resume).resolve().parent == work_dir.resolve())
    if resumed_from is not None and is_own:
        return
    # A run that was killed before its first checkpoint has only the records of its first epoch.
    first_epoch = 1 if resumed_from is None else resumed_from.epoch + 1
    later = _run_files(work_dir, first_epoch)
    found = later if resume == 'auto' or distributed.is_restart() else _run_files(work_dir)
    if not found:
        return
    best = work_dir / 'best.pth'
    if best.exists():
        way_out = f'Continue from its best epoch with --resume {best}'
    else:
        way_out = 'Continue it with --resume' if resume is None and not later else 'Move them away'
    only = 'no checkpoint to resume from (epoch_*.pth), but ' if resume == 'auto' else ''
    raise ValueError(
        f'{work_dir} has {only}files of an earlier run, which this run would replace: {", ".join(found)}. '
        f'{way_out}, or choose another --work-dir'
    )


def _run_files(work_dir: Path, first_epoch: int | None = None) -> list[str]:
    """Return the files that a new run would replace; with ``first_epoch``, no records of only this epoch."""
    found = [file.name for _, file in list_checkpoints(work_dir)] if first_epoch is None else []
    found += ['best.pth'] if (work_dir / 'best.pth').exists() else []
    for name in _RECORDS:
        file = work_dir / name
        if not file.is_file() or not file.stat().st_size:
            continue
        if first_epoch is None or any(
            line.get('epoch', 0) > first_epoch or any(key.startswith('val/') for key in line)
            for line in read_json_lines(file)
        ):
            found.append(name)
    return found


def remove_run(work_dir: Path) -> None:
    """Remove the checkpoints and curves of an earlier run, but no other files."""
    for file in work_dir.iterdir() if work_dir.is_dir() else ():
        if RUN_FILE.fullmatch(file.name) or file.name in ('best.pth', 'run.log', *_RECORDS):
            file.unlink()
    shutil.rmtree(work_dir / 'tensorboard', ignore_errors=True)

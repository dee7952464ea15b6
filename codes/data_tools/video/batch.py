"""Work through many videos: find them, share them among processes, list what fails, go on after an interruption.

A job makes one target, a file or a folder, from one video. It is written under another name, of its process alone, and
renamed when it is complete (:func:`writing`), so what bears the target's name is whole, and a second run skips it. A
decoder that crashes on a damaged video takes its process with it; that video is listed as failed and another process
goes on. Processes end with the one that started them, and what they leave is removed by the next run.
"""

import errno
import json
import logging
import os
import platform
import re
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dsanet.datasets.annotation import VIDEO_EXTENSIONS, parse_list_file
from dsanet.utils.files import check_writable
from dsanet.utils.processes import is_alive
from dsanet.utils.worker_pool import Failure, run_guarded

LOGGER = logging.getLogger(__name__)
FAILURES_FILE = 'failures.jsonl'
SETTINGS_FILE = 'settings.json'
TIME_LIMIT = 3600.0  # seconds; a long film takes minutes


@dataclass(frozen=True)
class VideoJob:
    """One video and what is to be made of it.

    Args:
        name: path of the video relative to the folder of all videos.
        source: the video.
        target: file or folder to write; there only when it is complete.
    """

    name: str
    source: Path
    target: Path


@dataclass
class JobFailure:
    """Why a video could not be used, or not all of it.

    Args:
        path: the job's name.
        reason: what went wrong.
        kept: whether a target was written from what is good of the video.
    """

    path: str
    reason: str
    kept: bool = False


@dataclass
class Outcome:
    """What :func:`run_jobs` did.

    Args:
        num_done: targets written by this run.
        num_skipped: targets that were there before.
        failures: of this run, and those with ``kept`` of earlier ones.
    """

    num_done: int = 0
    num_skipped: int = 0
    failures: list[JobFailure] = field(default_factory=list)

    @property
    def num_failed(self) -> int:
        """Videos without a target, and folders that were left out."""
        return sum(not failure.kept for failure in self.failures)


def process_folder(
    work: Callable[[VideoJob], str | None],
    root: Path,
    out: Path,
    suffix: str,
    settings: dict[str, Any],
    list_file: Path | None = None,
    num_workers: int = 0,
    time_limit: float = TIME_LIMIT,
) -> Outcome:
    """Work through the videos of a folder.

    Args:
        work, num_workers, time_limit: as of :func:`run_jobs`.
        root, out, suffix, list_file: as of :func:`plan_jobs`.
        settings: what the targets depend on; kept in ``settings.json`` in the folder of the targets.

    Raises:
        FileNotFoundError, ValueError: as :func:`plan_jobs`, :func:`check_writable`, :func:`claim_folder`.
        OSError, KeyboardInterrupt: as :func:`run_jobs`.
    """
    # Before the folder is claimed: a wrong call must not leave its settings there.
    _check_limits(num_workers, time_limit)
    check_writable(out, 'OUT_DIR')
    left_out: list[JobFailure] = []
    jobs = plan_jobs(root, out, list_file, suffix, left_out.append)
    claim_folder(out, SETTINGS_FILE, settings)
    is_part = list_file is not None
    return run_jobs(work, jobs, out / FAILURES_FILE, num_workers, time_limit, is_part, left_out=left_out)


def _warn(failure: JobFailure) -> None:
    LOGGER.warning('%s: %s', failure.path, failure.reason)


def find_videos(
    root: Path, list_file: Path | None = None, on_left_out: Callable[[JobFailure], object] = _warn
) -> list[str]:
    """Find video files.

    Args:
        root: folder of the videos, searched with its folders; hidden ones are skipped.
        list_file: list with lines ``path label``; given, only its videos are meant, there or not.
        on_left_out: called for each folder that cannot be read, or that a link leads to a second time; by default
            these are logged.

    Returns:
        Paths relative to ``root``, sorted, each once.

    Raises:
        FileNotFoundError: no such folder or list.
        ValueError: there is no video, or the list is malformed or leaves ``root``, by file and line.
    """
    if not root.is_dir():
        raise FileNotFoundError(f'{root} is no folder (looked for {root.absolute()})')
    if list_file is not None:
        return _read_list(list_file)
    names = []
    seen: dict[str, str] = {}  # symbolic links can make a circle

    def leave_out(error: OSError) -> None:
        on_left_out(JobFailure(os.path.relpath(error.filename, root), f'the folder cannot be read: {error.strerror}'))

    for folder, subfolders, files in os.walk(root, onerror=leave_out, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        path = os.path.relpath(folder, root)
        first = seen.setdefault(os.path.realpath(folder), path)
        if first != path:
            subfolders[:] = []
            on_left_out(JobFailure(path, f'a link makes it the same folder as {first}, which is searched'))
            continue
        found = [name for name in files if name.lower().endswith(VIDEO_EXTENSIONS) and not name.startswith('.')]
        names += [os.path.normpath(os.path.join(path, name)) for name in found]
    if not names:
        raise ValueError(f'{root} has no video; looked in all its folders for {", ".join(VIDEO_EXTENSIONS)}')
    return sorted(names)


def _read_list(list_file: Path) -> list[str]:
    names = set()
    for record in parse_list_file(str(list_file)):
        name = os.path.normpath(record.path)
        if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir:
            raise ValueError(f'{record.source}: {record.path!r} must lie below the folder of the videos')
        names.add(name)
    return sorted(names)


def plan_jobs(
    root: Path,
    out: Path,
    list_file: Path | None = None,
    suffix: str = '',
    on_left_out: Callable[[JobFailure], object] = _warn,
) -> list[VideoJob]:
    """Give each video below a folder a target at the same place below another folder.

    Args:
        root, list_file, on_left_out: as of :func:`find_videos`.
        out: folder of the targets.
        suffix: replaces the end of the video's name.

    Raises:
        FileNotFoundError, ValueError: as :func:`find_videos`; or ``out`` lies in ``root``, where a second run would
            take targets for videos; or two videos have one target, or one has a target in which another's lies; or
            none of the list's videos is there.
    """
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f'{out} lies in {root}, the folder of the videos; choose another one')
    jobs: dict[Path, VideoJob] = {}
    for name in find_videos(root, list_file, on_left_out):
        target = (out / name).with_suffix(suffix)
        if target in jobs:
            raise ValueError(f'{jobs[target].name} and {name} would both become {target}; rename one')
        jobs[target] = VideoJob(name, root / name, target)
    for target, job in jobs.items():
        above = next((jobs[folder] for folder in target.parents if folder in jobs), None)
        if above is not None:
            raise ValueError(
                f'{above.name} would become {above.target}, which is also the folder of {job.name}; rename one'
            )
    if list_file is not None and jobs and not any(job.source.is_file() for job in jobs.values()):
        first = next(iter(jobs.values())).source
        raise FileNotFoundError(
            f'none of the {len(jobs)} videos of {list_file} is there, such as {first}; lines must be "path label", '
            f'without a number of frames, and paths relative to {root}'
        )
    return list(jobs.values())


def claim_folder(out: Path, file_name: str, settings: dict[str, Any]) -> None:
    """Make a folder for targets that are all made with the same settings, which are written to a file in it.

    A folder with nothing but that file, whatever it says, may be claimed anew.

    Raises:
        ValueError: it holds targets of other settings; names the differences. Or of settings that cannot be read.
        FileExistsError: ``out`` is a file.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / file_name
    # What JSON makes of the settings, so that tuples and lists compare equal.
    settings = json.loads(json.dumps(settings))
    if file.exists() and any(other.name != file_name for other in out.iterdir()):
        found = _read_settings(file)
        names = sorted(found.keys() | settings.keys())
        differences = [
            f'{name} {found.get(name)} instead of {settings.get(name)}'
            for name in names
            if found.get(name) != settings.get(name)
        ]
        if differences:
            raise ValueError(
                f'{out} was begun with other settings ({", ".join(differences)}); use those, choose another folder, '
                'or remove this one'
            )
        return
    with writing(file) as part:
        part.write_text(json.dumps(settings, indent=2) + '\n')


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding='utf-8'))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f'{file} is damaged: it should say in JSON what settings the folder was begun with; choose another folder, '
            'or remove this one'
        )
    return found


@contextmanager
def writing(target: Path) -> Iterator[Path]:
    """Give another name to write a file or folder under, and rename it to ``target`` if all goes well.

    The name is this process's own: two that write one target cannot mix. What an error leaves is removed.
    """
    # Cut, since a name that is as long as names may be must not become longer.
    part = target.with_name(f'.{target.name[:40]}.{platform.node()}-{os.getpid()}.part')
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove(part)  # of an earlier process with this one's number
    try:
        yield part
        os.replace(part, target)
    except BaseException:
        _remove(part)
        raise


def clear_parts(folders: Iterable[Path]) -> None:
    """Remove what processes of this machine were writing in some folders when they died."""
    pattern = re.compile(rf'\..*\.{re.escape(platform.node())}-(\d+)\.part', re.DOTALL)
    for folder in folders:
        if folder.is_dir():
            for name in os.listdir(folder):
                match = pattern.fullmatch(name)
                if match and not is_alive(int(match[1])):
                    _remove(folder / name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run_jobs(
    work: Callable[[VideoJob], str | None],
    jobs: Sequence[VideoJob],
    failures_file: Path,
    num_workers: int,
    time_limit: float = TIME_LIMIT,
    is_part: bool = False,
    description: str = 'videos',
    left_out: Sequence[JobFailure] = (),
) -> Outcome:
    """Do the jobs whose target is not there yet, with a progress bar.

    Args:
        work: makes a job's target. An exception means that it failed; a text that the target was written, but not
            from the whole video, and why. With workers it must be a function of a module, or a partial of one.
        jobs: what to do.
        failures_file: a JSON line for each :class:`JobFailure`, written while the jobs run. Jobs that failed in an
            earlier run are done again, so their lines go; lines with ``kept`` stay.
        num_workers: processes; 0 works in this one.
        time_limit: seconds that a job may take, with workers; it fails then.
        is_part: there are other jobs with lines in ``failures_file``, which stay.
        description: what the progress bar counts.
        left_out: what failed before, such as folders that cannot be read; it is listed with the other failures.

    Returns:
        What was done. The failures are sorted by path.

    Raises:
        ValueError: ``num_workers`` is negative, or ``time_limit`` not above 0.
        OSError: there is no room left for targets, or the failures cannot be written; all workers are stopped.
        KeyboardInterrupt: the user's, when all workers are stopped.
    """
    _check_limits(num_workers, time_limit)
    folders = {failures_file.parent, *(job.target.parent for job in jobs)}
    clear_parts(folders)
    waiting = [job for job in jobs if not job.target.exists()]
    names = {job.name for job in jobs}
    written = names - {job.name for job in waiting}
    outcome = Outcome(num_skipped=len(written))
    known = read_failures(failures_file)
    outcome.failures = [failure for failure in known if failure.kept and failure.path in written] + list(left_out)
    lines_to_keep = [failure for failure in known if is_part and failure.path not in names] + outcome.failures
    with writing(failures_file) as part:
        part.write_text(''.join(_as_line(failure) for failure in lines_to_keep))
    results = _run(partial(_try, work), waiting, num_workers, time_limit)
    bar = tqdm(total=len(waiting), desc=description, unit='video', disable=None)
    try:
        with bar, closing(results), failures_file.open('a') as lines:
            for failure in results:
                if failure is None or failure.kept:
                    outcome.num_done += 1
                if failure is not None:
                    outcome.failures.append(failure)
                    lines.write(_as_line(failure))
                    lines.flush()
                    bar.set_postfix(failed=outcome.num_failed)
                bar.update()
    except BaseException:
        clear_parts(folders)  # of workers that were stopped in the middle of a job
        raise
    outcome.failures.sort(key=lambda failure: failure.path)
    return outcome


def _check_limits(num_workers: int, time_limit: float) -> None:
    if num_workers < 0:
        raise ValueError(f'num_workers is {num_workers}, must be 0 or more')
    if not time_limit > 0:
        raise ValueError(f'time_limit is {time_limit:g}, must be above 0')


def read_failures(failures_file: Path) -> list[JobFailure]:
    """Read a file of failures; a line that was cut off by an interruption is left out, and so is a missing file."""
    failures = []
    for line in failures_file.read_text().splitlines() if failures_file.exists() else ():
        try:
            failures.append(JobFailure(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return failures


def summarize(outcome: Outcome, failures_file: Path) -> str:
    """Return a text about the outcome for the user, with the first failures."""
    kept = len(outcome.failures) - outcome.num_failed
    lines = [
        f'{outcome.num_done} written, {outcome.num_skipped} there already, {outcome.num_failed} failed'
        + (f', {kept} damaged but kept' if kept else '')
    ]
    if outcome.failures:
        lines += [f'  {failure.path}: {failure.reason}' for failure in outcome.failures[:10]]
        lines.append(f'{"  ..., all" if len(outcome.failures) > 10 else "listed"} in {failures_file}')
    return '\n'.join(lines)


def _as_line(failure: JobFailure) -> str:
    return json.dumps(asdict(failure)) + '\n'


@dataclass(frozen=True)
class _NoRoom:
    """The target's disk, or the user's share of it, is full: the next videos would fail as this one did."""

    text: str


def _no_room(found: _NoRoom) -> OSError:
    return OSError(f'{found.text}; run it again when there is room, and it goes on with what is left')


def _run(
    attempt: Callable[[VideoJob], JobFailure | _NoRoom | None],
    jobs: Sequence[VideoJob],
    num_workers: int,
    time_limit: float,
) -> Generator[JobFailure | None, None, None]:
    """Yield the result of each job, in the order of finishing."""
    if num_workers == 0:
        for job in jobs:
            outcome = attempt(job)
            if isinstance(outcome, _NoRoom):
                raise _no_room(outcome)
            yield outcome
        return
    # Closed here and now: an error that is on its way keeps what it has passed, and so would keep the workers.
    with closing(run_guarded(attempt, jobs, num_workers, time_limit)) as results:
        for number, result in results:
            if isinstance(result, _NoRoom):
                raise _no_room(result)
            if isinstance(result, Failure):
                clear_parts([jobs[number].target.parent])
                result = JobFailure(jobs[number].name, result.text)
            yield result


def _try(work: Callable[[VideoJob], str | None], job: VideoJob) -> JobFailure | _NoRoom | None:
    """Do one job and return what went wrong."""
    try:
        if not job.source.is_file():
            raise FileNotFoundError(f'there is no file {job.source}')
        damage = work(job)
    except Exception as error:
        # One line, and the kind where the text alone says little ('7', '').
        text = ' '.join(str(error).split())
        if getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT):  # FFmpeg's errors have such a number, too
            return _NoRoom(f'no room for {job.target}: {text}')
        return JobFailure(job.name, text if len(text) > 10 else f'{type(error).__name__}: {text}')
    return None if damage is None else JobFailure(job.name, damage, kept=True)

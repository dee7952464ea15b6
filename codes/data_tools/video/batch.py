"""Process many videos: find them, run jobs in parallel, list failures, continue after an interruption.

A job makes one target, a file or a folder, from one video. It writes to a temporary name and renames it when it is
complete (:mod:`dsanet.data_tools.video.targets`), so existing targets are complete and a second run skips them. A
decoder that crashes only ends its worker process: the video is listed as failed, and another worker continues. Workers
end with their parent process; the next run removes their temporary files.
"""

import errno
import json
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from tqdm import tqdm

from dsanet.data_tools.lists.media_index import index_media
from dsanet.data_tools.video.targets import SETTINGS_FILE, atomic_target, prepare_folder, remove_stale_parts
from dsanet.datasets.annotation import parse_list_file
from dsanet.datasets.list_hints import explain_missing
from dsanet.datasets.media_files import SkippedFiles
from dsanet.datasets.span_lists import is_span_list, read_span_rows
from dsanet.utils.files import check_outputs, check_writable
from dsanet.utils.json_lines import read_json_lines
from dsanet.utils.text import printable
from dsanet.utils.worker_pool import WorkerFailure, run_in_processes

FAILURES_FILE = 'failures.jsonl'
TIME_LIMIT = 3600.0  # seconds per video; a long film takes minutes


@dataclass(frozen=True)
class VideoJob:
    """A video and its target.

    Args:
        name: path of the video relative to the folder of all videos.
        source: the video.
        target: file or folder to write.
    """

    name: str
    source: Path
    target: Path


@dataclass
class VideoFailure:
    """A video that could not be processed, or only in part.

    Args:
        path: name of the job.
        reason: the error.
        kept: whether a target was written from the intact part of the video.
    """

    path: str
    reason: str
    kept: bool = False


@dataclass
class Outcome:
    """The result of :func:`run_jobs`.

    Args:
        num_done: number of targets that were written.
        num_skipped: number of targets that existed already.
        failures: failures of this run, and earlier ones with ``kept``.
        not_used: what was found in the folder besides videos, by kind.
    """

    num_done: int = 0
    num_skipped: int = 0
    failures: list[VideoFailure] = field(default_factory=list)
    not_used: SkippedFiles = field(default_factory=SkippedFiles)

    @property
    def num_failed(self) -> int:
        """Number of videos without a target."""
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
    """Process the videos of a folder.

    Args:
        work, num_workers, time_limit: see :func:`run_jobs`.
        root, out, suffix, list_file: see :func:`plan_jobs`.
        settings: settings that determine the targets; stored in ``settings.json`` in ``out``.
    """
    # Before the settings are written: an invalid call must not leave them there.
    _check_limits(num_workers, time_limit)
    check_writable(out, 'OUT_DIR')
    check_outputs({f'OUT_DIR {name}': out / name for name in (FAILURES_FILE, SETTINGS_FILE)}, [list_file])
    not_used = SkippedFiles()
    jobs = plan_jobs(root, out, list_file, suffix, not_used)
    prepare_folder(out, settings)
    outcome = run_jobs(work, jobs, out / FAILURES_FILE, num_workers, time_limit, is_subset=list_file is not None)
    return replace(outcome, not_used=not_used)


def find_videos(root: Path, list_file: Path | None = None, not_used: SkippedFiles | None = None) -> list[str]:
    """Return the sorted paths of the videos below a folder, relative to it.

    Args:
        root: folder to search recursively, see ``index_media``.
        list_file: list file with lines ``path label``; return its videos instead, whether they exist or not.
        not_used: counts the other files in the folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f'folder of videos not found: {root} ({root.absolute()})')
    if list_file is not None:
        return _read_list(list_file)
    media = index_media(str(root))
    if media.problems:
        folder, problem = next(iter(media.problems.items()))
        raise ValueError(f'folder {root / folder} {problem}')
    if not_used is not None:
        not_used.merge(media.skipped)
    return sorted(media.num_frames)


def _read_list(list_file: Path) -> list[str]:
    file = str(list_file)
    if is_span_list(file):  # without the class names
        videos = [(row.video, f'{file}:{row.line}') for row in read_span_rows(file)]
    else:
        videos = [(record.path, record.source) for record in parse_list_file(file)]
    names = set()
    for path, source in videos:
        name = os.path.normpath(path)
        if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir:
            raise ValueError(f'{source}: {path!r} must be a path below the folder of videos')
        names.add(name)
    return sorted(names)


def plan_jobs(
    root: Path, out: Path, list_file: Path | None = None, suffix: str = '', not_used: SkippedFiles | None = None
) -> list[VideoJob]:
    """Return a job for each video of :func:`find_videos`; targets have the same folder structure, and ``suffix``."""
    if out.resolve().is_relative_to(root.resolve()):  # a second run would find the targets
        raise ValueError(f'{out} is inside {root}, the input folder; choose an output folder outside of it')
    jobs: dict[Path, VideoJob] = {}
    for name in find_videos(root, list_file, not_used):
        target = (out / name).with_suffix(suffix)
        if target in jobs:
            raise ValueError(f'{jobs[target].name} and {name} have the same target {target}; rename one')
        jobs[target] = VideoJob(name, root / name, target)
    for target, job in jobs.items():
        parent = next((jobs[folder] for folder in target.parents if folder in jobs), None)
        if parent is not None:
            raise ValueError(
                f'{parent.name} would be written to {parent.target}, also the output folder of {job.name}; rename one'
            )
    if list_file is not None and jobs and not any(job.source.is_file() for job in jobs.values()):
        first = next(iter(jobs.values())).source
        raise FileNotFoundError(
            f'none of the {len(jobs)} videos in {list_file} exists, for example {first}; lines must be "path label", '
            f'with paths relative to {root}{explain_missing(next(iter(jobs.values())).name, [str(root)])}'
        )
    return list(jobs.values())


def run_jobs(
    work: Callable[[VideoJob], str | None],
    jobs: Sequence[VideoJob],
    failures_file: Path,
    num_workers: int,
    time_limit: float = TIME_LIMIT,
    is_subset: bool = False,
    description: str = 'videos',
) -> Outcome:
    """Run the jobs whose target does not exist, with a progress bar.

    Args:
        work: function that makes a target. An exception is a failure; a returned text means that the target was
            written from a part of the video, and why. With workers, it must be picklable.
        jobs: the jobs.
        failures_file: JSON lines file of all :class:`VideoFailure`, written while jobs run. Jobs that failed in an
            earlier run are repeated, so their lines are removed; lines with ``kept`` stay.
        num_workers: number of processes; 0 runs all jobs in this process.
        time_limit: maximum seconds per job, with workers only.
        is_subset: keep lines of other jobs in ``failures_file``.
        description: label of the progress bar.

    Returns:
        The outcome, with failures sorted by path.

    Raises:
        OSError: the disk is full, or the failures cannot be written; all workers are stopped.
    """
    _check_limits(num_workers, time_limit)
    folders = {failures_file.parent, *(job.target.parent for job in jobs)}
    remove_stale_parts(folders)
    pending = [job for job in jobs if not job.target.exists()]
    names = {job.name for job in jobs}
    written = names - {job.name for job in pending}
    outcome = Outcome(num_skipped=len(written))
    known = read_failures(failures_file)
    outcome.failures = [failure for failure in known if failure.kept and failure.path in written]
    lines_to_keep = [failure for failure in known if is_subset and failure.path not in names] + outcome.failures
    with atomic_target(failures_file) as part:
        part.write_text(''.join(_as_line(failure) for failure in lines_to_keep))
    results = _run_all(partial(_run_job, work), pending, num_workers, time_limit)
    bar = tqdm(total=len(pending), desc=description, unit='video', disable=None)
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
        remove_stale_parts(folders)  # of workers that were stopped during a job
        raise
    outcome.failures.sort(key=lambda failure: failure.path)
    return outcome


def _check_limits(num_workers: int, time_limit: float) -> None:
    if num_workers < 0:
        raise ValueError(f'num_workers must be at least 0, got {num_workers}')
    if not time_limit > 0:
        raise ValueError(f'time_limit must be above 0, got {time_limit:g}')


def read_failures(failures_file: Path) -> list[VideoFailure]:
    """Read a file of failures; it may be missing. Damaged lines are skipped with a warning."""
    types = get_type_hints(VideoFailure)
    return [VideoFailure(**{name: line[name] for name in types}) for line in read_json_lines(failures_file, types)]


def summarize_outcome(outcome: Outcome, failures_file: Path) -> str:
    """Return a summary for the terminal, with the first failures."""
    kept = len(outcome.failures) - outcome.num_failed
    lines = [
        f'{outcome.num_done} written, {outcome.num_skipped} already exist, {outcome.num_failed} failed'
        + (f', {kept} damaged but kept' if kept else '')
    ]
    if outcome.not_used:
        lines.append(f'not videos: {outcome.not_used}')
    if outcome.failures:
        lines += [f'  {printable(f"{failure.path}: {failure.reason}")}' for failure in outcome.failures[:10]]
        lines.append(f'{"  ..., all" if len(outcome.failures) > 10 else "Listed"} in {failures_file}')
    return '\n'.join(lines)


def _as_line(failure: VideoFailure) -> str:
    return json.dumps(asdict(failure)) + '\n'


def _run_all(
    attempt: Callable[[VideoJob], VideoFailure | OSError | None],
    jobs: Sequence[VideoJob],
    num_workers: int,
    time_limit: float,
) -> Generator[VideoFailure | None, None, None]:
    """Yield the result of each job as it finishes; raise the error of a full disk."""
    if num_workers == 0:
        for job in jobs:
            outcome = attempt(job)
            if isinstance(outcome, OSError):
                raise outcome
            yield outcome
        return
    # Close here: a propagating exception would keep a reference to the generator, and so to the workers.
    with closing(run_in_processes(attempt, jobs, num_workers, time_limit)) as results:
        for number, result in results:
            if isinstance(result, OSError):
                raise result
            if isinstance(result, WorkerFailure):
                remove_stale_parts([jobs[number].target.parent])
                result = VideoFailure(jobs[number].name, result.text)
            yield result


def _run_job(work: Callable[[VideoJob], str | None], job: VideoJob) -> VideoFailure | OSError | None:
    """Run a job and return its failure; an OSError means that the disk is full, so that all other jobs would fail."""
    try:
        if not job.source.is_file():
            raise FileNotFoundError(f'file not found: {job.source}')
        damage = work(job)
    except Exception as error:
        # On one line, with the type if the text is too short to understand ('7', '').
        text = ' '.join(str(error).split())
        if getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT):  # FFmpeg errors have errno, too
            return OSError(f'cannot write {job.target}: {text}; free some space and repeat the command to continue')
        return VideoFailure(job.name, text if len(text) > 10 else f'{type(error).__name__}: {text}')
    return None if damage is None else VideoFailure(job.name, damage, kept=True)

"""Run one video of each split through its pipeline, as in training.

With valid lists and files, a run may still fail an epoch later, for example because of a crop that is larger than the
frames or a decoder that is not installed. The check runs in a subprocess: decoders may hang or crash, and a process
that has used some of them, or has threads, must not fork data workers.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from dsanet.data_checks.existence import golden_ratio_order
from dsanet.data_checks.probe import ProbeResult, ProbeTask
from dsanet.data_checks.report import Finding, format_record
from dsanet.data_checks.splits import Split
from dsanet.datasets.records import VideoRecord
from dsanet.datasets.transforms.base import BadSample, MissingSample, Record
from dsanet.datasets.transforms.compose import Compose
from dsanet.datasets.video.subprocess_reader import shorten_error
from dsanet.utils.machine_faults import SHARED_MEMORY_ADVICE, explain_shortage, format_size, free_shared_memory
from dsanet.utils.worker_pool import WorkerFailure, run_in_processes

PREFETCHED = 2  # batches that each data worker prepares, torch's default
IN_USE = 2  # batches that the main process holds: the current and the next one
MAX_ATTEMPTS = 3  # videos of a split that are tried until one can be read


def try_pipelines(
    splits: Sequence[Split], facts: Mapping[ProbeTask, ProbeResult] | None = None, time_limit: float = 30
) -> list[Finding]:
    """Run a video of each split through its pipeline; if it cannot be read, try another one.

    It forks, so call it before the process has threads, such as those of a process group or a data loader. It does not
    change the random state of this process.

    Args:
        splits: training, validation and test; splits with findings are skipped.
        facts: results of their files by ``Split.probe_task``, to try readable videos with the smallest frames first
            and no unreadable ones; None to try any videos.
        time_limit: seconds per video.

    Returns:
        An error for each split whose pipeline fails for a reason other than an unreadable video, or whose batches do
        not fit into shared memory; a warning if the queued batches may not fit; a warning for each
        without a readable video among those tried, unless all are missing, which another check reports.
    """
    waiting = {n: _choose_videos(split, facts) for n, split in enumerate(splits) if not split.findings}
    bad: dict[int, list[tuple[VideoRecord, str]]] = {n: [] for n in waiting}
    findings: list[Finding] = []
    for attempt in range(MAX_ATTEMPTS):
        tasks = [(n, chosen[attempt]) for n, chosen in waiting.items() if attempt < len(chosen)]
        # A forked process has the pipelines in the function, without pickling, like data workers.
        function = partial(_make_sample, splits, tasks)
        for task, result in run_in_processes(function, range(len(tasks)), 1, time_limit):
            n, record = tasks[task]
            failed = isinstance(result, WorkerFailure)
            kind, text, num_bytes = ('bad', f'{record.key}: {result.text}', 0) if failed else result
            if kind == 'bad':
                bad[n].append((record, text))
            if kind in ('missing', 'bad'):
                continue
            del waiting[n]
            findings += check_shared_memory(splits[n], num_bytes)
            if kind == 'error':
                text = f'the pipeline fails: {text}'
                findings.append(Finding('error', 'pipeline', splits[n].name, text, (format_record(record),)))
    for n in waiting:
        if bad[n]:
            text = f'the pipeline was not tested: {splits[n].count(len(bad[n]))} tried, none can be read'
            examples = tuple(f'{record.source}: {reason}' for record, reason in bad[n])
            findings.append(Finding('warning', 'pipeline', splits[n].name, text, examples))
    return findings


def check_shared_memory(split: Split, num_bytes: int) -> Iterator[Finding]:
    """Check that the batches of the data workers fit into shared memory.

    Args:
        split: the split.
        num_bytes: size of a sample.
    """
    free = free_shared_memory()
    batch = num_bytes * split.batch_size
    total = batch * (split.num_workers * PREFETCHED + IN_USE)
    if not split.num_workers or free is None or total <= free:
        return
    level = 'error' if batch > free else 'warning'
    text = (
        f'shared memory (/dev/shm) has {format_size(free)} free, but {split.num_workers} data workers with '
        f'batch_size={split.batch_size} queue up to {format_size(total)}; {SHARED_MEMORY_ADVICE}'
    )
    yield Finding(level, 'shared_memory', split.name, text)


def _choose_videos(split: Split, facts: Mapping[ProbeTask, ProbeResult] | None) -> list[VideoRecord]:
    """Return the videos of a split to try, in this order."""
    records = split.records
    if facts is None:
        return [records[index] for index in golden_ratio_order(len(records))[:MAX_ATTEMPTS].tolist()]
    readable = [(record, one) for record in records if (one := facts[split.probe_task(record)]).kind == 'ok']
    by_size = sorted(readable, key=lambda pair: min(pair[1].height, pair[1].width))
    return [record for record, _ in by_size[:MAX_ATTEMPTS]]


def _make_sample(splits: Sequence[Split], tasks: Sequence[tuple[int, VideoRecord]], task: int) -> tuple[str, str, int]:
    """Make one sample, in the subprocess.

    Returns:
        'ok', 'missing', 'bad' (cannot be read), or 'error' for any other error; the error message; and the size of the
        sample in bytes.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    number, record = tasks[task]
    split = splits[number]
    sample = _initial_sample(split, record)
    try:
        made = Compose(split.steps, tuple(sample), owner='the dataset')(sample)
    except BadSample as error:
        if (shortage := explain_shortage(error)) is not None:
            return 'error', shortage, 0
        if isinstance(error, MissingSample):
            return 'missing', '', 0
        return 'bad', shorten_error(error), 0
    except Exception as error:
        name = '' if isinstance(error, (ImportError, ValueError)) else f' [{type(error).__name__}]'
        return 'error', f'{shorten_error(error)}{name}', 0
    return 'ok', '', getattr(made.get('inputs'), 'nbytes', 0)


def _initial_sample(split: Split, record: VideoRecord) -> Record:
    """Return the input of the pipeline, as the dataset makes it."""
    label: Any = record.labels[0]
    if split.multi_hot is not None:
        label = np.isin(np.arange(split.multi_hot), record.labels).astype(np.float32)
    sample = {'path': record.path, 'label': label, 'index': 0, 'rng': np.random.default_rng(0)}
    if split.filename_tmpl is None:
        return sample if record.span is None else sample | {'span': record.span}
    return sample | {
        'num_frames': record.num_frames,
        'filename_tmpl': split.filename_tmpl,
        'start_index': split.start_index,
        'fps': split.fps,
    }

"""Whether pipelines work: one video of each split goes through its own, as in training.

Lists and files may be right and the run end nevertheless, an epoch later, with a crop that is larger than the frames or
a decoder that is not installed. The trial is made in a process of its own: decoders may hang or crash, and a process
that has used some, or has threads, should not fork data workers any more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from dsanet.data_checks.existence import spread_order
from dsanet.data_checks.probe import FileFacts, Job
from dsanet.data_checks.report import Finding, name_video
from dsanet.data_checks.splits import Split
from dsanet.datasets.annotation import VideoRecord
from dsanet.datasets.transforms.base import BadSample, MissingSample, Record
from dsanet.datasets.transforms.compose import Compose
from dsanet.datasets.video.subprocess_reader import shorten_error
from dsanet.utils.worker_pool import Failure, run_guarded

ATTEMPTS = 3  # videos of a split that are tried until one can be read


@dataclass(frozen=True)
class _Outcome:
    """What became of a video.

    Args:
        kind: 'ok'; 'missing' if it is not there; 'bad' if it cannot be read; 'error' if anything else went wrong,
            which ends a run.
        text: what went wrong.
    """

    kind: str
    text: str = ''


def try_pipelines(
    splits: Sequence[Split], facts: Mapping[Job, FileFacts] | None = None, time_limit: float = 30
) -> list[Finding]:
    """Push a video of each split through its pipeline, another one if that cannot be read.

    It forks; call it before there are threads, such as those of a process group or of a loader. No random state of this
    process is drawn from.

    Args:
        splits: training, validation and test. Those whose lists are wrong are left out.
        facts: of their files, by ``Split.job_of``: the readable videos with the smallest frames are tried first, and no
            others. None for any videos.
        time_limit: seconds that a video may take.

    Returns:
        An error for each split whose pipeline fails for another reason than a video that cannot be read; a warning for
        each of which no video that was tried can be read, unless all are missing, which is another check's.
    """
    waiting = {n: _choose(split, facts) for n, split in enumerate(splits) if not split.findings}
    bad: dict[int, list[tuple[VideoRecord, str]]] = {n: [] for n in waiting}
    findings = []
    for attempt in range(ATTEMPTS):
        tried = [(n, chosen[attempt]) for n, chosen in waiting.items() if attempt < len(chosen)]
        # The function holds the pipelines: a forked process has them without pickling, as data workers do.
        function = partial(_make_sample, splits, tried)
        for job, result in run_guarded(function, range(len(tried)), 1, time_limit):
            n, record = tried[job]
            outcome = _Outcome('bad', f'{record.path}: {result.text}') if isinstance(result, Failure) else result
            if outcome.kind == 'bad':
                bad[n].append((record, outcome.text))
            if outcome.kind in ('missing', 'bad'):
                continue
            del waiting[n]
            if outcome.kind == 'error':
                text = f'the pipeline fails, which ends a run: {outcome.text}'
                findings.append(Finding('error', 'pipeline', splits[n].name, text, (name_video(record),)))
    for n in waiting:
        if bad[n]:
            text = f'the pipeline could not be tried: none of {len(bad[n])} videos can be read'
            examples = tuple(f'{record.source}: {reason}' for record, reason in bad[n])
            findings.append(Finding('warning', 'pipeline', splits[n].name, text, examples))
    return findings


def _choose(split: Split, facts: Mapping[Job, FileFacts] | None) -> list[VideoRecord]:
    """Return the videos of a split to try, in this order."""
    records = split.records
    if facts is None:
        return [records[place] for place in spread_order(len(records))[:ATTEMPTS].tolist()]
    good = [(record, one) for record in records if (one := facts[split.job_of(record)]).kind == 'ok']
    return [record for record, _ in sorted(good, key=lambda pair: min(pair[1].height, pair[1].width))[:ATTEMPTS]]


def _make_sample(splits: Sequence[Split], tried: Sequence[tuple[int, VideoRecord]], job: int) -> _Outcome:
    """Make the sample of one of the chosen videos, in the process for it."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    number, record = tried[job]
    split = splits[number]
    start = _start(split, record)
    try:
        Compose(split.steps, tuple(start), owner='the dataset')(start)
    except MissingSample:
        return _Outcome('missing')
    except BadSample as error:
        return _Outcome('bad', shorten_error(error))
    except Exception as error:
        kind = '' if isinstance(error, (ImportError, ValueError)) else f' [{type(error).__name__}]'
        return _Outcome('error', f'{shorten_error(error)}{kind}')
    return _Outcome('ok')


def _start(split: Split, record: VideoRecord) -> Record:
    """Return what the pipeline starts from, as the dataset gives it."""
    label: Any = record.labels[0]
    if split.multi_hot is not None:
        label = np.isin(np.arange(split.multi_hot), record.labels).astype(np.float32)
    start = {'path': record.path, 'label': label, 'index': 0, 'rng': np.random.default_rng(0)}
    if split.filename_tmpl is None:
        return start
    return start | {
        'num_frames': record.num_frames,
        'filename_tmpl': split.filename_tmpl,
        'start_index': split.start_index,
    }

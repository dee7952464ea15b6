"""All checks together, in two forms.

The quick form opens no file but a video of each split, for the trial of its pipeline. It looks for files until its time
is up, in an order that spreads over the whole list, and says how many it looked for. Only of those it knows which are
one file under two names; the full form looks for all.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dsanet.data_checks.duplicates import check_copies, check_links, check_overlap, check_repeats, check_same_content
from dsanet.data_checks.existence import look_for_files
from dsanet.data_checks.files import check_facts, check_files, check_lengths
from dsanet.data_checks.labels import check_balance, check_class_names, check_classes_of, check_labels
from dsanet.data_checks.probe import FileFacts, Identity, Job
from dsanet.data_checks.report import LEVELS, Finding, Report, describe
from dsanet.data_checks.splits import Split
from dsanet.utils import distributed
from dsanet.utils.text import printable

LOGGER = logging.getLogger(__name__)


def quick_report(splits: Sequence[Split], seconds: float | None = 1.0, tried: Sequence[Finding] = ()) -> Report:
    """Check everything that can be told without opening a file.

    Args:
        splits: training, validation and test.
        seconds: how long to look for files, all splits together; None to look for all of them.
        tried: what ``trial.try_pipelines`` found.

    Returns:
        The report; a finding that two splits share, such as a list that validation and test have in common, once.
    """
    findings = [*_check_records(splits), *tried]
    notes = []
    identities = {}
    for split in splits:
        findings += check_lengths(split, [(r, r.num_frames) for r in split.records if r.num_frames is not None])
        of_split = look_for_files(split, None if seconds is None else seconds / len(splits))
        identities[split.name] = of_split.identities
        findings += check_files(split, of_split.bad, of_split.num_videos)
        if of_split.num_videos < len(split.records):
            share = f'{of_split.num_videos:,} of {len(split.records):,}'
            notes.append(f'{split.name}: {share} videos were looked for, spread over the list')
    for train, other in _pairs(splits):
        findings += check_links(train, other, identities)
    return Report('quick', _numbers(splits), _sorted(findings), notes)


def full_report(
    splits: Sequence[Split],
    facts: Mapping[Job, FileFacts],
    identities: Mapping[Job, Identity] | None = None,
    tried: Sequence[Finding] = (),
) -> Report:
    """Check records and files.

    Args:
        splits: training, validation and test.
        facts: of every file of theirs, by ``Split.job_of``, from ``inspection.Inspection``.
        identities: of the files, from there; None for not knowing which paths links make the same.
        tried: what ``trial.try_pipelines`` found.
    """
    findings = [*_check_records(splits), *tried]
    for split in splits:
        findings += [*check_facts(split, facts), *check_copies(split, facts)]
    by_split = {split.name: _by_place(split, identities or {}) for split in splits}
    for train, other in _pairs(splits):
        findings += [*check_links(train, other, by_split), *check_same_content(train, other, facts, by_split)]
    return Report('full', _numbers(splits, facts), _sorted(findings))


def announce(report: Report) -> None:
    """Log what the quick form found, a line a finding.

    Raises:
        ValueError: there are errors; names the first ones.
    """
    for name, numbers in report.splits.items():
        LOGGER.info('%s: %s', name, describe(numbers))
    for finding in report.of_level('warning'):
        example = f', such as {finding.examples[0]}' if finding.examples else ''
        LOGGER.warning('%s: %s', finding.split, printable(finding.text + example))
    errors = report.of_level('error')
    if errors:
        text = printable('\n'.join(str(finding) for finding in errors))
        raise ValueError(f'the data are not fit to train on; --no-check trains nevertheless\n{text}')


def check_before_training(splits: Sequence[Split], tried: Sequence[Finding] = ()) -> None:
    """Look at the data for half a second on rank 0, rather than let a long run end in them.

    Args:
        splits: what the run trains and validates on.
        tried: what a trial of the pipelines has found already.

    Raises:
        ValueError: a run would end in them or be pointless; in all processes.
    """
    problem = None
    if distributed.rank() == 0:
        try:
            announce(quick_report(splits, 0.5, tried))
        except ValueError as error:
            problem = str(error)
    problem = distributed.all_gather_object(problem)[0]
    if problem is not None:
        raise ValueError(problem)


def _check_records(splits: Sequence[Split]) -> list[Finding]:
    """Return what the lists alone tell."""
    findings = [finding for split in splits for finding in split.findings]
    training = [split for split in splits if split.is_training]
    for split in splits:
        findings += [*check_labels(split), *check_repeats(split)]
        if not split.is_training:
            findings += [*check_class_names(training, split), *check_classes_of(training, split)]
    if training:
        # The parts of a mixture are trained on together.
        records = [record for split in training for record in split.records]
        findings += check_balance(
            training[0] if len(training) == 1 else replace(training[0], name='train', records=records)
        )
    for train, other in _pairs(splits):
        findings += check_overlap(train, other)
    return findings


def _pairs(splits: Sequence[Split]) -> Iterator[tuple[Split, Split]]:
    """Yield each training split with each of the others."""
    return ((a, b) for a in splits if a.is_training for b in splits if not b.is_training)


def _by_place(split: Split, identities: Mapping[Job, Identity]) -> dict[int, Identity]:
    """Return identities by place in a split's list."""
    jobs = map(split.job_of, split.records)
    return {place: identities[job] for place, job in enumerate(jobs) if job in identities}


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first; of validation and test, which often share a list, the same finding about the same things once."""
    seen: dict[tuple[str, str, str, tuple[str, ...]], Finding] = {}
    for finding in findings:
        split = finding.split.replace('test', 'val')
        seen.setdefault((finding.level, split, finding.text, finding.examples), finding)
    return sorted(seen.values(), key=lambda finding: LEVELS.index(finding.level))


def _numbers(splits: Sequence[Split], facts: Mapping[Job, FileFacts] | None = None) -> dict[str, dict[str, Any]]:
    """Return what a report says of each split in numbers."""
    numbers = {}
    for split in splits:
        every = [one for r in split.records if (one := facts.get(split.job_of(r))) is not None] if facts else []
        numbers[split.name] = _numbers_of(split, every)
    return numbers


def _numbers_of(split: Split, facts: Sequence[FileFacts]) -> dict[str, Any]:
    """Return what a report says of a split in numbers.

    Args:
        split: of which lists tell.
        facts: what its files tell; none if they were not opened.
    """
    counts = split.counts
    good = [one for one in facts if one.kind == 'ok']
    lengths = [one.num_frames for one in good] or [n for r in split.records if (n := r.num_frames) is not None]
    seconds = [one.num_frames / one.fps for one in good if one.fps]
    numbers: dict[str, Any] = {
        'videos': len(split.records),
        'classes': len(counts),
        'videos_per_class': (min(counts.values(), default=0), max(counts.values(), default=0)),
        'histogram': {str(label): counts[label] for label in sorted(counts)},
    }
    if split.decoder is not None:
        numbers['decoder'] = split.decoder
    if lengths:
        numbers['frames'] = (min(lengths), max(lengths), int(np.median(lengths)))
    if seconds:
        numbers['seconds'] = (min(seconds), max(seconds), float(np.median(seconds)))
    if good:
        numbers['resolutions'] = dict(Counter(f'{one.width}x{one.height}' for one in good).most_common())
        numbers['unreadable'] = len(facts) - len(good)
    return numbers

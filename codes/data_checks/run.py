"""Run all checks, as a quick or a full check.

The quick check opens only one video of each split, to try its pipeline. Until its time limit, it checks whether
files exist, in an order that is spread over the whole list, and reports the number of checked files. It finds links
only among these; the full check finds them among all files.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dsanet.data_checks.duplicates import check_copies, check_duplicates, check_links, check_overlap, check_same_content
from dsanet.data_checks.existence import scan_files
from dsanet.data_checks.files import check_facts, check_files, check_lengths
from dsanet.data_checks.labels import check_balance, check_class_names, check_flip, check_labels, check_unseen_classes
from dsanet.data_checks.probe import Identity, ProbeResult, ProbeTask
from dsanet.data_checks.reading import read_split
from dsanet.data_checks.report import LEVELS, Finding, Report, format_statistics
from dsanet.data_checks.splits import Split
from dsanet.datasets.records import VideoRecords
from dsanet.utils import distributed
from dsanet.utils.text import printable, printable_lines

LOGGER = logging.getLogger(__name__)


def quick_report(
    splits: Sequence[Split], seconds: float | None = 1.0, pipeline_findings: Sequence[Finding] = ()
) -> Report:
    """Check everything that does not need to open files.

    Args:
        splits: training, validation and test.
        seconds: time limit to look for files, for all splits together; None to look for all files.
        pipeline_findings: findings of ``pipeline.try_pipelines``.
    """
    findings = [*_check_records(splits), *pipeline_findings]
    notes = []
    identities = {}
    for split in splits:
        known = split.columns.with_frame_counts()
        if known.frame_counts is not None:
            findings += check_lengths(split, known, known.frame_counts, split.fps or np.nan)
        scan = scan_files(split, None if seconds is None else seconds / len(splits))
        identities[split.name] = scan.identities
        findings += check_files(split, scan.bad, scan.num_videos)
        if scan.num_videos < len(split.records):
            share = f'{scan.num_videos:,} of {len(split.records):,}'
            notes.append(f'{split.name}: {share} files checked for existence, spread over the list')
    for train, other in _pairs(splits):
        findings += check_links(train, other, identities)
    return Report('quick', _statistics(splits), _sort(findings), notes)


def full_report(
    splits: Sequence[Split],
    facts: Mapping[ProbeTask, ProbeResult],
    identities: Mapping[ProbeTask, Identity] | None = None,
    pipeline_findings: Sequence[Finding] = (),
) -> Report:
    """Check records and files.

    Args:
        splits: training, validation and test.
        facts: results of all their files, by ``Split.probe_task``, from ``probe.inspect_videos``.
        identities: identities of the files, from there; None to skip the search for links.
        pipeline_findings: findings of ``pipeline.try_pipelines``.
    """
    findings = [*_check_records(splits), *pipeline_findings]
    for split in splits:
        findings += [*check_facts(split, facts), *check_copies(split, facts)]
    by_split = {split.name: _by_index(split, identities or {}) for split in splits}
    for train, other in _pairs(splits):
        findings += [*check_links(train, other, by_split), *check_same_content(train, other, facts, by_split)]
    return Report('full', _statistics(splits, facts), _sort(findings))


def log_report(report: Report) -> None:
    """Log the statistics and warnings of a quick check, and raise a ValueError if there are errors."""
    for name, numbers in report.splits.items():
        LOGGER.info('%s: %s', name, format_statistics(numbers))
    for finding in report.of_level('warning'):
        example = f', for example {finding.examples[0]}' if finding.examples else ''
        LOGGER.warning('%s: %s', finding.split, printable(finding.text + example))
    errors = report.of_level('error')
    if errors:
        text = '\n'.join(str(finding) for finding in errors)
        raise ValueError(f'data check failed; use --no-check to train anyway\n{text}')


def find_test_errors(config: Mapping[str, Any]) -> str:
    """Return the errors in the test data of a config, one per line; empty if there are none."""
    num_classes = config['model'].get('cls_head', {}).get('num_classes')
    try:
        splits = read_split('test_dataloader', config['test_dataloader'], num_classes)
    except (FileNotFoundError, KeyError, ValueError) as error:
        return str(error.args[0] if isinstance(error, KeyError) else error)
    return '\n'.join(str(finding) for finding in quick_report(splits, 0.5).of_level('error'))


def warn_of_test_errors(config: Mapping[str, Any]) -> None:
    """Log errors in the test data, unless these are the validation data, which are checked anyway."""
    test, val = (config.get(f'{name}_dataloader', {}).get('dataset') for name in ('test', 'val'))
    if test is not None and _source(test) != (val and _source(val)) and (text := find_test_errors(config)):
        LOGGER.warning('The test data have errors, so a test of this run would fail:\n%s', printable_lines(text))


def _source(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a dataset without its pipelines, which tell how its videos are read."""
    found = {key: value for key, value in dataset.items() if key != 'pipeline'}
    if 'datasets' in found:
        found['datasets'] = [_source(part) for part in found['datasets']]
    return found


def check_before_training(
    splits: Sequence[Split], config: Mapping[str, Any], pipeline_findings: Sequence[Finding] = ()
) -> None:
    """Check the data for half a second on rank 0, so that a long run does not fail because of them.

    Raises:
        ValueError: there are errors; in all processes.
    """
    problem = None
    if distributed.rank() == 0:
        try:
            log_report(quick_report(splits, 0.5, pipeline_findings))
            warn_of_test_errors(config)
        except ValueError as error:
            problem = str(error)
    problem = distributed.all_gather_object(problem)[0]
    if problem is not None:
        raise ValueError(problem)


def _check_records(splits: Sequence[Split]) -> list[Finding]:
    """Run the checks that need only the lists."""
    findings = [finding for split in splits for finding in split.findings]
    training = [split for split in splits if split.is_training]
    for split in splits:
        findings += [*check_labels(split), *check_flip(split), *check_duplicates(split)]
        if not split.is_training:
            findings += [*check_class_names(training, split), *check_unseen_classes(training, split)]
    if training:
        # All parts of a mixed dataset together.
        records = VideoRecords.concatenate([split.columns for split in training])
        findings += check_balance(
            training[0] if len(training) == 1 else replace(training[0], name='train', records=records)
        )
    for train, other in _pairs(splits):
        findings += check_overlap(train, other)
    return findings


def _pairs(splits: Sequence[Split]) -> Iterator[tuple[Split, Split]]:
    """Yield each training split with each of the others."""
    return ((a, b) for a in splits if a.is_training for b in splits if not b.is_training)


def _by_index(split: Split, identities: Mapping[ProbeTask, Identity]) -> dict[int, Identity]:
    jobs = map(split.probe_task, split.records)
    return {index: identities[job] for index, job in enumerate(jobs) if job in identities}


def _sort(findings: Iterable[Finding]) -> list[Finding]:
    """Sort errors first, and drop equal findings of validation and test, which often share a list."""
    seen: dict[tuple[str, str, str, tuple[str, ...]], Finding] = {}
    for finding in findings:
        split = finding.split.replace('test', 'val')
        seen.setdefault((finding.level, split, finding.text, finding.examples), finding)
    return sorted(seen.values(), key=lambda finding: LEVELS.index(finding.level))


def _statistics(
    splits: Sequence[Split], facts: Mapping[ProbeTask, ProbeResult] | None = None
) -> dict[str, dict[str, Any]]:
    statistics = {}
    for split in splits:
        found = [one for r in split.records if (one := facts.get(split.probe_task(r))) is not None] if facts else []
        statistics[split.name] = _statistics_of(split, found)
    return statistics


def _statistics_of(split: Split, facts: Sequence[ProbeResult]) -> dict[str, Any]:
    counts = split.counts
    readable = [one for one in facts if one.kind == 'ok']
    lengths: Any = [one.num_frames for one in readable]
    if not lengths and (known := split.columns.with_frame_counts()).frame_counts is not None:
        lengths = known.frame_counts
    seconds = [one.num_frames / one.fps for one in readable if one.fps]
    numbers: dict[str, Any] = {
        'videos': len(split.records),
        'classes': len(counts),
        'videos_per_class': (min(counts.values(), default=0), max(counts.values(), default=0)),
        'histogram': {str(label): counts[label] for label in sorted(counts)},
    }
    if split.noun == 'sample':
        numbers['files'] = len(set(split.paths))
    if split.decoder is not None:
        numbers['decoder'] = split.decoder
    if len(lengths):
        numbers['frames'] = (int(np.min(lengths)), int(np.max(lengths)), int(np.median(lengths)))
    if seconds:
        numbers['seconds'] = (min(seconds), max(seconds), float(np.median(seconds)))
    if readable:
        numbers['resolutions'] = dict(Counter(f'{one.width}x{one.height}' for one in readable).most_common())
        numbers['unreadable'] = len(facts) - len(readable)
    return numbers

"""Check the files of a split: readability, length, frame rate and resolution."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from dsanet.data_checks.probe import ProbeResult, ProbeTask
from dsanet.data_checks.report import Finding, format_record
from dsanet.data_checks.splits import Split
from dsanet.datasets.frame_names import FrameNames
from dsanet.datasets.list_hints import explain_missing
from dsanet.datasets.records import VideoRecord
from dsanet.datasets.span_lists import is_span_list, read_span_rows

MAX_RATE_RATIO = 1.3  # of a frame rate and the most frequent one


def check_files(split: Split, bad: Sequence[ProbeResult], num_checked: int) -> Iterator[Finding]:
    """Report files that cannot be read.

    Args:
        split: the split.
        bad: results of the unreadable videos.
        num_checked: number of videos that were checked.
    """
    if not bad:
        return
    places = split.columns.find_keys([facts.path for facts in bad])
    records = {key: split.records[index] for key, index in places.items()}
    is_too_much = len(bad) > split.max_bad_share * num_checked
    for kind, what in (
        ('missing', 'are missing or empty'),
        ('unreadable', 'cannot be read'),
        ('bad_span', 'are spans that end after their video or have no frames'),
        ('hung', 'exceeded the time limit'),
        ('crashed', 'crashed the decoder'),
    ):
        chosen = sorted((facts for facts in bad if facts.kind == kind), key=lambda facts: facts.path)
        if not chosen:
            continue
        text = f'{len(chosen)} of {split.count(num_checked)} {what}'
        if kind == 'missing' and len(chosen) == num_checked:
            text = f'all {num_checked:,} checked {split.noun}s are missing or empty; check data_root'
        elif kind == 'bad_span':
            text += '; correct the list'
        elif not is_too_much:
            text += '; training will replace them'
        elif split.max_bad_share:
            text += f', more than max_bad_share={split.max_bad_share:g} allows'
        else:
            text += '; a run would stop at the first of them'
        if kind == 'missing':
            text += _missing_files_hint(split, records[chosen[0].path])
        level = 'error' if is_too_much or kind == 'bad_span' else 'warning'
        examples = tuple(f'{records[facts.path].source}: {facts.error}' for facts in chosen)
        yield Finding(level, f'files_{kind}', split.name, text, examples)


def _missing_files_hint(split: Split, record: VideoRecord) -> str:
    """Return the likely reason why a video is missing; '' if unknown."""
    listed = _listed_path(record)
    if listed is None or (split.filename_tmpl is None and os.path.isfile(record.path)):  # an empty file
        return ''
    frame_names = None if split.filename_tmpl is None else FrameNames(split.filename_tmpl, split.start_index)
    roots = [split.data_root or '', os.path.dirname(record.list_file), '']
    return explain_missing(listed, roots, frame_names)


def _listed_path(record: VideoRecord) -> str | None:
    """Return the path as written in the list file; None without a list file."""
    if record.line is None or not os.path.isfile(record.list_file):
        return None
    with open(record.list_file, encoding='utf-8-sig', errors='surrogateescape') as lines:
        line = next(islice(lines, record.line - 1, None), '')
    if is_span_list(record.list_file):
        return next((row.video for row in read_span_rows(record.list_file, []) if row.line == record.line), None)
    fields = line.strip().rsplit(maxsplit=1 if record.num_frames is None else 2)
    return fields[0] if len(fields) > 1 else None


def check_facts(split: Split, facts: Mapping[ProbeTask, ProbeResult]) -> Iterator[Finding]:
    """Check what was found in the files of a split.

    Args:
        split: the split.
        facts: results of all its videos, by ``split.probe_task``.
    """
    found = [facts[split.probe_task(record)] for record in split.records]
    yield from check_files(split, [one for one in found if one.kind != 'ok'], len(found))
    readable = [(record, one) for record, one in zip(split.records, found, strict=True) if one.kind == 'ok']
    suspicious = [(record, one) for record, one in readable if one.warning]
    if suspicious:
        text = f'{len(suspicious)} of {split.count(len(found))} can be read, but have problems'
        examples = tuple(f'{format_record(record)}: {one.warning}' for record, one in suspicious)
        yield Finding('warning', 'files_odd', split.name, text, examples)
    lengths = np.array([one.num_frames for _, one in readable], dtype=np.int64)
    rates = np.array([one.fps or split.fps or np.nan for _, one in readable])
    yield from check_lengths(split, [record for record, _ in readable], lengths, rates)
    yield from _check_resolutions(split, readable)
    yield from _check_rates(split, [(record, one.fps) for record, one in readable if one.fps])


def check_lengths(
    split: Split,
    records: Sequence[VideoRecord],
    lengths: npt.NDArray[np.integer[Any]],
    rates: npt.NDArray[np.float64] | float,
) -> Iterator[Finding]:
    """Look for videos with fewer than ``split.needed_frames`` frames or ``split.needed_seconds``.

    Args:
        split: the split.
        records: its videos whose length is known.
        lengths: (len(records),), their numbers of frames.
        rates: their frames per second, (len(records),) or one for all; NaN if unknown.
    """
    # Times are rounded: a video of exactly this length is long enough.
    short = np.flatnonzero((lengths < split.needed_frames) | (lengths / rates < 0.99 * split.needed_seconds))
    if len(short):
        by_time = split.needed_seconds > 0
        least = (
            f'are shorter than {split.needed_seconds:.2f} s'
            if by_time
            else f'have fewer than {split.needed_frames} frames'
        )
        change = 'larger fps or smaller seconds' if by_time else 'smaller frame_interval'
        text = (
            f'{len(short)} of {split.count(len(lengths))} {least}, so snippets or frames repeat; consider a {change}, '
            'or fewer frames_per_snippet'
        )
        short = short[np.argsort(lengths[short], kind='stable')]
        examples = tuple(f'{format_record(records[i])}: {lengths[i]} frames' for i in short.tolist())
        yield Finding('warning' if 10 * len(short) > len(lengths) else 'note', 'length', split.name, text, examples)


def _check_rates(split: Split, rates: Sequence[tuple[VideoRecord, float]]) -> Iterator[Finding]:
    """Look for unusual frame rates: the same action is then faster or slower in the sampled frames, unless by time."""
    if split.needed_seconds:
        return
    counts = Counter(max(1, round(fps)) for _, fps in rates)
    usual = counts.most_common(1)[0][0] if counts else 1
    others = [(record, fps) for record, fps in rates if max(fps / usual, usual / fps) > MAX_RATE_RATIO]
    if others:
        text = (
            f'{len(others)} of {split.count(len(rates))} have a different frame rate than the most common one, '
            f'{usual} fps; frame_interval counts frames, so their actions look slower or faster; '
            f'sample by time (fps of SampleSnippets), or convert all videos with dsanet transcode --fps {usual}'
        )
        level = 'warning' if 10 * len(others) > len(rates) else 'note'
        examples = tuple(f'{format_record(record)}: {fps:g} fps' for record, fps in others)
        yield Finding(level, 'frame_rate', split.name, text, examples)


def _check_resolutions(split: Split, readable: Sequence[tuple[VideoRecord, ProbeResult]]) -> Iterator[Finding]:
    """Look for frames that are enlarged."""
    side = split.short_side
    small = [(record, one) for record, one in readable if min(one.height, one.width) < side]
    if small:
        smallest = min(min(one.height, one.width) for _, one in small)
        text = f'{len(small)} of {split.count(len(readable))} are smaller than {side} pixels and will be enlarged'
        examples = tuple(f'{format_record(record)}: {one.width}x{one.height}' for record, one in small)
        yield Finding('warning' if 2 * smallest < side else 'note', 'resolution', split.name, text, examples)

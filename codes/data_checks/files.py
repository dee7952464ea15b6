"""Checks of videos themselves: whether they can be read, how long they are, and how large."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from dsanet.data_checks.probe import FileFacts, Job
from dsanet.data_checks.report import Finding, name_video
from dsanet.data_checks.splits import Split
from dsanet.datasets.annotation import VideoRecord

UNEQUAL_RATES = 1.3  # so many times the usual frame rate, or the other way round, is worth a word


def check_files(split: Split, bad: Sequence[FileFacts], looked: int) -> Iterator[Finding]:
    """Judge files that cannot be read.

    Args:
        split: whose ``max_bad_share`` counts.
        bad: what cannot be read.
        looked: of how many videos this is.
    """
    if not bad:
        return
    records = {record.path: record for record in split.records}
    is_too_much = len(bad) > split.max_bad_share * looked
    for kind, what in (
        ('missing', 'are missing or empty'),
        ('unreadable', 'cannot be read'),
        ('hung', 'took longer to read than the time limit'),
        ('crashed', 'made the decoder crash'),
    ):
        chosen = sorted((facts for facts in bad if facts.kind == kind), key=lambda facts: facts.path)
        if not chosen:
            continue
        text = f'{len(chosen)} of {looked:,} videos {what}'
        if kind == 'missing' and len(chosen) == looked:
            text = f'none of the {looked:,} videos looked for is there; is this the right data_root?'
            text += _guess_why(split, records[chosen[0].path])
        elif not is_too_much:
            text += '; training takes others instead'
        elif split.max_bad_share:
            text += f'; that is too much for max_bad_share={split.max_bad_share:g}'
        else:
            text += ', which ends a run'
        level = 'error' if is_too_much else 'warning'
        examples = tuple(f'{records[facts.path].source}: {facts.error}' for facts in chosen)
        yield Finding(level, f'files_{kind}', split.name, text, examples)


def _guess_why(split: Split, record: VideoRecord) -> str:
    """Return what may be wrong with a list of which no video is there, judging by one of them; '' for no idea."""
    listed = _listed_path(record)
    folder = os.path.dirname(record.list_file)
    beside = os.path.join(folder, listed or '')
    if split.filename_tmpl is None:
        for path in (record.path, beside):
            fields = path.rsplit(maxsplit=1)
            if len(fields) == 2 and fields[1].isdigit() and os.path.isdir(fields[0]):
                return (
                    ' The lines look like `folder frames label`, which RawFramesDataset reads '
                    '(configs/custom/small_from_scratch_frames.py)'
                )
    if listed is not None and os.path.exists(beside):
        return (
            f" They are there if paths start at the list's own folder: set data_root={folder or '.'!r} for it "
            '(train_dir, val_dir in configs/custom/), or write it with dsanet build-list --relative-to DATA_ROOT'
        )
    return ''


def _listed_path(record: VideoRecord) -> str | None:
    """Return a path as it stands in the list; None if there is no list any more."""
    if record.line is None or not os.path.isfile(record.list_file):
        return None
    with open(record.list_file, encoding='utf-8-sig', errors='surrogateescape') as lines:
        line = next(islice(lines, record.line - 1, None), '')
    fields = line.strip().rsplit(maxsplit=1 if record.num_frames is None else 2)
    return fields[0] if len(fields) > 1 else None


def check_facts(split: Split, facts: Mapping[Job, FileFacts]) -> Iterator[Finding]:
    """Judge what was found in the files of a split.

    Args:
        split: whose files.
        facts: of all of them, by ``split.job_of``.
    """
    found = [facts[split.job_of(record)] for record in split.records]
    yield from check_files(split, [one for one in found if one.kind != 'ok'], len(found))
    good = [(record, one) for record, one in zip(split.records, found, strict=True) if one.kind == 'ok']
    odd = [(record, one) for record, one in good if one.warning]
    if odd:
        text = f'{len(odd)} of {len(found)} videos can be read, but something is wrong with them'
        examples = tuple(f'{name_video(record)}: {one.warning}' for record, one in odd)
        yield Finding('warning', 'files_odd', split.name, text, examples)
    yield from check_lengths(split, [(record, one.num_frames) for record, one in good])
    yield from _check_resolutions(split, good)
    yield from _check_rates(split, [(record, one.fps) for record, one in good if one.fps])


def check_lengths(split: Split, lengths: Sequence[tuple[VideoRecord, int]]) -> Iterator[Finding]:
    """Look for videos with fewer frames than are looked at.

    Args:
        split: whose ``needed_frames`` count.
        lengths: videos of it and their frames, as far as they are known.
    """
    short = [(record, n) for record, n in lengths if n < split.needed_frames]
    if short:
        text = (
            f'{len(short)} of {len(lengths)} videos have fewer than the {split.needed_frames} frames that it takes for '
            'snippets to differ, so snippets or frames repeat; a smaller frame_interval would suit them'
        )
        examples = tuple(f'{name_video(record)}: {n} frames' for record, n in sorted(short, key=lambda pair: pair[1]))
        yield Finding('warning' if 10 * len(short) > len(lengths) else 'note', 'length', split.name, text, examples)


def _check_rates(split: Split, rates: Sequence[tuple[VideoRecord, float]]) -> Iterator[Finding]:
    """Look for different frame rates, which make the same action fast in one video and slow in another.

    Args:
        split: of which the videos are.
        rates: frames a second, of the videos that state them.
    """
    counts = Counter(max(1, round(fps)) for _, fps in rates)
    usual = counts.most_common(1)[0][0] if counts else 1
    others = [(record, fps) for record, fps in rates if max(fps / usual, usual / fps) > UNEQUAL_RATES]
    if others:
        text = (
            f'{len(others)} of {len(rates)} videos have other frame rates than the usual {usual} a second; '
            'frame_interval counts frames, so actions in them seem slower or faster; '
            f'dsanet transcode --fps {usual} makes all alike'
        )
        level = 'warning' if 10 * len(others) > len(rates) else 'note'
        examples = tuple(f'{name_video(record)}: {fps:g} a second' for record, fps in others)
        yield Finding(level, 'frame_rate', split.name, text, examples)


def _check_resolutions(split: Split, good: Sequence[tuple[VideoRecord, FileFacts]]) -> Iterator[Finding]:
    """Look for frames that are enlarged."""
    side = split.short_side
    small = [(record, one) for record, one in good if min(one.height, one.width) < side]
    if small:
        worst = min(min(one.height, one.width) for _, one in small)
        text = f'{len(small)} of {len(good)} videos are smaller than the {side} pixels that they are enlarged to'
        examples = tuple(f'{name_video(record)}: {one.width}x{one.height}' for record, one in small)
        yield Finding('warning' if 2 * worst < side else 'note', 'resolution', split.name, text, examples)

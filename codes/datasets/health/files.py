"""Checks of videos themselves: whether they can be read, how long they are, and how large."""

from collections.abc import Iterator, Mapping, Sequence

from codes.datasets.annotation import VideoRecord
from codes.datasets.health.report import Finding, name_video
from codes.datasets.health.splits import Split
from codes.datasets.inspection import FileFacts, Job

LONG_FRAMES = 2.5  # width / height, or the other way round, beyond which a centre crop sees little of a frame


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
            text = f'none of the {looked:,} videos looked for is there; is data_root right?'
        elif not is_too_much:
            text += '; training takes others instead'
        elif split.max_bad_share:
            text += f'; that is too much for max_bad_share={split.max_bad_share:g}'
        else:
            text += ', which ends a run'
        level = 'error' if is_too_much else 'warning'
        examples = tuple(f'{records[facts.path].source}: {facts.error}' for facts in chosen)
        yield Finding(level, f'files_{kind}', split.name, text, examples)


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


def _check_resolutions(split: Split, good: Sequence[tuple[VideoRecord, FileFacts]]) -> Iterator[Finding]:
    """Look for frames that are enlarged, hardly seen by a crop, or turned differently from the others."""
    side = split.short_side
    small = [(record, one) for record, one in good if min(one.height, one.width) < side]
    if small:
        worst = min(min(one.height, one.width) for _, one in small)
        text = f'{len(small)} of {len(good)} videos are smaller than the {side} pixels that they are enlarged to'
        yield Finding('warning' if 2 * worst < side else 'note', 'resolution', split.name, text, _with_sizes(small))
    long = [
        (record, one) for record, one in good if max(one.height, one.width) > LONG_FRAMES * min(one.height, one.width)
    ]
    if long:
        text = f'{len(long)} of {len(good)} videos are so long or so high that a centre crop sees little of them'
        yield Finding('warning', 'resolution', split.name, text, _with_sizes(long))
    upright = [(record, one) for record, one in good if one.height > one.width]
    if 0 < len(upright) < len(good):
        text = f'{len(upright)} of {len(good)} videos are upright, the others are not'
        rare = upright if 2 * len(upright) <= len(good) else [pair for pair in good if pair[1].height <= pair[1].width]
        yield Finding('note', 'resolution', split.name, text, _with_sizes(rare))


def _with_sizes(videos: Sequence[tuple[VideoRecord, FileFacts]]) -> tuple[str, ...]:
    return tuple(f'{name_video(record)}: {one.width}x{one.height}' for record, one in videos)

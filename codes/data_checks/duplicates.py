"""Checks for one video in several places: of a list, under several names, or of training and validation."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from dsanet.data_checks.probe import FileFacts, Identity, Job
from dsanet.data_checks.report import Finding, count_videos
from dsanet.data_checks.splits import Split
from dsanet.datasets.annotation import VideoRecord


def check_repeats(split: Split) -> Iterator[Finding]:
    """Look for videos that a list names more than once."""
    if len(set(split.keys)) == len(split.keys):
        return
    by_path: dict[str, list[VideoRecord]] = defaultdict(list)
    for key, record in zip(split.keys, split.records, strict=True):
        by_path[key].append(record)
    yield from _repeats(split, by_path, 'duplicates', 'listed more than once')


def check_copies(split: Split, facts: Mapping[Job, FileFacts]) -> Iterator[Finding]:
    """Look for videos of a split that are there again under another name, by what is in the files.

    Args:
        split: whose files.
        facts: of all of them, by ``split.job_of``.
    """
    with_facts = ((record, facts[split.job_of(record)]) for record in split.records)
    good = {record.path: (record, one) for record, one in with_facts if one.kind == 'ok'}  # each path once
    by_content: dict[str, list[VideoRecord]] = defaultdict(list)
    for record, one in good.values():
        by_content[one.digest or record.path].append(record)
    yield from _repeats(split, by_content, 'same_content', 'found again under another name')


def _repeats(split: Split, groups: Mapping[str, list[VideoRecord]], check: str, what: str) -> Iterator[Finding]:
    """Tell groups of one video that agree about its labels from those that do not."""
    agreeing: list[list[VideoRecord]] = []
    contradicting: list[list[VideoRecord]] = []
    for group in groups.values():
        if len(group) > 1:
            labels = {frozenset(record.labels) for record in group}
            (agreeing if len(labels) == 1 else contradicting).append(group)
    for chosen, text in ((contradicting, f'{what}, with different labels'), (agreeing, what)):
        if chosen:
            examples = tuple(
                ', '.join(f'{record.source} (label {_labels(record)})' for record in group) + f': {group[0].path}'
                for group in chosen
            )
            yield Finding('warning', check, split.name, f'{count_videos(chosen)} {text}', examples)


def _labels(record: VideoRecord) -> str:
    return ','.join(map(str, record.labels))


def check_overlap(train: Split, other: Split) -> Iterator[Finding]:
    """Look for training videos among those of validation or test, by path; they would be judged too well."""
    trained = dict(zip(train.keys, train.records, strict=True))
    both = [(record, trained[key]) for key, record in zip(other.keys, other.records, strict=True) if key in trained]
    yield from _overlap(train, other, both, 'overlap')


def check_links(train: Split, other: Split, identities: Mapping[str, Mapping[int, Identity]]) -> Iterator[Finding]:
    """Look for training videos among those of validation or test that links, or linked folders, give another path.

    Args:
        train, other: the splits.
        identities: of their files, as of :class:`presence.FileScan`, by name of the split. A pair of which one lacks is
            not found.
    """
    both = [(other.records[i], train.records[j]) for i, j in _linked(train, other, identities)]
    yield from _overlap(train, other, both, 'links')


def check_same_content(
    train: Split,
    other: Split,
    facts: Mapping[Job, FileFacts],
    identities: Mapping[str, Mapping[int, Identity]],
) -> Iterator[Finding]:
    """Look for training videos among those of validation or test by what is in the files, not by name.

    Args:
        train, other: the splits.
        facts: of their files, by ``Split.job_of``.
        identities: as of :func:`check_links`; what that finds is left to it.
    """
    trained = {facts[train.job_of(record)].digest or '': record for record in train.records}
    trained.pop('', None)
    paths = set(train.keys)
    linked = {place for place, _ in _linked(train, other, identities)}
    both = [
        (record, trained[digest])
        for place, (key, record) in enumerate(zip(other.keys, other.records, strict=True))
        if key not in paths
        and place not in linked
        and (digest := facts[other.job_of(record)].digest) in trained
        and digest is not None
    ]
    yield from _overlap(train, other, both, 'same_content')


def _linked(train: Split, other: Split, identities: Mapping[str, Mapping[int, Identity]]) -> list[tuple[int, int]]:
    """Return the places in both lists, of ``other`` first, of files that are the same, but not by path."""
    paths = set(train.keys)
    trained = {identity: place for place, identity in identities[train.name].items()}
    found = sorted(identities[other.name].items())
    return [(i, trained[identity]) for i, identity in found if identity in trained and other.keys[i] not in paths]


def _overlap(
    train: Split, other: Split, both: Sequence[tuple[VideoRecord, VideoRecord]], check: str
) -> Iterator[Finding]:
    """Say which videos of ``other`` are which of ``train``, if there are such pairs."""
    if both:
        share = 100 * len(both) / len(other.records)
        same = {'same_content': ' with the same content', 'links': ' under another path (a link)'}.get(check, '')
        text = (
            f'{len(both)} of {len(other.records)} videos ({share:.3g} %) are also trained on{same}, which makes the '
            'accuracy look better than it is'
        )
        examples = tuple(
            f'{a.source} and {b.source}: {a.path}{f" is {b.path}" if check == "links" else ""}' for a, b in both
        )
        yield Finding('warning', check, f'{train.name} and {other.name}', text, examples)

"""Look for duplicate videos: in one list, under several names, or in both training and validation."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dsanet.data_checks.probe import Identity, ProbeResult, ProbeTask
from dsanet.data_checks.report import Finding
from dsanet.data_checks.splits import Split
from dsanet.datasets.records import VideoRecord
from dsanet.utils.text import count_noun


def check_duplicates(split: Split) -> Iterator[Finding]:
    """Look for videos that are listed more than once."""
    by_key: dict[Hashable, list[VideoRecord]] = defaultdict(list)
    for index in _repeated(split).tolist():
        record = split.records[index]
        by_key[split.path(index), record.span].append(record)
    yield from _report_groups(split, by_key, 'duplicates', 'listed more than once')


def _repeated(split: Split) -> npt.NDArray[np.int64]:
    """Return the indices of records that may be listed more than once, ascending."""
    hashes = split.path_hashes
    for limits in (split.columns.starts, split.columns.ends):
        if limits is not None:  # multiplied by an odd constant; integers wrap around
            hashes = hashes * np.int64(6364136223846793005) + limits.view(np.int64)
    order = np.argsort(hashes)
    is_equal = np.diff(hashes[order]) == 0
    return np.union1d(order[1:][is_equal], order[:-1][is_equal])


def check_copies(split: Split, facts: Mapping[ProbeTask, ProbeResult]) -> Iterator[Finding]:
    """Look for videos of a split with the same content under different names; ``facts`` by ``split.probe_task``."""
    with_facts = ((record, facts[split.probe_task(record)]) for record in split.records)
    readable = {record.path: (record, one) for record, one in with_facts if one.kind == 'ok'}  # each path once
    by_content: dict[Hashable, list[VideoRecord]] = defaultdict(list)
    for record, one in readable.values():
        by_content[one.digest or record.path].append(record)
    yield from _report_groups(split, by_content, 'same_content', 'with the same content under another name')


def _report_groups(
    split: Split, groups: Mapping[Hashable, list[VideoRecord]], check: str, what: str
) -> Iterator[Finding]:
    """Report groups of the same video, those with different labels first."""
    agreeing: list[list[VideoRecord]] = []
    contradicting: list[list[VideoRecord]] = []
    for group in groups.values():
        if len(group) > 1:
            labels = {frozenset(record.labels) for record in group}
            (agreeing if len(labels) == 1 else contradicting).append(group)
    for chosen, text in ((contradicting, f'{what}, and with different labels'), (agreeing, what)):
        if chosen:
            examples = tuple(
                ', '.join(f'{record.source} (label {_format_labels(record)})' for record in group) + f': {group[0].key}'
                for group in chosen
            )
            number = count_noun(len(chosen), 'video' if check == 'same_content' else split.noun)
            yield Finding('warning', check, split.name, f'{number} {text}', examples)


def _format_labels(record: VideoRecord) -> str:
    return ','.join(map(str, record.labels))


def check_overlap(train: Split, other: Split) -> Iterator[Finding]:
    """Look for training videos in validation or test, by path: other spans of the same file count, too."""
    trained, found = _shared_paths(train, other)
    pairs = [(other.records[i], train.records[trained[path]]) for i, path in found.items()]
    yield from _report_overlap(train, other, pairs, 'overlap')


def _shared_paths(train: Split, other: Split) -> tuple[dict[str, int], dict[int, str]]:
    """Return the last index in ``train`` of each path in both splits, and the path of each such index in ``other``."""
    in_train = np.flatnonzero(np.isin(train.path_hashes, other.path_hashes)).tolist()
    trained = {train.path(index): index for index in in_train}
    in_other = np.flatnonzero(np.isin(other.path_hashes, train.path_hashes)).tolist() if in_train else []
    found = {index: path for index in in_other if (path := other.path(index)) in trained}
    return trained, found


def check_links(train: Split, other: Split, identities: Mapping[str, Mapping[int, Identity]]) -> Iterator[Finding]:
    """Look for training videos in validation or test under another path, through links to files or folders.

    ``identities`` are those of :class:`existence.FileScan`, by name of the split.
    """
    pairs = [(other.records[i], train.records[j]) for i, j in _find_links(train, other, identities)]
    yield from _report_overlap(train, other, pairs, 'links')


def check_same_content(
    train: Split,
    other: Split,
    facts: Mapping[ProbeTask, ProbeResult],
    identities: Mapping[str, Mapping[int, Identity]],
) -> Iterator[Finding]:
    """Look for training videos in validation or test, by content; findings of :func:`check_links` are not repeated."""
    trained = {facts[train.probe_task(record)].digest or '': record for record in train.records}
    trained.pop('', None)
    shared = _shared_paths(train, other)[1]
    linked = {index for index, _ in _find_links(train, other, identities)}
    pairs = [
        (record, trained[digest])
        for index, record in enumerate(other.records)
        if index not in shared
        and index not in linked
        and (digest := facts[other.probe_task(record)].digest) in trained
        and digest is not None
    ]
    yield from _report_overlap(train, other, pairs, 'same_content')


def _find_links(train: Split, other: Split, identities: Mapping[str, Mapping[int, Identity]]) -> list[tuple[int, int]]:
    """Return (index in ``other``, index in ``train``) of the same files under different paths."""
    trained = {identity: index for index, identity in identities[train.name].items()}
    found = [(i, trained[identity]) for i, identity in sorted(identities[other.name].items()) if identity in trained]
    shared = _shared_paths(train, other)[1] if found else {}
    return [(i, j) for i, j in found if i not in shared]


def _report_overlap(
    train: Split, other: Split, pairs: Sequence[tuple[VideoRecord, VideoRecord]], check: str
) -> Iterator[Finding]:
    if pairs:
        share = 100 * len(pairs) / len(other.records)
        how = {'same_content': ' (same content)', 'links': ' under another path (a link)'}.get(check, '')
        relation = 'also' if other.noun == 'video' else 'in'
        text = (
            f'{len(pairs)} of {other.count(len(other.records))} ({share:.3g}%) are {relation} training videos{how}, '
            'so the accuracy will be too high'
        )
        examples = tuple(
            f'{a.source} and {b.source}: {a.path}{f" is {b.path}" if check == "links" else ""}' for a, b in pairs
        )
        yield Finding('warning', check, f'{train.name} and {other.name}', text, examples)

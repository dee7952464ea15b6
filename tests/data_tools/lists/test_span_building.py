import csv
from pathlib import Path
from typing import Any

import pytest

from dsanet.data_tools.lists.base import Lists
from dsanet.data_tools.lists.matching import BuiltList
from dsanet.data_tools.lists.media_index import index_media
from dsanet.data_tools.lists.span_building import add_class, build_span_lists, read_lengths
from dsanet.data_tools.lists.span_sources import ListedSpan
from tests.make_videos import write_video

Row = tuple[str, str, str, str]


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with six videos of 20 s and a damaged one."""
    root = tmp_path_factory.mktemp('films')
    first = Path(write_video(root / 'v0.mp4', 500, 18, 32, g='50'))
    for n in range(1, 6):
        (root / f'v{n}.mp4').write_bytes(first.read_bytes())
    (root / 'bad.mp4').write_bytes(b'no video')
    return root


def build(root: Path, spans: list[ListedSpan] | dict[str, list[ListedSpan]], **options: Any) -> dict[str, BuiltList]:
    splits: dict[str, Any] = spans if isinstance(spans, dict) else {'train': spans}
    names = sorted({name for found in splits.values() for span in found for name in span.classes})
    lists = Lists(names, splits)
    if 'background' in options:
        lists = add_class(lists, options['background'])
    return {one.name: one for one in build_span_lists(lists, index_media(str(root)), 'films/', **options)}


def span(video: str, label: str, start: float | None = None, end: float | None = None, **options: Any) -> ListedSpan:
    return ListedSpan((video,), tuple(label.split('|')), f'{video} {label} {start} {end}', start, end, **options)


def rows(built: BuiltList) -> list[Row]:
    return [(row[0].removeprefix('films/'), row[1], row[2], row[3]) for row in csv.reader(built.lines)]


def skipped(built: BuiltList) -> list[tuple[str, str]]:
    return [(source, reason) for _, reason, _, source in built.skipped]


def test_spans_become_rows_in_order(root: Path) -> None:
    built = build(root, [span('v1', 'b', 1, 2.5), span('v0', 'a, c'), span('v1', 'a, c|b', 3), span('v1', 'b', 0, 1)])
    train = built['train']
    assert rows(train) == [
        ('v1.mp4', 'b', '1', '2.5'),
        ('v0.mp4', 'a, c', '', ''),
        ('v1.mp4', '0,1', '3', ''),  # several classes as numbers
        ('v1.mp4', 'b', '0', '1'),
    ]
    assert (train.file_name, train.num_listed, train.skipped) == ('train.csv', 4, [])
    assert (dict(train.per_class), list(train.paths)) == ({'a, c': 2, 'b': 3}, ['v1.mp4', 'v0.mp4'])


def test_frames_become_seconds_between_frames(root: Path) -> None:
    spans = [span('v0', 'a', frames=(0, 24)), span('v1', 'a', frames=(50, 50))]
    assert [row[2:] for row in rows(build(root, spans)['train'])] == [('0', '0.98'), ('1.98', '2.02')]
    (first, _) = rows(build(root, spans, frame_rate=10)['train'])
    assert first[2:] == ('0', '2.45')


def test_invalid_spans_are_skipped_with_reason(root: Path) -> None:
    valid = [span('v0', 'a', 0, 5), span('v0', 'b', 5, 20.05)]
    invalid = [
        (span('x', 'a', 1, 2), 'not found'),
        (span('bad', 'a', 1, 2), 'cannot be opened'),
        (span('v1', 'a', 3, 2), 'invalid span'),
        (span('v1', 'a', 3, 3), 'invalid span'),
        (span('v1', 'a', 19, 21), 'invalid span'),
        (span('v1', 'a', 21), 'invalid span'),
        (span('v1', 'a', -1, 2), 'invalid span'),
        (span('v1', 'a', float('inf')), 'invalid span'),
        (span('v2', 'a', frames=(9, 8)), 'invalid span'),
        (span('v2', 'a', frames=(-1, 8)), 'invalid span'),
        (span('v0', 'b', 4.9, 7), 'overlapping'),
        (span('v0', 'a', 0, 5), 'listed twice'),
    ]
    train = build(root, [*valid, *(one for one, _ in invalid)])['train']
    assert [row[2:] for row in rows(train)] == [('0', '5'), ('5', '20.05')]
    assert sorted(skipped(train)) == sorted((one.source, reason) for one, reason in invalid)


def test_overlap_of_same_label_is_kept(root: Path) -> None:
    train = build(root, [span('v0', 'a', 0, 5), span('v0', 'a', 3, 8)])['train']
    assert (len(train.lines), train.skipped) == (2, [])


def test_videos_are_split_whole(root: Path) -> None:
    spans = [span(f'v{n}', label, s, s + 1) for n in range(6) for s, label in ((0, 'a'), (4, 'b'), (9, 'a'))]
    built = build(root, {'all': [*spans, span('x', 'a', 0, 1)]}, val_fraction=0.34, seed=3)
    of = {name: {row[0] for row in rows(one)} for name, one in built.items()}
    assert {name: len(videos) for name, videos in of.items()} == {'train': 4, 'val': 2}
    assert not of['train'] & of['val']
    assert {name: len(one.lines) for name, one in built.items()} == {'train': 12, 'val': 6}
    assert sum(len(one.skipped) for one in built.values()) == 1
    others = [build(root, {'all': spans}, val_fraction=0.34, seed=seed)['val'].lines for seed in range(4)]
    assert others[3] == built['val'].lines
    assert len({tuple(lines) for lines in others}) > 1


def test_video_in_two_splits_is_an_error(root: Path) -> None:
    with pytest.raises(ValueError, match=r'^v0 b 3 4: v0\.mp4 is in val and in train \(v0 a 1 2\)'):
        build(root, {'train': [span('v0', 'a', 1, 2)], 'val': [span('v0', 'b', 3, 4)]})


def test_val_fraction_must_match_the_files(root: Path) -> None:
    with pytest.raises(ValueError, match='--val-fraction 0.2'):
        build(root, {'all': [span('v0', 'a', 1, 2)]})
    with pytest.raises(ValueError, match='no effect: .* train'):
        build(root, [span('v0', 'a', 1, 2)], val_fraction=0.5)


def test_background_fills_gaps(root: Path) -> None:
    """Gaps of video 0: 4 s, 1 s and 9 s; of video 1: 18 s after the only span."""
    spans = [span('v0', 'a', 4, 6), span('v0', 'a', 7, 9), span('v0', 'b', 9, 11), span('v1', 'b', 0, 2)]
    built = build(root, spans, background='none')['train']
    found = [(row[0], float(row[2]), float(row[3])) for row in rows(built) if row[1] == 'none']
    # Pieces of 2 s: 2 in [0, 4], none in [6, 7], 4 in [11, 20], as many as spans; and 9 in [2, 20], one of them.
    assert found == [('v0.mp4', 2, 4), ('v0.mp4', 13.375, 15.375), ('v0.mp4', 17.875, 19.875), ('v1.mp4', 10, 12)]
    assert built.num_listed == 8
    assert [row[0] for row in rows(built)] == ['v0.mp4'] * 6 + ['v1.mp4'] * 2


def test_background_does_not_overlap_labels(root: Path) -> None:
    spans = [span('v0', 'a', 1.3, 2), span('v0', 'b', 5, 6.5), span('v0', 'a', 9, 9.4), span('v2', 'a')]
    built = build(root, spans, background='none')['train']
    limits = sorted((float(row[2]), float(row[3])) for row in rows(built) if row[0] == 'v0.mp4')
    assert len(limits) == 6
    assert all(before[1] <= after[0] for before, after in zip(limits, limits[1:], strict=False))
    assert 'v2.mp4' not in {row[0] for row in rows(built) if row[1] == 'none'}


def test_background_is_a_new_class() -> None:
    lists = Lists(['a', 'none', 'b'], {'train': [span('v0', 'a', 1, 2)]})
    assert add_class(lists, 'none').class_names == ['a', 'b', 'none']
    for name in ('a', ' '):
        with pytest.raises(ValueError, match='--background'):
            add_class(lists, name)


def test_lengths_are_read_from_headers(root: Path) -> None:
    lengths, problems = read_lengths(str(root), ['v0.mp4', 'bad.mp4'], 2)
    assert lengths == {'v0.mp4': (25, 20)}
    assert list(problems) == ['bad.mp4']

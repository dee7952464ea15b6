import os
from collections import Counter
from pathlib import Path

import pytest

from dsanet.data_checks.duplicates import check_duplicates, check_overlap
from dsanet.data_checks.existence import find_file
from dsanet.data_checks.run import full_report, quick_report
from dsanet.data_checks.splits import Split
from dsanet.datasets.records import VideoRecord
from tests.data_checks.conftest import facts, numbers, records, split
from tests.make_videos import write_frames


def test_repeated_paths_are_found_in_any_spelling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    paths = ['a/b.mp4', './a/b.mp4', 'a//b.mp4', f'{tmp_path}/a/b.mp4', 'a/c/../b.mp4', 'a/d.mp4', 'a/e/', 'a/e']
    same = Split('train', [VideoRecord(path, (0,), 'x.txt', i) for i, path in enumerate(paths, 1)])
    assert Counter(same.paths) == {f'{tmp_path}/a/b.mp4': 5, f'{tmp_path}/a/d.mp4': 1, f'{tmp_path}/a/e': 2}
    found = next(check_duplicates(same))
    assert (found.level, found.check, numbers(found.text)) == ('warning', 'duplicates', ['2'])
    assert found.examples[0].startswith('x.txt:1 (label 0), x.txt:2 (label 0), x.txt:3')


def test_repeats_with_different_labels_are_separate() -> None:
    twice = [VideoRecord(path, (k,), 'x.txt', k + 1) for path, k in (('a', 0), ('a', 1), ('b', 2), ('b', 2), ('c', 0))]
    contradicting, agreeing = check_duplicates(Split('train', twice))
    assert contradicting.examples == ('x.txt:1 (label 0), x.txt:2 (label 1): a',)
    assert agreeing.examples == ('x.txt:3 (label 2), x.txt:3 (label 2): b',)


def test_overlap_is_found_by_path() -> None:
    train = split([0, 1, 2])
    val = Split('val', [train.records[2], *records([0, 1, 2], 'val')], 3)
    found = next(check_overlap(train, val))
    assert (found.split, numbers(found.text)) == ('train and val', ['1', '4', '25'])
    assert not list(check_overlap(train, split([0], 'val')))


@pytest.mark.parametrize('kind', ['symbolic link', 'hard link', 'linked folder', 'frames in a linked folder'])
def test_overlap_is_found_through_links(tmp_path: Path, kind: str) -> None:
    (tmp_path / 'train').mkdir()
    options, frames = {}, None
    if kind.startswith('frames'):
        options, frames = {'filename_tmpl': 'img_{:05d}.jpg'}, 2
        for name in 'ab':
            write_frames(tmp_path / 'train' / name, 2)
    else:
        for name in 'ab':
            (tmp_path / 'train' / name).write_text(name)
    if kind.endswith('folder'):
        (tmp_path / 'val').symlink_to('train')
    else:
        (tmp_path / 'val').mkdir()
        val = tmp_path / 'val' / 'b'
        link = val.symlink_to if kind == 'symbolic link' else val.hardlink_to
        link(tmp_path / 'train' / 'b')
    (tmp_path / 'other').mkdir()
    if not frames:
        (tmp_path / 'other' / 'a').write_text('c')
    else:
        write_frames(tmp_path / 'other' / 'a', 2)
    train, val = (
        Split(
            name,
            [VideoRecord(str(tmp_path / p), (n % 2,), f'{name}.txt', n + 1, frames) for n, p in enumerate(paths)],
            2,
            **options,
        )
        for name, paths in (('train', ['train/a', 'train/b']), ('val', ['other/a', 'val/b']))
    )
    digests = {'v0': {'digest': 'x'}, 'v1': {'digest': 'y'}}
    known = {**facts(train, **digests), **facts(val, v1={'digest': 'y'})}
    identities = {
        one.probe_task(record): found
        for one in (train, val)
        for record in one.records
        if (found := find_file(record, one.filename_tmpl)[0]) is not None
    }
    for report in (quick_report([train, val]), full_report([train, val], known, identities)):
        found = [finding for finding in report.findings if finding.level != 'note']
        assert [(f.level, f.check, f.split) for f in found] == [('warning', 'links', 'train and val')]
        assert numbers(found[0].text) == ['1', '2', '50']
        assert found[0].examples == (f'val.txt:2 and train.txt:2: {tmp_path}/val/b is {tmp_path}/train/b',)


def test_overlap_by_path_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / 'a').write_text('a')
    train, val = (
        Split(name, [VideoRecord(str(tmp_path / 'a'), (0,), f'{name}.txt', 1)], 1) for name in ('train', 'val')
    )
    assert [f.check for f in quick_report([train, val]).findings] == ['overlap']


def test_overlap_is_found_by_content() -> None:
    train, val = split([0, 1]), split([0, 1, 1], 'val')
    known = {**facts(train, v0={'digest': 'x'}, v1={'digest': 'y'}), **facts(val, v1={'digest': 'y'})}
    report = full_report([train, val], known)
    found = [f for f in report.findings if f.check == 'same_content']
    assert [numbers(f.text) for f in found] == [['1', '3', '33.3']]
    assert found[0].examples == ('val.txt:2 and train.txt:2: val/1.mp4',)


def test_copies_within_split_are_found_by_content() -> None:
    train = split([0, 1, 1, 0])
    known = facts(train, v0={'digest': 'x'}, v1={'digest': 'x'}, v2={'digest': 'z'}, v3={'digest': None})
    found = [f for f in full_report([train], known).findings if f.check == 'same_content']
    assert [(numbers(f.text), len(f.examples)) for f in found] == [(['1'], 1)]
    assert 'train.txt:1 (label 0), train.txt:2 (label 1)' in found[0].examples[0]


def span(start: float, end: float, path: str = 'a.mp4', name: str = 'train') -> VideoRecord:
    return VideoRecord(path, (0,), f'{name}.csv', 2, start=start, end=end)


def test_spans_are_duplicates_only_if_equal() -> None:
    one = Split('train', [span(0, 2), span(2, 4), span(0, 2, 'b.mp4')])
    assert list(check_duplicates(one)) == []
    twice = Split('train', [span(0, 2), span(2, 4), span(0, 2, './a.mp4')])
    (finding,) = check_duplicates(twice)
    assert finding.examples[0].endswith('a.mp4#0-2')


def test_other_span_of_training_video_is_an_overlap() -> None:
    train = Split('train', [span(0, 2), span(2, 4)])
    (finding,) = check_overlap(train, Split('val', [span(8, 9, name='val'), span(0, 1, 'c.mp4', 'val')]))
    assert (finding.level, finding.check) == ('warning', 'overlap')
    assert len(finding.examples) == 1


def test_hashes_are_equal_where_paths_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = ['a/b', './a/b', f'{tmp_path}/a/b', 'a//b', 'a/c/../b', 'a/b/', '../x', 'a/é', 'a/c', 'b']
    one = Split('train', [VideoRecord(path, (0,), 'x.txt', i) for i, path in enumerate(paths)])
    assert [[a == b for a in one.paths] for b in one.paths] == (one.path_hashes[:, None] == one.path_hashes).tolist()
    assert [one.path(index) for index in range(len(paths))] == one.paths


def test_usual_paths_are_not_normalized(monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = (Split(name, records([0] * 100, name)) for name in ('train', 'val'))
    normalized: list[str] = []
    original = os.path.normpath
    monkeypatch.setattr(os.path, 'normpath', lambda path: normalized.append(path) or original(path))
    assert [*check_duplicates(train), *check_overlap(train, val)] == []
    assert normalized == []

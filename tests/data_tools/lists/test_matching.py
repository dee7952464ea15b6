"""Match listed videos with the files on disk and build the lines of list files."""

import re
from pathlib import Path

import pytest

from dsanet.data_tools.lists.base import ListedVideo, Lists
from dsanet.data_tools.lists.matching import BuiltList, match, order_classes, path_prefix
from dsanet.data_tools.lists.media_index import MediaIndex
from dsanet.datasets.annotation import parse_list_file

CLASSES = ['clap', 'wave']


def listed(*names: str, classes: tuple[str, ...] = ('wave',), line: int = 1) -> ListedVideo:
    return ListedVideo(names, classes, f'train.csv:{line}')


def build(media: MediaIndex, *videos: ListedVideo, prefix: str = '') -> BuiltList:
    return match('train', videos, media, CLASSES, prefix)


def test_lines_have_path_frame_count_and_sorted_labels() -> None:
    media = MediaIndex('frames', {'x y/1': 12, '2': 3}, {})
    built = build(media, listed('1'), listed('gone', '2', classes=('wave', 'clap')), prefix='frames/')
    assert built.lines == ['frames/x y/1 12 1', 'frames/2 3 0,1']
    assert (built.num_listed, built.skipped) == (2, [])
    assert built.per_class == {'wave': 2, 'clap': 1}
    assert build(MediaIndex('videos', {'1.mp4': None}, {}), listed('1')).lines == ['1.mp4 1']


def test_absolute_paths_become_relative_to_the_root(tmp_path: Path) -> None:
    media = MediaIndex(str(tmp_path), {'a/1.mp4': None}, {})
    assert build(media, listed(f'{tmp_path}/a/1.mp4')).lines == ['a/1.mp4 1']


def test_skipped_videos_have_a_reason_and_source() -> None:
    paths = {'1': 12, 'a/2': 12, 'b/2': 12, '3': 5, 'comma,/x,': 4, 'new\nline': 5, 'end ': 5}
    media = MediaIndex('frames', paths, {'3': 'some frames are missing'})
    videos = [
        listed('1', line=1),
        listed('c/gone', 'gone', line=2),
        listed('2', line=3),
        listed('3', line=4),
        listed('1', line=5),
        listed('1', classes=(), line=6),
        listed('x,', line=7),
        listed('new\nline', line=8),
        listed('end ', line=9),
    ]
    built = build(media, *videos)
    assert built.lines == ['1 12 1']
    expected = [  # name, reason, texts of the details, source
        ('c/gone', 'not found', 'c/gone|gone', 'train.csv:2'),
        ('2', 'ambiguous', '2|a/2|b/2', 'train.csv:3'),
        ('3', 'incomplete', '3|some frames are missing', 'train.csv:4'),
        ('1', 'listed twice', 'train.csv:1', 'train.csv:5'),
        ('1', 'no label', '', 'train.csv:6'),
        ('x,', 'invalid path', "'comma,/x,'", 'train.csv:7'),
        ('new\nline', 'invalid path', "'new\\nline'", 'train.csv:8'),
        ('end ', 'invalid path', "'end '", 'train.csv:9'),
    ]
    assert [(one[0], one[1], one[3]) for one in built.skipped] == [(one[0], one[1], one[3]) for one in expected]
    for (*_, details, _), (*_, token, _) in zip(built.skipped, expected, strict=True):
        assert re.search('.*'.join(map(re.escape, token.split('|'))), details), details


@pytest.mark.parametrize('path', ['#437_ride.mp4', ' blank.mp4', '\ufeffbom.mp4', 'drinking (31).mp4', 'a 3 4.mp4'])
def test_list_files_preserve_unusual_paths(tmp_path: Path, path: str) -> None:
    line = build(MediaIndex('videos', {path: None}, {}), listed(path)).lines[0]
    (tmp_path / 'train.txt').write_text(f'{line}\n')
    (record,) = parse_list_file(str(tmp_path / 'train.txt'))
    assert (record.path.removeprefix('./'), record.labels) == (path, (1,))


def test_paths_outside_the_folder_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_prefix('data/k400/frames', 'data/k400') == 'frames/'
    assert path_prefix('data/k400', 'data/k400/') == ''
    assert path_prefix('videos', 'data/k400') == f'{tmp_path}/videos/'
    assert path_prefix('data/..frames', 'data') == '..frames/'


def test_class_file_sets_the_label_order(tmp_path: Path) -> None:
    (tmp_path / 'classes.txt').write_text('wave\njump\nclap\n')
    lists = Lists(CLASSES, {'train': [listed('1')]}, ['a note'])
    ordered = order_classes(lists, str(tmp_path / 'classes.txt'))
    assert ordered == Lists(['wave', 'jump', 'clap'], lists.splits, ['a note'])
    (tmp_path / 'classes.txt').write_text('clap\n')
    with pytest.raises(ValueError, match=r"train.csv:1: .*'wave'.*\b1\b.*classes.txt"):
        order_classes(lists, str(tmp_path / 'classes.txt'))

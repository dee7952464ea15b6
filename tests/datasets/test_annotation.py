import os
import re

import pytest

from dsanet.datasets.annotation import parse_list_file, read_class_names, scan_class_folders
from dsanet.datasets.frame_names import FrameNames
from dsanet.datasets.records import VideoRecord
from dsanet.datasets.text_lists import list_path
from dsanet.datasets.video_datasets import VideoDataset
from tests.make_videos import write_frames


def write(folder, text, name='train.txt', encoding='utf-8', newline=''):
    path = folder / name
    with open(path, 'w', encoding=encoding, newline=newline) as file:
        file.write(text)
    return str(path)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'')


def test_each_list_line_becomes_a_record(tmp_path):
    list_file = write(tmp_path, 'a.mp4 0\nsub/b.mp4\t12\n')
    assert parse_list_file(list_file) == [
        VideoRecord('a.mp4', (0,), list_file, line=1),
        VideoRecord('sub/b.mp4', (12,), list_file, line=2),
    ]


def test_several_labels_are_joined_by_commas(tmp_path):
    list_file = write(tmp_path, 'a, b.mp4 3,17\nc.mp4 0\n')
    several, one = parse_list_file(list_file)
    assert (several.path, several.labels) == ('a, b.mp4', (3, 17))
    assert (one.labels, one.label) == ((0,), 0)
    with pytest.raises(ValueError, match=rf"{re.escape(list_file)}:1: 'a, b.mp4' .*3,17.*multi_hot="):
        VideoDataset([], list_file)
    (record,) = parse_list_file(write(tmp_path, 'folder 120 3,17\n'), with_num_frames=True)
    assert (record.path, record.num_frames, record.labels) == ('folder', 120, (3, 17))


def test_only_relative_paths_are_joined_to_data_root(tmp_path):
    list_file = write(tmp_path, 'a.mp4 0\n/else/b.mp4 1\n')
    paths = [record.path for record in parse_list_file(list_file, data_root='data/videos')]
    assert paths == [os.path.join('data/videos', 'a.mp4'), '/else/b.mp4']


def test_paths_may_contain_spaces(tmp_path):
    list_file = write(tmp_path, 'drinking (31).mp4 1\n  my  folder/x 3.mp4   2\n')
    assert [(r.path, r.label) for r in parse_list_file(list_file)] == [
        ('drinking (31).mp4', 1),
        ('my  folder/x 3.mp4', 2),
    ]


def test_frame_list_lines_contain_num_frames(tmp_path):
    list_file = write(tmp_path, 'my folder 120 3\n')
    (record,) = parse_list_file(list_file, with_num_frames=True)
    assert (record.path, record.num_frames, record.label) == ('my folder', 120, 3)


def test_blank_lines_and_comments_are_skipped(tmp_path):
    list_file = write(tmp_path, '# made by hand\n\na.mp4 0\n   \n  # split 1\nc.mp4 1\n')
    records = parse_list_file(list_file)
    assert [(r.path, r.line) for r in records] == [('a.mp4', 3), ('c.mp4', 6)]
    assert records[1].source == f'{list_file}:6'


@pytest.mark.parametrize('line', ['#1.mp4 0', '#clip 0', '# b.mp4 7', '#c.MTS 3,17', '# here', '#here 2', '# here 2'])
def test_comments_that_look_like_entries_are_refused(tmp_path, line):
    touch(tmp_path / '# here')
    list_file = write(tmp_path, f'a.mp4 0\n{line}\n')
    with pytest.raises(ValueError, match=rf"train.txt:2: .*'\./{re.escape(line)}'"):
        parse_list_file(list_file, str(tmp_path))
    escaped = f'./{line}' if line[-1].isdigit() else f'./{line} 0'
    records = parse_list_file(write(tmp_path, f'{escaped}\n'), 'root')
    assert records[0].path == f'root/./{line.rsplit(" ", 1)[0] if line[-1].isdigit() else line}'


@pytest.mark.parametrize('line', ['#', '# text', '#text', '# split 1', '### list of 2024', '#!/usr/bin/env x'])
def test_other_comments_are_skipped(tmp_path, line):
    assert len(parse_list_file(write(tmp_path, f'{line}\na.mp4 0\n'), str(tmp_path))) == 1


@pytest.mark.parametrize('path', ['#1.mp4', ' a.mp4', '\ufeffa.mp4', '\u3000a.mp4', 'a.mp4', 'b/#1.mp4'])
def test_list_path_survives_reading(tmp_path, path):
    (record,) = parse_list_file(write(tmp_path, f'{list_path(path)} 0\n'))
    assert os.path.normpath(record.path) == path


def test_crlf_and_byte_order_mark_are_accepted(tmp_path):
    list_file = write(tmp_path, 'a.mp4 0\r\nb.mp4 1\r\n', encoding='utf-8-sig')
    assert [(r.path, r.label) for r in parse_list_file(list_file)] == [('a.mp4', 0), ('b.mp4', 1)]


def test_file_names_need_not_be_utf8(tmp_path):
    (tmp_path / 'train.txt').write_bytes(b'caf\xe9.mp4 0\n')
    (record,) = parse_list_file(str(tmp_path / 'train.txt'))
    assert os.fsencode(record.path) == b'caf\xe9.mp4'


@pytest.mark.parametrize(
    ('line', 'with_num_frames', 'tokens'),
    [
        ('a.mp4', False, r"'path label'.*\b1\b"),
        ('a.mp4,3', False, r"'path label'.*\b1\b.*comma"),
        ('a.mp4 -1', False, r"'path label'.*label.*'-1'"),
        ('a.mp4 walk', False, "label.*'walk'"),
        ('a.mp4 1.0', False, r"label.*'1\.0'"),
        ('a.mp4 3, 17', False, 'comma.*3,17'),
        ('a.mp4 3 ,17', False, "label.*''"),
        ('a.mp4 3,17,', False, "label.*''"),
        ('a.mp4 3,17,3', False, 'label'),
        ('folder 5 3, 17', True, "num_frames.*'3,'"),
        ('folder 3', True, r"'path num_frames label'.*\b2\b"),
        ('my folder 3', True, "num_frames.*'folder'"),
        ('folder 0 3', True, r'num_frames.*\b1\b'),
        ('a 12345678901 0', True, 'num_frames.*11.*9'),
        ('a 3 1234567890', True, 'label.*10.*9'),
    ],
)
def test_malformed_line_is_an_error_with_line_number(tmp_path, line, with_num_frames, tokens):
    good = 'x 5 0' if with_num_frames else 'x 0'
    list_file = write(tmp_path, f'{good}\n{line}\n')
    with pytest.raises(ValueError, match=f'train.txt:2: {re.escape(repr(line))} .*{tokens}'):
        parse_list_file(list_file, with_num_frames=with_num_frames)


def test_list_without_videos_is_refused(tmp_path):
    with pytest.raises(ValueError, match="train.txt .*'path label'"):
        parse_list_file(write(tmp_path, '# nothing\n\n'))


@pytest.mark.parametrize(('read', 'kind'), [(parse_list_file, 'list file'), (read_class_names, 'class file')])
def test_missing_file_is_named_by_absolute_path(tmp_path, monkeypatch, read, kind):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf'{kind}.*{re.escape(str(tmp_path / "no.txt"))}'):
        read('no.txt')


def test_class_names_are_read_line_by_line(tmp_path):
    assert read_class_names(write(tmp_path, '\ufeffapply eye makeup\r\narchery\r\n\r\n')) == [
        'apply eye makeup',
        'archery',
    ]


@pytest.mark.parametrize(
    ('text', 'tokens'),
    [
        ('walk\n\nsit\n', 'classes.txt:2: empty'),
        ('walk\nsit\nwalk\n', r"classes.txt:3: .*'walk'.*\b1\b"),
        ('\n\n', 'classes.txt .*class'),
    ],
)
def test_bad_class_file_is_refused(tmp_path, text, tokens):
    with pytest.raises(ValueError, match=tokens):
        read_class_names(write(tmp_path, text, name='classes.txt'))


def test_class_folders_are_labeled_in_alphabetical_order(tmp_path):
    for name in (
        'walk/2.MP4',
        'walk/1.avi',
        'walk/notes.txt',
        'sit/x.webm',
        '.cache/y.mp4',
        'walk/.hidden.mp4',
    ):
        touch(tmp_path / name)
    touch(tmp_path / 'readme.mp4')
    records, names = scan_class_folders(str(tmp_path))
    assert names == ['sit', 'walk']
    assert [(os.path.relpath(r.path, tmp_path), r.label) for r in records] == [
        (os.path.join('sit', 'x.webm'), 0),
        (os.path.join('walk', '1.avi'), 1),
        (os.path.join('walk', '2.MP4'), 1),
    ]
    assert records[0].source == str(tmp_path / 'sit')


def test_files_outside_of_class_folders_are_logged(tmp_path, caplog):
    for name in ('walk/1.mp4', 'walk/more/2.mp4', 'walk/a.txt', 'walk/b.TXT', '.x/y', '3.mp4', 'walk/._1.mp4'):
        touch(tmp_path / name)
    caplog.set_level('INFO', logger='dsanet')
    assert len(scan_class_folders(str(tmp_path))[0]) == 1
    assert caplog.messages == [
        f'Not used in {tmp_path}: extension .txt: 2 (walk/a.txt, ...), hidden: 2 (.x, ...), '
        'outside of the class folders: 1 (3.mp4), subfolder of a class folder: 1 (walk/more)'
    ]


def test_class_names_determine_labels_of_class_folders(tmp_path):
    touch(tmp_path / 'walk/1.mp4')
    records, names = scan_class_folders(str(tmp_path), class_names=['walk', 'fall', 'sit'])
    assert names == ['walk', 'fall', 'sit']
    assert [r.label for r in records] == [0]
    with pytest.raises(ValueError, match='walk.* 2 .*fall, sit'):
        scan_class_folders(str(tmp_path), class_names=['fall', 'sit'])


def test_frame_folders_are_counted_by_file_name(tmp_path):
    folder = write_frames(tmp_path / 'walk' / 'clip 1', num_frames=3)
    touch(tmp_path / 'walk' / 'clip 1' / 'flow_x_00001.jpg')
    touch(tmp_path / 'walk' / 'clip 1' / 'img_cover.jpg')
    (tmp_path / 'walk' / 'no frames').mkdir()
    (record,), names = scan_class_folders(str(tmp_path), FrameNames('img_{:05d}.jpg'))
    assert (record.path, record.num_frames, record.label, names) == (folder, 3, 0, ['walk'])


def test_frame_folder_with_gaps_is_refused(tmp_path):
    folder = write_frames(tmp_path / 'walk' / 'clip', num_frames=5)
    with pytest.raises(ValueError, match=rf"'{folder}': .*\b1\b.*\b0\b.*img_"):
        scan_class_folders(str(tmp_path), FrameNames('img_{:05d}.jpg', start_index=0))
    (tmp_path / 'walk' / 'clip' / 'img_00003.jpg').unlink()
    with pytest.raises(ValueError, match=rf"'{folder}': .*\b3\b"):
        scan_class_folders(str(tmp_path), FrameNames('img_{:05d}.jpg'))


def test_class_folders_without_videos_are_refused(tmp_path):
    with pytest.raises(ValueError, match=rf'{tmp_path}.* root/class/video'):
        scan_class_folders(str(tmp_path))
    (tmp_path / 'fall').symlink_to(tmp_path / 'unmounted')
    with pytest.raises(ValueError, match=r"fall' is a broken link"):
        scan_class_folders(str(tmp_path))
    (tmp_path / 'fall').unlink()
    touch(tmp_path / 'walk/1.txt')
    with pytest.raises(ValueError, match=r"walk' .*\.txt: 1 \(walk/1\.txt"):
        scan_class_folders(str(tmp_path))
    with pytest.raises(ValueError, match="walk' .*'f_{:d}.png'"):
        scan_class_folders(str(tmp_path), FrameNames('f_{:d}.png'))
    with pytest.raises(FileNotFoundError, match=f'{tmp_path}/nowhere'):
        scan_class_folders(str(tmp_path / 'nowhere'))


@pytest.mark.parametrize('read', [parse_list_file, read_class_names])
def test_utf_16_file_is_refused(tmp_path, read):
    (tmp_path / 'a.txt').write_bytes('a.mp4 0\n'.encode('utf-16'))
    with pytest.raises(ValueError, match=r'a.txt:1: .*UTF-8.*UTF-16'):
        read(str(tmp_path / 'a.txt'))

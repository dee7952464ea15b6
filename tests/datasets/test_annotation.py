import os
import re

import pytest

from dsanet.datasets.annotation import VideoRecord, parse_list_file, read_class_names, scan_class_folders
from dsanet.datasets.frame_names import FrameNames
from tests.make_videos import write_frames


def write(folder, text, name='train.txt', encoding='utf-8', newline=''):
    path = folder / name
    with open(path, 'w', encoding=encoding, newline=newline) as file:
        file.write(text)
    return str(path)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'')


def test_list_file_gives_one_record_a_line(tmp_path):
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
    message = f"{list_file}:1: 'a, b.mp4' has the labels 3,17; a dataset takes several labels a video with multi_hot="
    with pytest.raises(ValueError, match=re.escape(message)):
        _ = several.label
    (record,) = parse_list_file(write(tmp_path, 'folder 120 3,17\n'), with_num_frames=True)
    assert (record.path, record.num_frames, record.labels) == ('folder', 120, (3, 17))


def test_relative_paths_are_joined_to_data_root_and_absolute_ones_are_not(tmp_path):
    list_file = write(tmp_path, 'a.mp4 0\n/else/b.mp4 1\n')
    paths = [record.path for record in parse_list_file(list_file, data_root='data/videos')]
    assert paths == [os.path.join('data/videos', 'a.mp4'), '/else/b.mp4']


def test_paths_may_contain_spaces(tmp_path):
    list_file = write(tmp_path, 'drinking (31).mp4 1\n  my  folder/x 3.mp4   2\n')
    assert [(r.path, r.label) for r in parse_list_file(list_file)] == [
        ('drinking (31).mp4', 1),
        ('my  folder/x 3.mp4', 2),
    ]


def test_frame_lists_have_the_number_of_frames_between_path_and_label(tmp_path):
    list_file = write(tmp_path, 'my folder 120 3\n')
    (record,) = parse_list_file(list_file, with_num_frames=True)
    assert (record.path, record.num_frames, record.label) == ('my folder', 120, 3)


def test_blank_lines_and_comments_are_skipped_but_counted(tmp_path):
    list_file = write(tmp_path, '# made by hand\n\na.mp4 0\n   \n  # b.mp4 7\nc.mp4 1\n')
    records = parse_list_file(list_file)
    assert [(r.path, r.line) for r in records] == [('a.mp4', 3), ('c.mp4', 6)]
    assert records[1].source == f'{list_file}:6'


def test_windows_line_ends_and_byte_order_mark_are_tolerated(tmp_path):
    list_file = write(tmp_path, 'a.mp4 0\r\nb.mp4 1\r\n', encoding='utf-8-sig')
    assert [(r.path, r.label) for r in parse_list_file(list_file)] == [('a.mp4', 0), ('b.mp4', 1)]


def test_file_names_that_are_not_utf8_are_kept(tmp_path):
    (tmp_path / 'train.txt').write_bytes(b'caf\xe9.mp4 0\n')
    (record,) = parse_list_file(str(tmp_path / 'train.txt'))
    assert os.fsencode(record.path) == b'caf\xe9.mp4'


@pytest.mark.parametrize(
    ('line', 'with_num_frames', 'message'),
    [
        ('a.mp4', False, "train.txt:2: 'a.mp4' is not 'path label': 1 field(s) found"),
        ('a.mp4,3', False, 'separate the fields by spaces or tabs, not by commas'),
        (
            'a.mp4 -1',
            False,
            "train.txt:2: 'a.mp4 -1' is not 'path label': label must be a whole number from 0 on",
        ),
        ('a.mp4 walk', False, "label must be a whole number from 0 on, got 'walk'"),
        ('a.mp4 1.0', False, "got '1.0'"),
        ('a.mp4 3, 17', False, 'several labels are joined by commas without spaces, as in 3,17'),
        ('a.mp4 3 ,17', False, "label must be a whole number from 0 on, got ''"),
        ('a.mp4 3,17,', False, "label must be a whole number from 0 on, got ''"),
        ('a.mp4 3,17,3', False, 'a label stands there twice'),
        ('folder 5 3, 17', True, "num_frames must be a whole number from 0 on, got '3,'"),
        ('folder 3', True, "'folder 3' is not 'path num_frames label': 2 field(s) found"),
        ('my folder 3', True, "num_frames must be a whole number from 0 on, got 'folder'"),
        ('folder 0 3', True, 'num_frames must be at least 1'),
    ],
)
def test_malformed_line_is_named(tmp_path, line, with_num_frames, message):
    good = 'x 5 0' if with_num_frames else 'x 0'
    list_file = write(tmp_path, f'{good}\n{line}\n')
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_list_file(list_file, with_num_frames=with_num_frames)


def test_list_without_videos_is_refused(tmp_path):
    with pytest.raises(ValueError, match="names no video; expected lines of the form 'path label'"):
        parse_list_file(write(tmp_path, '# nothing\n\n'))


def test_missing_list_is_named_by_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(f'no list file {str(tmp_path / "no.txt")!r}')):
        parse_list_file('no.txt')


def test_class_names_are_one_a_line(tmp_path):
    assert read_class_names(write(tmp_path, '\ufeffapply eye makeup\r\narchery\r\n\r\n')) == [
        'apply eye makeup',
        'archery',
    ]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('walk\n\nsit\n', 'classes.txt:2: empty line'),
        ('walk\nsit\nwalk\n', "classes.txt:3: class 'walk' stands already in line 1"),
        ('\n\n', 'names no class'),
    ],
)
def test_bad_class_file_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_class_names(write(tmp_path, text, name='classes.txt'))


def test_missing_class_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no class file'):
        read_class_names(str(tmp_path / 'classes.txt'))


def test_class_folders_are_labeled_in_the_order_of_their_names(tmp_path):
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


def test_given_class_names_decide_the_labels_of_class_folders(tmp_path):
    touch(tmp_path / 'walk/1.mp4')
    records, names = scan_class_folders(str(tmp_path), class_names=['walk', 'fall', 'sit'])
    assert names == ['walk', 'fall', 'sit']
    assert [r.label for r in records] == [0]
    with pytest.raises(ValueError, match='walk.* is none of the 2 classes: fall, sit'):
        scan_class_folders(str(tmp_path), class_names=['fall', 'sit'])


def test_frame_folders_are_counted_by_their_file_names(tmp_path):
    folder = write_frames(tmp_path / 'walk' / 'clip 1', num_frames=3)
    touch(tmp_path / 'walk' / 'clip 1' / 'flow_x_00001.jpg')
    touch(tmp_path / 'walk' / 'clip 1' / 'img_cover.jpg')
    (tmp_path / 'walk' / 'no frames').mkdir()
    (record,), names = scan_class_folders(str(tmp_path), FrameNames('img_{:05d}.jpg'))
    assert (record.path, record.num_frames, record.label, names) == (folder, 3, 0, ['walk'])


def test_a_folder_that_lacks_frames_is_named(tmp_path):
    folder = write_frames(tmp_path / 'walk' / 'clip', num_frames=5)
    with pytest.raises(ValueError, match=rf"'{folder}': the first frame is number 1, not 0 \(frames called 'img_"):
        scan_class_folders(str(tmp_path), FrameNames('img_{:05d}.jpg', start_index=0))
    (tmp_path / 'walk' / 'clip' / 'img_00003.jpg').unlink()
    with pytest.raises(ValueError, match=rf"'{folder}': frames 1 to 5 are there but for 3"):
        scan_class_folders(str(tmp_path), FrameNames('img_{:05d}.jpg'))


def test_missing_videos_in_class_folders_say_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match='has no class folder; looked for root/class/video'):
        scan_class_folders(str(tmp_path))
    touch(tmp_path / 'walk/1.txt')
    with pytest.raises(ValueError, match=r"walk' has no video ending in .*\.avi"):
        scan_class_folders(str(tmp_path))
    with pytest.raises(ValueError, match="walk' has no folder of frames called 'f_{:d}.png'"):
        scan_class_folders(str(tmp_path), FrameNames('f_{:d}.png'))
    with pytest.raises(FileNotFoundError, match='no folder .*looked for class folders'):
        scan_class_folders(str(tmp_path / 'nowhere'))


def test_utf_16_is_recognized(tmp_path):
    for name, read in (('list file', parse_list_file), ('class file', read_class_names)):
        file = tmp_path / 'a.txt'
        file.write_bytes('a.mp4 0\n'.encode('utf-16'))
        with pytest.raises(ValueError, match=rf'a.txt:1: .* has zero bytes: save the {name} as UTF-8 \(is it UTF-16'):
            read(str(file))


@pytest.mark.parametrize(('line', 'name'), [('a 12345678901 0', 'num_frames'), ('a 3 1234567890', 'label')])
def test_numbers_that_must_be_something_else_are_refused(tmp_path, line, name):
    (tmp_path / 'a.txt').write_text(f'{line}\n')
    with pytest.raises(ValueError, match=rf'a.txt:1: .*: {name} has 1[01] digits, of which 9 make sense'):
        parse_list_file(str(tmp_path / 'a.txt'), with_num_frames=True)

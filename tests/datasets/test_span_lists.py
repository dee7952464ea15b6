import re

import pytest

from dsanet.datasets import span_lists
from dsanet.datasets.annotation import parse_list_file
from dsanet.datasets.records import VideoRecord
from dsanet.datasets.span_lists import SpanRow, check_span, is_span_list, parse_labels, parse_seconds, read_span_rows
from dsanet.datasets.video_datasets import RawFramesDataset, VideoDataset

NAMES = ['clap', 'run, jump', 'wave']


def write(folder, text, name='train.csv', encoding='utf-8'):
    path = folder / name
    path.write_text(text, encoding=encoding)
    return str(path)


def test_each_csv_row_becomes_a_record(tmp_path):
    text = 'video,label,start,end\na.mp4,wave,2.5,10\n\n"b, c.mp4","run, jump",,\na.mp4,0,1:02.5,0:01:05\nd.mp4,2,7,\n'
    file = write(tmp_path, text)
    expected = [
        (2, 'root/a.mp4', 2, 2.5, 10, 'root/a.mp4#2.5-10'),
        (4, 'root/b, c.mp4', 1, None, None, 'root/b, c.mp4'),
        (5, 'root/a.mp4', 0, 62.5, 65, 'root/a.mp4#62.5-65'),
        (6, 'root/d.mp4', 2, 7, None, 'root/d.mp4#7-'),
    ]
    records = parse_list_file(file, 'root', class_names=NAMES)
    assert [(r.line, r.path, r.label, r.start, r.end, r.key) for r in records] == expected
    assert [record.span for record in records] == [(2.5, 10), None, (62.5, 65), (7, None)]
    assert records[0].source == f'{file}:2'


@pytest.mark.parametrize('separator', [',', ';', '\t'])
def test_header_may_have_other_order_and_names(tmp_path, separator):
    text = 'Label, Path\n3, a b.mp4\n'.replace(',', separator)
    file = write(tmp_path, text, 'train.CSV', 'utf-8-sig')
    assert list(read_span_rows(file)) == [SpanRow(2, 'a b.mp4', '3', None, None)]
    assert parse_list_file(file) == [VideoRecord('a b.mp4', (3,), file, 2)]


@pytest.mark.parametrize(
    ('text', 'name', 'expected'),
    [
        ('video,label\n', 'a.csv', True),
        ('a.mp4 0\n', 'a.csv', False),
        ('a.mp4 3,17\n', 'a.csv', False),
        ('video label\n', 'a.csv', False),
        ('video,label\n', 'a.txt', False),
    ],
)
def test_other_files_are_text_lists(tmp_path, text, name, expected):
    assert is_span_list(write(tmp_path, text, name)) == expected


def test_missing_list_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'a\.csv'):
        parse_list_file(str(tmp_path / 'a.csv'))


@pytest.mark.parametrize(
    ('row', 'match'),
    [
        ('a.mp4,wave,2', '3 fields'),
        (',wave,0,1', 'video'),
        ('a.mp4,,0,1', 'label'),
        ('a.mp4,wave,5,3', 'start=5, end=3'),
        ('a.mp4,wave,5,5', 'empty'),
        ('a.mp4,wave,,0', 'empty'),
        ('a.mp4,wave,-1,3', "'-1'"),
        ('a.mp4,wave,nan,3', "'nan'"),
        ('a.mp4,wave,0,1e9', "'1e9'"),
        ('a.mp4,wave,1:2:3:4,', "'1:2:3:4'"),
        ('a.mp4,wawe,0,1', "Did you mean 'wave'"),
        ('a.mp4,"wave,wave",0,1', 'once'),
        ('a.mp4,1234567890,0,1', '1234567890'),
    ],
)
def test_bad_rows_are_reported_with_line(tmp_path, row, match):
    file = write(tmp_path, f'video,label,start,end\na.mp4,0,0,1\n{row}\nb.mp4,0,0,1\n')
    with pytest.raises(ValueError, match=rf'^{re.escape(file)}:3: .*{match}'):
        parse_list_file(file, class_names=NAMES)
    errors = []
    assert [record.line for record in parse_list_file(file, errors=errors, class_names=NAMES)] == [2, 4]
    assert len(errors) == 1


@pytest.mark.parametrize(
    ('text', 'match'),
    [
        ('video,label,begin,end\na.mp4,0,0,1\n', ":1: unknown column 'begin'"),
        ('video,start,end\na.mp4,0,1\n', ':1: found the columns video, start, end'),
        ('video,path,label\na.mp4,b.mp4,1\n', ':1: found'),
        ('video,label\n"a.mp4,0\n', ':2: not valid CSV'),
        ('video,label\n"a\nb.mp4",0\n', ':2: .*line break'),
        ('video,label\n', 'has no videos'),
        ('video,label\na.mp4,wave\n', ":2: label 'wave' .*class_file"),
    ],
)
def test_malformed_files_are_errors(tmp_path, text, match):
    with pytest.raises(ValueError, match=match):
        parse_list_file(write(tmp_path, text))


@pytest.mark.parametrize('size', [1, 2, 3, 100])
def test_lines_are_those_of_the_file(tmp_path, monkeypatch, size):
    monkeypatch.setattr(span_lists, '_BATCH', size)
    rows = ['a.mp4,0', '', 'b.mp4,"two\nlines"', 'c.mp4,"three\r\n\rlines"', 'd.mp4,1', ' ', 'e.mp4,2']
    file = write(tmp_path, '\n'.join(['', 'video,label', *rows]) + '\n')
    found = [(row.video[0], row.line) for row in read_span_rows(file)]
    assert found == [('a', 3), ('b', 5), ('c', 7), ('d', 10), ('e', 12)]
    before = []
    with open(file, 'a') as stream:
        stream.write('f.mp4,"3" 4\n')
    with pytest.raises(ValueError, match=':13: not valid CSV'):
        before.extend((row.video[0], row.line) for row in read_span_rows(file))
    assert before == found


def test_frames_folders_have_no_spans(tmp_path):
    with pytest.raises(ValueError, match='path num_frames label'):
        RawFramesDataset([], write(tmp_path, 'video,label\na,0\n'))


@pytest.mark.parametrize(
    ('text', 'seconds'), [('', None), ('0', 0), ('.5', 0.5), ('7.', 7), ('1:03.14', 63.14), ('5:01:03', 18063)]
)
def test_seconds_may_have_minutes_and_hours(text, seconds):
    assert parse_seconds(text, 'start') == seconds


def test_labels_are_names_or_numbers():
    assert parse_labels('run, jump', NAMES) == [1]
    assert parse_labels('wave, 0', NAMES) == [2, 0]
    assert parse_labels('2', ['2', '1']) == [0]
    assert parse_labels('5,3', None) == [5, 3]


def test_infinite_spans_are_errors():
    check_span(None, 1)
    for limits in ((float('nan'), 1), (0, float('inf')), (-1, None)):
        with pytest.raises(ValueError, match='seconds'):
            check_span(*limits)


def test_single_label_dataset_refuses_overlapping_labels(tmp_path):
    file = write(tmp_path, 'video,label,start,end\na.mp4,0,0,4\nb.mp4,1,2,3\na.mp4,0,2,5\na.mp4,1,4.5,6\na.mp4,1,5,7\n')
    with pytest.raises(ValueError, match=rf"{re.escape(file)}:5: 'a.mp4#4.5-6' overlaps 'a.mp4#2-5' .*:4.*multi_hot"):
        VideoDataset([], file)
    assert len(VideoDataset([], file, multi_hot=2)) == 5
    assert len(VideoDataset([], file, classes=[1])) == 3

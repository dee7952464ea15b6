"""CSV files of Kinetics and video ID lists of Mini-Kinetics-200."""

import re
from pathlib import Path

import pytest

from dsanet.data_tools.lists.base import Lists
from dsanet.data_tools.lists.kinetics import read_kinetics, read_mini_kinetics

HEADER = 'label,youtube_id,time_start,time_end,split,is_cc\n'


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def classes_of(lists: Lists, split: str) -> list[tuple[str, ...]]:
    return [video.classes for video in lists.splits[split]]


def test_classes_are_sorted_alphabetically(tmp_path: Path) -> None:
    train = write(
        tmp_path, 'train.csv', HEADER + 'zumba,aaaaaaaaaaa,1,11,train,0\n"air drumming",bbbbbbbbbbb,0,10,,0\n'
    )
    val = write(tmp_path, 'val.csv', HEADER + 'petting animal (not cat),ccccccccccc,59,69,validate,0\n')
    lists = read_kinetics({'train': [train], 'val': [val]})
    assert lists.class_names == ['air drumming', 'petting animal (not cat)', 'zumba']
    assert classes_of(lists, 'train') == [('zumba',), ('air drumming',)]
    assert lists.splits['val'][0].source == f'{val}:2'


def test_file_names_contain_start_and_end_times(tmp_path: Path) -> None:
    rows = ['eating cake,-3B32lodo2M,59,69.0,,0', 'eating cake,twice______,0,10,,0', 'juggling,twice______,90,100,,0']
    lists = read_kinetics({'train': [write(tmp_path, 'train.csv', HEADER + '\n'.join(rows))]})
    single, first, second = (video.names for video in lists.splits['train'])
    assert single == (
        'eating cake/-3B32lodo2M_000059_000069',
        '-3B32lodo2M_000059_000069',
        'eating cake/-3B32lodo2M',
        '-3B32lodo2M',
    )
    assert first == ('eating cake/twice_______000000_000010', 'twice_______000000_000010')
    assert second == ('juggling/twice_______000090_000100', 'twice_______000090_000100')


def test_unlabeled_test_file_gives_no_list(tmp_path: Path) -> None:
    hidden = write(tmp_path, 'hidden.csv', 'youtube_id,time_start,time_end,split\naaaaaaaaaaa,1,11,test\n')
    train = write(tmp_path, 'train.csv', HEADER + 'zumba,aaaaaaaaaaa,1,11,train,0\n')
    lists = read_kinetics({'train': [train], 'test': [hidden]})
    assert list(lists.splits) == ['train']
    assert len(lists.notes) == 1
    assert hidden in lists.notes[0]
    shown = write(tmp_path, 'shown.csv', HEADER + 'zumba,ddddddddddd,1,11,test,0\n')
    assert classes_of(read_kinetics({'test': [shown]}), 'test') == [('zumba',)]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', r"train.csv:1: .*''.*label,youtube_id,time_start,time_end,split"),
        ('a b c\n', "train.csv:1: .*'a b c'.*label,youtube_id"),
        ('youtube_id,time_start,time_end\n', "train.csv:1: .*'youtube_id,time_start,time_end'.*label,"),
        (HEADER + '\nzumba,aaaaaaaaaaa,1\n', r"train.csv:3: .*'zumba,aaaaaaaaaaa,1'.*\b6\b"),
        (HEADER + ',aaaaaaaaaaa,1,11,train,0\n', "train.csv:2: .*',aaaaaaaaaaa,1,11,train,0'"),
        (HEADER + 'zumba,aaaaaaaaaaa,1,x,train,0\n', 'train.csv:2: .*time_start.*time_end'),
        (HEADER + 'zumba,aaaaaaaaaaa,1,1e999,train,0\n', "train.csv:2: .*1e999,train,0'.*time_start.*time_end"),
        (HEADER + 'zumba,aaaaaaaaaaa,1,11,val,0\n', r'train.csv:2: .*\btrain\b.*\bval\b'),
    ],
)
def test_kinetics_errors_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_kinetics({'train': [write(tmp_path, 'train.csv', text)]})


def test_mini_kinetics_ids_are_looked_up_in_kinetics(tmp_path: Path) -> None:
    rows = ['zumba,aaaaaaaaaaa,1,11', 'air drumming,bbbbbbbbbbb,0,10', 'not in mini,ddddddddddd,0,10']
    header = 'label,youtube_id,time_start,time_end\n'
    files = {
        'train': [write(tmp_path, 'train_ytid_list.txt', 'aaaaaaaaaaa\n')],
        'val': [write(tmp_path, 'val_ytid_list.txt', 'bbbbbbbbbbb\n')],
        'kinetics_train': [write(tmp_path, 'train.csv', header + '\n'.join(rows))],
        'kinetics_val': [write(tmp_path, 'val.csv', header)],
    }
    lists = read_mini_kinetics(files)
    assert lists.class_names == ['air drumming', 'zumba']
    assert lists.splits['train'][0].names[0] == 'zumba/aaaaaaaaaaa_000001_000011'
    assert classes_of(lists, 'val') == [('air drumming',)]
    files['train'] = [write(tmp_path, 'other.txt', 'aaaaaaaaaaa\nxxxxxxxxxxx\n')]
    with pytest.raises(ValueError, match="other.txt:2: .*'xxxxxxxxxxx'"):
        read_mini_kinetics(files)


def test_ambiguous_mini_kinetics_id_is_an_error(tmp_path: Path) -> None:
    train = write(tmp_path, 'train.csv', HEADER + 'zumba,aaaaaaaaaaa,1,11,,0\nzumba,bbbbbbbbbbb,1,11,,0\n')
    val = write(tmp_path, 'val.csv', HEADER + 'clapping,aaaaaaaaaaa,1,11,,0\nzumba,bbbbbbbbbbb,1,11,,0\n')
    files = {'kinetics_train': [train], 'kinetics_val': [val]}
    files['train'] = [write(tmp_path, 'list.txt', 'bbbbbbbbbbb\n')]
    assert classes_of(read_mini_kinetics(files), 'train') == [('zumba',)]  # the same clip twice is not ambiguous
    files['train'] = [write(tmp_path, 'list.txt', 'bbbbbbbbbbb\naaaaaaaaaaa\n')]
    tokens = ('list.txt:2: ', 'aaaaaaaaaaa', "'zumba'", f'{train}:2', "'clapping'", f'{val}:2')
    with pytest.raises(ValueError, match='.*'.join(map(re.escape, tokens))):
        read_mini_kinetics(files)

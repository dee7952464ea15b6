"""The csv files of Kinetics and the id lists of Mini-Kinetics-200."""

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


def test_classes_are_numbered_alphabetically_whatever_their_order_in_the_file(tmp_path: Path) -> None:
    train = write(
        tmp_path, 'train.csv', HEADER + 'zumba,aaaaaaaaaaa,1,11,train,0\n"air drumming",bbbbbbbbbbb,0,10,,0\n'
    )
    val = write(tmp_path, 'val.csv', HEADER + 'petting animal (not cat),ccccccccccc,59,69,validate,0\n')
    lists = read_kinetics({'train': [train], 'val': [val]})
    assert lists.class_names == ['air drumming', 'petting animal (not cat)', 'zumba']
    assert classes_of(lists, 'train') == [('zumba',), ('air drumming',)]
    assert lists.splits['val'][0].source == f'{val}:2'


def test_file_names_carry_the_times_in_six_digits_and_only_single_ids_go_without(tmp_path: Path) -> None:
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


def test_a_test_file_without_labels_gives_a_note_and_one_with_labels_a_list(tmp_path: Path) -> None:
    hidden = write(tmp_path, 'hidden.csv', 'youtube_id,time_start,time_end,split\naaaaaaaaaaa,1,11,test\n')
    train = write(tmp_path, 'train.csv', HEADER + 'zumba,aaaaaaaaaaa,1,11,train,0\n')
    lists = read_kinetics({'train': [train], 'test': [hidden]})
    assert list(lists.splits) == ['train']
    assert lists.notes == [f'{hidden} has no labels: no list of it']
    shown = write(tmp_path, 'shown.csv', HEADER + 'zumba,ddddddddddd,1,11,test,0\n')
    assert classes_of(read_kinetics({'test': [shown]}), 'test') == [('zumba',)]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', "train.csv:1: '' is not what is expected here: the columns label,youtube_id,time_start,time_end,split"),
        ('a b c\n', "train.csv:1: 'a b c' is not what is expected here: the columns label,"),
        ('youtube_id,time_start,time_end\n', "train.csv:1: 'youtube_id,time_start,time_end' is not"),
        (
            HEADER + '\nzumba,aaaaaaaaaaa,1\n',
            "train.csv:3: 'zumba,aaaaaaaaaaa,1' is not what is expected here: 6 fields",
        ),
        (HEADER + ',aaaaaaaaaaa,1,11,train,0\n', "train.csv:2: ',aaaaaaaaaaa,1,11,train,0' is not what is expected"),
        (
            HEADER + 'zumba,aaaaaaaaaaa,1,x,train,0\n',
            'is not what is expected here: time_start and time_end in seconds',
        ),
        (
            HEADER + 'zumba,aaaaaaaaaaa,1,1e999,train,0\n',
            "train.csv:2: 'zumba,aaaaaaaaaaa,1,1e999,train,0' is not what is expected here: time_start and time_end",
        ),
        (HEADER + 'zumba,aaaaaaaaaaa,1,11,val,0\n', 'is not what is expected here: a clip for train, not for val'),
    ],
)
def test_a_wrong_line_is_named_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_kinetics({'train': [write(tmp_path, 'train.csv', text)]})


def test_ids_of_mini_kinetics_get_class_and_times_from_kinetics(tmp_path: Path) -> None:
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
    with pytest.raises(ValueError, match=r"other.txt:2: 'xxxxxxxxxxx' is not what is expected here: a YouTube id of"):
        read_mini_kinetics(files)
    with pytest.raises(ValueError, match=r"other.txt:1: 'aaaaaaaaaaa' is a YouTube id alone; .*--file kinetics_train="):
        read_mini_kinetics({'train': files['train']})


def test_mini_kinetics_also_comes_as_paths_and_as_csv(tmp_path: Path) -> None:
    paths = write(tmp_path, 'train.txt', 'some/where/riding_a_bike/abc.mp4\nzumba/x y.mkv\n')
    table = write(tmp_path, 'val.csv', HEADER + 'zumba,aaaaaaaaaaa,1,11,val,0\n')
    lists = read_mini_kinetics({'train': [paths], 'val': [table]})
    assert lists.class_names == ['riding a bike', 'zumba']
    assert [video.names for video in lists.splits['train']] == [
        ('riding_a_bike/abc.mp4', 'abc.mp4'),
        ('zumba/x y.mkv', 'x y.mkv'),
    ]
    assert classes_of(lists, 'val') == [('zumba',)]
    with pytest.raises(ValueError, match=r"a.txt:1: 'zumba/x.mp4 7' is not what is expected here: class/video.mp4"):
        read_mini_kinetics({'train': [write(tmp_path, 'a.txt', 'zumba/x.mp4 7\n')]})


def test_an_id_of_mini_kinetics_that_means_several_clips_is_refused_with_both_lines(tmp_path: Path) -> None:
    train = write(tmp_path, 'train.csv', HEADER + 'zumba,aaaaaaaaaaa,1,11,,0\nzumba,bbbbbbbbbbb,1,11,,0\n')
    val = write(tmp_path, 'val.csv', HEADER + 'clapping,aaaaaaaaaaa,1,11,,0\nzumba,bbbbbbbbbbb,1,11,,0\n')
    files = {'kinetics_train': [train], 'kinetics_val': [val]}
    files['train'] = [write(tmp_path, 'list.txt', 'bbbbbbbbbbb\n')]
    assert classes_of(read_mini_kinetics(files), 'train') == [('zumba',)]  # the same clip twice is no doubt
    files['train'] = [write(tmp_path, 'list.txt', 'bbbbbbbbbbb\naaaaaaaaaaa\n')]
    message = (
        f"list.txt:2: id aaaaaaaaaaa may be 'zumba' from 1 to 11 s ({train}:2) or 'clapping' from 1 to 11 s ({val}:2)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        read_mini_kinetics(files)


def test_csv_files_of_mini_kinetics_count_ids_over_both_splits(tmp_path: Path) -> None:
    train = write(tmp_path, 'train.csv', HEADER + 'zumba,aaaaaaaaaaa,1,11,,0\nzumba,bbbbbbbbbbb,1,11,,0\n')
    val = write(tmp_path, 'val.csv', HEADER + 'zumba,aaaaaaaaaaa,50,60,,0\n')
    lists = read_mini_kinetics({'train': [train], 'val': [val]})
    assert lists.splits['train'][0].names == ('zumba/aaaaaaaaaaa_000001_000011', 'aaaaaaaaaaa_000001_000011')
    assert lists.splits['val'][0].names == ('zumba/aaaaaaaaaaa_000050_000060', 'aaaaaaaaaaa_000050_000060')
    assert lists.splits['train'][1].names[-1] == 'bbbbbbbbbbb'

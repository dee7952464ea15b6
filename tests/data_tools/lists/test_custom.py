"""Csv files and class folders of one's own."""

import re
from pathlib import Path
from typing import Any

import pytest

from dsanet.data_tools.lists.base import Lists
from dsanet.data_tools.lists.custom import read_class_tree, read_csv


def write(folder: Path, name: str, text: str) -> list[str]:
    (folder / name).write_text(text)
    return [str(folder / name)]


def content(lists: Lists, split: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(video.names[0], video.classes) for video in lists.splits[split]]


@pytest.mark.parametrize('separator', [',', ';', '\t'])
def test_csv_with_names_numbers_classes_alphabetically(tmp_path: Path, separator: str) -> None:
    text = 'path,label\nb/./1.mp4,waving\nwith space/2.mp4,brushing hair\n'.replace(',', separator)
    lists = read_csv({'train': write(tmp_path, 'train.csv', text)})
    assert lists.class_names == ['brushing hair', 'waving']
    assert content(lists, 'train') == [('b/1.mp4', ('waving',)), ('with space/2.mp4', ('brushing hair',))]


def test_csv_columns_may_be_called_otherwise_and_one_may_tell_the_split(tmp_path: Path) -> None:
    text = 'id,video,action,part\n1,a.mp4,wave|clap,training\n2,b.mp4,clap,Validation\n3,c.mp4,clap,test\n'
    lists = read_csv(
        {'all': write(tmp_path, 'all.csv', text)},
        path_column='video',
        label_column='action',
        split_column='part',
        label_separator='|',
    )
    assert content(lists, 'train') == [('a.mp4', ('wave', 'clap'))]
    assert content(lists, 'val') == [('b.mp4', ('clap',))]
    assert content(lists, 'test') == [('c.mp4', ('clap',))]


def test_csv_with_numbers_keeps_them_rather_than_sorting_them_as_text(tmp_path: Path) -> None:
    files = {'train': write(tmp_path, 'train.csv', 'path,label\na.mp4,10\nb.mp4,2\nc.mp4,0\n')}
    lists = read_csv(files)
    assert lists.class_names == [str(number) for number in range(11)]
    assert content(lists, 'train')[1] == ('b.mp4', ('2',))
    named = read_csv(files, class_names=[f'class {number}' for number in range(11)])
    assert content(named, 'train')[0] == ('a.mp4', ('class 10',))


def test_csv_with_numbers_from_1_needs_to_be_told(tmp_path: Path) -> None:
    files = {'train': write(tmp_path, 'train.csv', 'path,label\na.mp4,1\nb.mp4,2\n')}
    with pytest.raises(ValueError, match=r'no video has the label 0, the smallest is 1: .* --first-label 1; '):
        read_csv(files)
    assert read_csv(files, first_label=1).class_names == ['0', '1']
    named = read_csv(files, first_label=1, class_names=['clap', 'wave'])
    assert content(named, 'train') == [('a.mp4', ('clap',)), ('b.mp4', ('wave',))]
    with pytest.raises(ValueError, match=r'train.csv:3: label 2 is not one of the 2 classes, 0 to 1'):
        read_csv(files, class_names=['clap', 'wave'])


@pytest.mark.parametrize(
    ('label', 'message'),
    [
        (
            '1.0',
            "train.csv:3: label '1.0' is no whole number of up to 9 digits, as 0 is ({}/train.csv:2); labels must be",
        ),
        ('9' * 5000, "train.csv:3: label '9999"),
        ('\u0661', "train.csv:3: label '\u0661' is no whole number"),
        ('00999999999', "train.csv:3: label '00999999999' is no whole number"),
        ('999999999', 'train.csv:3: label 999999999 would make more than 100,000 classes'),
    ],
)
def test_csv_refuses_a_label_that_is_a_number_only_in_part(tmp_path: Path, label: str, message: str) -> None:
    files = {'train': write(tmp_path, 'train.csv', f'path,label\na.mp4,0\nb.mp4,{label}\nc.mp4,1\n')}
    with pytest.raises(ValueError, match=re.escape(message.format(tmp_path))):
        read_csv(files)


def test_csv_takes_numbers_for_names_if_a_class_file_has_them(tmp_path: Path) -> None:
    files = {'train': write(tmp_path, 'train.csv', 'path,label\na.mp4,360\nb.mp4,ollie\n')}
    assert content(read_csv(files, class_names=['ollie', '360']), 'train') == [
        ('a.mp4', ('360',)),
        ('b.mp4', ('ollie',)),
    ]


def test_csv_with_names_takes_the_given_order(tmp_path: Path) -> None:
    files = {'val': write(tmp_path, 'val.csv', 'path,label\na.mp4,clap\n')}
    assert read_csv(files, class_names=['wave', 'clap']).class_names == ['wave', 'clap']


@pytest.mark.parametrize(
    ('text', 'options', 'message'),
    [
        ('', {}, "all.csv:1: '' is not what is expected here: a header with the columns path, label, split"),
        ('path,class,split\n', {}, "all.csv:1: 'path,class,split' is not what is expected here: a header with the"),
        ('path,label,split\na,b\n', {}, "all.csv:2: 'a,b' is not what is expected here: 3 fields, as path,label,split"),
        ('path,label,split\na,b,dev\n', {}, "all.csv:2: 'dev' is not what is expected here: a split: train, training"),
        ('path,label,split\n,b,train\n', {}, "all.csv:2: ',b' is not what is expected here: a path and its labels"),
        (
            'path,label,split\na,b|b,train\n',
            {'label_separator': '|'},
            "all.csv:2: 'a,b|b' is not what is expected here",
        ),
        ('path,label,split\na,b|,train\n', {'label_separator': '|'}, "all.csv:2: 'a,b|' is not what is expected here"),
    ],
)
def test_csv_names_a_wrong_line_by_file_and_line(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_csv({'all': write(tmp_path, 'all.csv', text)}, **options)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a.mp4,"clap\nb.mp4,wave\n', 'train.csv:3: the row that begins here is no csv: unexpected end of data'),
        ('a.mp4,"clap\nb.mp4,"wave"\n', 'train.csv:3: the row that begins here is no csv: '),
        (
            'a.mp4,"clap\nb.mp4,wave"\nc.mp4,clap\n',
            r"train.csv:3: 'clap\nb.mp4,wave' is not what is expected here: a f",
        ),
        ('a.mp4,"clap\rhands"\n', r"train.csv:3: 'clap\rhands' is not what is expected here: a field without a line"),
    ],
)
def test_csv_refuses_quotes_that_swallow_lines_where_they_begin(tmp_path: Path, text: str, message: str) -> None:
    files = {'train': write(tmp_path, 'train.csv', f'path,label\n\n{text}')}
    with pytest.raises(ValueError, match=re.escape(message)):
        read_csv(files)


def test_csv_takes_separators_and_quotes_within_quotes(tmp_path: Path) -> None:
    files = {'train': write(tmp_path, 'train.csv', 'path,label\r\n"a,b.mp4","say ""hi"""\r\n')}
    assert content(read_csv(files), 'train') == [('a,b.mp4', ('say "hi"',))]


def test_tree_with_folders_of_splits_is_taken_as_it_is() -> None:
    lists = read_class_tree(['train/wave hands/a.mp4', 'train/clap/x/b.mp4', 'validation/wave hands/c.mp4'])
    assert lists.class_names == ['clap', 'wave hands']
    assert content(lists, 'train') == [('train/clap/x/b.mp4', ('clap',)), ('train/wave hands/a.mp4', ('wave hands',))]
    assert content(lists, 'val') == [('validation/wave hands/c.mp4', ('wave hands',))]
    assert list(lists.splits) == ['train', 'val']


def test_tree_of_classes_is_split_by_share_seed_and_path() -> None:
    names = ('clap', 'wave', 'rare', 'pair')
    paths = [f'{name}/{number:03}.mp4' for name in names[:2] for number in range(50)]
    paths += ['rare/1.mp4', 'pair/1.mp4', 'pair/2.mp4']
    lists = read_class_tree(paths, val_fraction=0.2)
    chosen = [path for path, _ in content(lists, 'val')]
    assert [sum(path.startswith(name) for path in chosen) for name in names] == [10, 10, 0, 1]
    assert sorted(chosen + [path for path, _ in content(lists, 'train')]) == sorted(paths)
    assert [path for path, _ in content(read_class_tree(paths[::-1], 0.2), 'val')] == chosen
    assert [path for path, _ in content(read_class_tree(paths, 0.2, seed=1), 'val')] != chosen
    # One video more moves at most one of the class's validation videos out.
    more = [path for path, _ in content(read_class_tree([*paths, 'clap/new.mp4'], 0.2), 'val')]
    assert len(set(chosen) - set(more)) <= 1
    assert list(read_class_tree(paths, val_fraction=0).splits) == ['train']
    # Folders of frames and transcoded videos are split as the videos are.
    frames = read_class_tree([path.removesuffix('.mp4') for path in paths], 0.2)
    assert [f'{path}.mp4' for path, _ in content(frames, 'val')] == chosen


def test_tree_may_have_a_class_that_is_called_like_a_split() -> None:
    lists = read_class_tree(['train/a.mp4', 'bus/b.mp4'], val_fraction=0)
    assert lists.class_names == ['bus', 'train']
    assert lists.notes == ["the folder 'train' is taken for a class, as those beside it are"]


def test_classes_without_a_video_in_their_own_folder_are_noted() -> None:
    assert read_class_tree(['clap/a.mp4', 'wave/x/b.mp4', 'wave/c.mp4'], val_fraction=0).notes == []
    assert read_class_tree(['train/clap/a.mp4', 'val/clap/b.mp4']).notes == []
    (note,) = read_class_tree(['mine/clap/a.mp4', 'mine/wave/b.mp4', 'run/c.mp4'], val_fraction=0).notes
    assert note == (
        "no video of 1 of the 2 classes lies right in the folder of its class: 'mine/clap/a.mp4' becomes one of class "
        "'mine'. Are the classes the folders below? Then give the one above them as MEDIA"
    )
    (note,) = read_class_tree(['train/mine/clap/a.mp4', 'val/mine/clap/b.mp4']).notes
    assert note.startswith('no video of 1 of the 1 classes ')


@pytest.mark.parametrize(
    ('paths', 'fraction', 'message'),
    [
        (['clap/a.mp4'], None, 'no folders train and val: say which share of each class is for validation'),
        (['train/clap/a.mp4'], 0.5, 'val_fraction=0.5 has no use: the folders train are splits'),
        (['clap/a.mp4'], 1.0, 'val_fraction is 1.0, must be from 0 to less than 1'),
        (['clap/a.mp4', 'b.mp4'], 0.5, 'b.mp4 lies outside of a class folder; expected class/video'),
        (
            ['Training/clap/a.mp4', 'val/clap/b.mp4', 'raw/clap/c.mp4', 'old/d.mp4'],
            0.5,
            "besides the folders Training, val (with Training/clap/a.mp4) there are 'old', 'raw': are the first "
            'splits, move the others elsewhere; are they classes, call them otherwise',
        ),
        (
            ['train/clap/a.mp4', 'train/wave/b.mp4', 'raw/c.mp4'],
            0.5,
            "besides the folder train (with train/clap/a.mp4) there are 'raw': are the first splits",
        ),
        (
            ['test/a.mp4', 'val/b.mp4', 'raw/c.mp4'],
            0.5,
            "besides the folders test, val there are 'raw': are the first splits",
        ),
        (['train/a.mp4'], None, 'train/a.mp4 lies outside of a class folder; expected split/class/video'),
    ],
)
def test_tree_refuses_what_it_cannot_read(paths: list[str], fraction: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_class_tree(paths, fraction)


@pytest.mark.parametrize(('path', 'val_fraction'), [('train/clap/1.mp4', None), ('clap/1.mp4', 0)])
def test_a_seed_without_a_choice_is_refused(path: str, val_fraction: float | None) -> None:
    with pytest.raises(ValueError, match='seed=0 has no use: no validation videos are chosen'):
        read_class_tree([path], val_fraction, seed=0)

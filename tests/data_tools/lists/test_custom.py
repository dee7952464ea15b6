"""CSV files and class folders of custom datasets."""

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
def test_csv_sorts_class_names(tmp_path: Path, separator: str) -> None:
    text = 'path,label\nb/./1.mp4,waving\nwith space/2.mp4,brushing hair\n'.replace(',', separator)
    lists = read_csv({'train': write(tmp_path, 'train.csv', text)})
    assert lists.class_names == ['brushing hair', 'waving']
    assert content(lists, 'train') == [('b/1.mp4', ('waving',)), ('with space/2.mp4', ('brushing hair',))]


def test_csv_column_names_can_be_chosen(tmp_path: Path) -> None:
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
    with pytest.raises(ValueError, match="split_column='part' has no effect.*train"):
        read_csv({'train': write(tmp_path, 'train.csv', text)}, 'video', 'action', 'part')


def test_csv_numbers_are_labels(tmp_path: Path) -> None:
    files = {'train': write(tmp_path, 'train.csv', 'path,label\na.mp4,10\nb.mp4,2\nc.mp4,0\n')}
    lists = read_csv(files)
    assert lists.class_names == [str(number) for number in range(11)]
    assert content(lists, 'train')[1] == ('b.mp4', ('2',))
    named = read_csv(files, class_names=[f'class {number}' for number in range(11)])
    assert content(named, 'train')[0] == ('a.mp4', ('class 10',))


def test_csv_names_may_look_like_numbers(tmp_path: Path) -> None:
    files = {'train': write(tmp_path, 'train.csv', 'path,label\na.mp4,1\nb.mp4,3\n')}
    lists = read_csv(files, class_names=['3', '2', '1'])
    assert content(lists, 'train') == [('a.mp4', ('1',)), ('b.mp4', ('3',))]
    lists = read_csv(files, class_names=['3', '2', '1'], first_label=1)
    assert content(lists, 'train') == [('a.mp4', ('3',)), ('b.mp4', ('1',))]
    files = {'train': write(tmp_path, 'train.csv', 'path,label\na.mp4,1.0\nb.mp4,10.0\n')}
    with pytest.raises(ValueError, match=r'train\.csv:2: label 1\.0 .*whole'):
        read_csv(files)


def test_csv_first_label_must_be_given(tmp_path: Path) -> None:
    files = {'train': write(tmp_path, 'train.csv', 'path,label\na.mp4,1\nb.mp4,2\n')}
    with pytest.raises(ValueError, match=r'\b0\b.*\b1\b.*--first-label 1.*--class-file'):
        read_csv(files)
    assert read_csv(files, first_label=1).class_names == ['0', '1']
    named = read_csv(files, first_label=1, class_names=['clap', 'wave'])
    assert content(named, 'train') == [('a.mp4', ('clap',)), ('b.mp4', ('wave',))]
    with pytest.raises(ValueError, match=r'train.csv:3: .*\b2\b.*\b2\b.*\b0 to 1'):
        read_csv(files, class_names=['clap', 'wave'])


@pytest.mark.parametrize(
    ('label', 'message'),
    [
        ('1.0', r"train.csv:3: .*'1.0'.*\b0\b.*train.csv:2.*--class-file"),
        ('9' * 5000, "train.csv:3: .*'9999"),
        ('\u0661', "train.csv:3: .*'\u0661'"),
        ('00999999999', "train.csv:3: .*'00999999999'"),
        ('999999999', r'train.csv:3: .*\b999999999\b.*100,000'),
    ],
)
def test_csv_refuses_mixed_names_and_numbers(tmp_path: Path, label: str, message: str) -> None:
    files = {'train': write(tmp_path, 'train.csv', f'path,label\na.mp4,0\nb.mp4,{label}\nc.mp4,1\n')}
    with pytest.raises(ValueError, match=message):
        read_csv(files)


def test_csv_class_file_turns_numbers_into_names(tmp_path: Path) -> None:
    files = {'train': write(tmp_path, 'train.csv', 'path,label\na.mp4,360\nb.mp4,ollie\n')}
    assert content(read_csv(files, class_names=['ollie', '360']), 'train') == [
        ('a.mp4', ('360',)),
        ('b.mp4', ('ollie',)),
    ]


def test_csv_keeps_the_order_of_the_class_file(tmp_path: Path) -> None:
    files = {'val': write(tmp_path, 'val.csv', 'path,label\na.mp4,clap\n')}
    assert read_csv(files, class_names=['wave', 'clap']).class_names == ['wave', 'clap']


@pytest.mark.parametrize(
    ('text', 'options', 'message'),
    [
        ('', {}, "all.csv:1: .*''.*path, label, split"),
        ('path,class,split\n', {}, "all.csv:1: .*'path,class,split'.*path, label, split.*--label-column"),
        ('path,label,split\na,b\n', {}, r"all.csv:2: .*'a,b'.*\b3\b.*path,label,split"),
        ('path,label,split\na,b,dev\n', {}, "all.csv:2: .*'dev'.*train, training"),
        ('path,label,split\n,b,train\n', {}, "all.csv:2: .*',b'"),
        ('path,label,split\na,b|b,train\n', {'label_separator': '|'}, r"all.csv:2: .*'a,b\|b'"),
        ('path,label,split\na,b|,train\n', {'label_separator': '|'}, r"all.csv:2: .*'a,b\|'"),
    ],
)
def test_csv_errors_name_file_and_line(tmp_path: Path, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_csv({'all': write(tmp_path, 'all.csv', text)}, **options)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a.mp4,"clap\nb.mp4,wave\n', 'train.csv:3: '),
        ('a.mp4,"clap\nb.mp4,"wave"\n', 'train.csv:3: '),
        ('a.mp4,"clap\nb.mp4,wave"\nc.mp4,clap\n', r"train.csv:3: .*'clap\\nb.mp4,wave'"),
        ('a.mp4,"clap\rhands"\n', r"train.csv:3: .*'clap\\rhands'"),
    ],
)
def test_csv_reports_where_an_open_quote_begins(tmp_path: Path, text: str, message: str) -> None:
    files = {'train': write(tmp_path, 'train.csv', f'path,label\n\n{text}')}
    with pytest.raises(ValueError, match=message):
        read_csv(files)


def test_long_wrong_header_is_shown_in_part(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'all\.csv:1: .*\.\.\.') as caught:
        read_csv({'all': write(tmp_path, 'all.csv', 'x' * 10_000 + '\n')})
    assert len(str(caught.value)) < 1000


def test_csv_reads_quoted_fields(tmp_path: Path) -> None:
    files = {'train': write(tmp_path, 'train.csv', 'path,label\r\n"a,b.mp4","say ""hi"""\r\n')}
    assert content(read_csv(files), 'train') == [('a,b.mp4', ('say "hi"',))]


def test_tree_uses_its_split_folders() -> None:
    lists = read_class_tree(['train/wave hands/a.mp4', 'train/clap/x/b.mp4', 'validation/wave hands/c.mp4'])
    assert lists.class_names == ['clap', 'wave hands']
    assert content(lists, 'train') == [('train/clap/x/b.mp4', ('clap',)), ('train/wave hands/a.mp4', ('wave hands',))]
    assert content(lists, 'val') == [('validation/wave hands/c.mp4', ('wave hands',))]
    assert list(lists.splits) == ['train', 'val']


def test_tree_split_depends_on_path_and_seed() -> None:
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


@pytest.mark.parametrize(
    ('paths', 'fraction', 'message'),
    [
        (['clap/a.mp4'], None, '--val-fraction'),
        (['train/clap/a.mp4'], 0.5, r'val_fraction=0\.5.*\btrain\b'),
        (['clap/a.mp4'], 1.0, r'val_fraction.*\b1\.0\b'),
        (['clap/a.mp4', 'b.mp4'], 0.5, r'\bb\.mp4.* class/video'),
        (['Training/clap/a.mp4', 'val/b/c.mp4', 'raw/d.mp4', 'old/e.mp4'], 0.5, r'Training, val\b.*\bold, raw\b'),
        (['train/a.mp4', 'bus/b.mp4'], 0, r'\btrain\b.*\bbus\b'),
        (['train/a.mp4'], None, r'train/a\.mp4.*split/class/video'),
    ],
)
def test_tree_with_an_unclear_structure_is_refused(paths: list[str], fraction: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_class_tree(paths, fraction)

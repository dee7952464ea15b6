"""dsanet build-list on small trees of videos with annotations in the official format of each dataset."""

import argparse
import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsanet import commands
from dsanet.commands import build_list
from dsanet.data_tools.lists.building import CUSTOM
from dsanet.data_tools.lists.catalog import KNOWN_DATASETS
from dsanet.datasets.annotation import parse_list_file, read_class_names
from tests.commands.conftest import ROOT

Lines = dict[str, list[str]]


def main(argv: list[str]) -> int:
    return commands.main(['build-list', *argv])


def write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def videos(root: Path, *paths: str) -> None:
    for path in paths:
        write(root / path, '')


def frames(root: Path, template: str = 'img_{:05d}.jpg', **counts: int) -> None:
    """Make folders of frames; the keyword a__b is the folder a/b."""
    for name, count in counts.items():
        for number in range(1, count + 1):
            write(root / name.replace('__', '/') / template.format(number), '')


def lines_of(out: Path) -> Lines:
    """Return the written lists; our datasets must be able to read each of them."""
    lines = {}
    for file in sorted(out.glob('*.txt')):
        if file.name != 'classes.txt' and not file.name.endswith('.missing.txt'):
            lines[file.stem] = file.read_text().splitlines()
            assert len(parse_list_file(str(file), with_num_frames='_frames' in file.stem)) == len(lines[file.stem])
    return lines


# Official datasets ------------------------------------------------------------------------------------------


def kinetics(out: Path, media: Path) -> None:
    header = 'label,youtube_id,time_start,time_end,split,is_cc\n'
    rows = ['riding a bike,-aaaaaaaaaa,5,15,train,0', 'air drumming,_bbbbbbbbbb,0,10,,0', 'clapping,ccccccccccc,1,11,,']
    write(out / 'annotations/train.csv', header + '\n'.join(rows))
    write(out / 'annotations/validate.csv', header + 'clapping,ddddddddddd,100,110,validate,0\n')
    write(out / 'annotations/test.csv', 'youtube_id,time_start,time_end,split\neeeeeeeeeee,1,11,test\n')
    # With and without class folders, whose names have spaces or underscores; file names with and without times.
    videos(media, 'train/riding_a_bike/-aaaaaaaaaa_000005_000015.mp4', 'train/air drumming/_bbbbbbbbbb.mkv')
    videos(media, 'train/ccccccccccc_000001_000011.mp4', 'val/clapping/ddddddddddd_000100_000110.webm')


KINETICS_LINES = {
    'train': [
        'videos/train/riding_a_bike/-aaaaaaaaaa_000005_000015.mp4 2',
        'videos/train/air drumming/_bbbbbbbbbb.mkv 0',
        'videos/train/ccccccccccc_000001_000011.mp4 1',
    ],
    'val': ['videos/val/clapping/ddddddddddd_000100_000110.webm 1'],
}


def mini_kinetics(out: Path, media: Path) -> None:
    kinetics(out, media)
    write(out / 'annotations/train_ytid_list.txt', '_bbbbbbbbbb\n-aaaaaaaaaa\n')
    write(out / 'annotations/val_ytid_list.txt', 'ccccccccccc\n')


SOMETHING_V1 = [
    'Holding something',
    'Turning something upside down',
    'Putting something, something and something on the table',
]


def something_v1(out: Path, media: Path) -> None:
    prefix = out / 'annotations/something-something-v1'
    write(Path(f'{prefix}-labels.csv'), ''.join(f'{name}\n' for name in SOMETHING_V1))
    write(Path(f'{prefix}-train.csv'), f'12;{SOMETHING_V1[1]}\n3;{SOMETHING_V1[0]}\n')
    write(Path(f'{prefix}-validation.csv'), f'7;{SOMETHING_V1[2]}\n')
    write(Path(f'{prefix}-test.csv'), '8\n')
    for video, count in (('12', 3), ('3', 2), ('7', 4), ('8', 1)):
        frames(media, '{:05d}.jpg', **{video: count})


def something_v2(out: Path, media: Path) -> None:
    def entry(video: str, template: str) -> dict[str, Any]:
        return {'id': video, 'label': 'text', 'template': template, 'placeholders': ['cup']}

    labels = {'Approaching something with your camera': '0', 'Holding something': '2', 'Closing something': '1'}
    train = [entry('78687', 'Holding [something]'), entry('9', 'Approaching [something] with your camera')]
    write(out / 'annotations/labels.json', labels)
    write(out / 'annotations/train.json', train)
    write(out / 'annotations/validation.json', [entry('5', 'Closing [something]')])
    write(out / 'annotations/test.json', [{'id': '1'}])
    videos(media, '78687.webm', '9.webm', '5.webm', '1.webm')


def activitynet(out: Path, media: Path) -> None:
    def entry(subset: str, *segments: tuple[str, float, float]) -> dict[str, Any]:
        annotations = [{'label': label, 'segment': [start, end]} for label, start, end in segments]
        return {'subset': subset, 'annotations': annotations, 'url': 'x', 'duration': 99.0, 'resolution': '1x1'}

    database = {
        '--aaaaaaaaa': entry('training', ('Zumba', 0, 10), ('Belly dance', 10, 30)),
        'bbbbbbbbbbb': entry('validation', ('Zumba', 0, 10), ('Archery', 10, 12)),
        'ccccccccccc': entry('testing'),
    }
    write(out / 'annotations/activity_net.v1-3.min.json', {'version': 'VERSION 1.3', 'database': database})
    videos(media, 'v_--aaaaaaaaa.mp4', 'v_bbbbbbbbbbb.mkv', 'v_ccccccccccc.webm')


def ucf101(out: Path, media: Path) -> None:
    folder = out / 'annotations'
    write(folder / 'classInd.txt', '1 ApplyEyeMakeup\r\n2 YoYo\r\n3 Archery\r\n')
    for n in (1, 2, 3):
        write(folder / f'trainlist0{n}.txt', f'YoYo/v_YoYo_g0{n}_c01.avi 2\r\nArchery/v_Archery_g01_c01.avi 3\r\n')
        write(folder / f'testlist0{n}.txt', f'YoYo/v_YoYo_g0{n % 3 + 1}_c01.avi\r\n')
    videos(media, 'Archery/v_Archery_g01_c01.avi', *[f'YoYo/v_YoYo_g0{n}_c01.avi' for n in (1, 2, 3)])


def hmdb51(out: Path, media: Path) -> None:
    for n in (1, 2, 3):
        text = f'#1_wave_{n}.avi 1 \nwave_[0].avi 2 \nunused.avi 0 \n'
        write(out / f'annotations/wave_test_split{n}.txt', text)
        write(out / f'annotations/brush_hair_test_split{n}.txt', 'wave_[0].avi 1 \n')
    # Folders of frames as dsanet extract-frames writes them; two classes have a video of the same name.
    frames(media, **{'wave__#1_wave_1': 1, 'wave__#1_wave_2': 2, 'wave__#1_wave_3': 3})
    frames(media, **{'wave__wave_[0]': 4, 'wave__unused': 4, 'brush_hair__wave_[0]': 5})


def three_splits(suffix: str, train: Callable[[int], list[str]], val: Callable[[int], list[str]]) -> Lines:
    numbers = (1, 2, 3)
    return {f'train_split{n}{suffix}': train(n) for n in numbers} | {f'val_split{n}{suffix}': val(n) for n in numbers}


CASES: dict[str, tuple[Callable[[Path, Path], None], list[str], Lines, list[str]]] = {
    'kinetics400': (kinetics, [], KINETICS_LINES, ['air drumming', 'clapping', 'riding a bike']),
    'mini_kinetics200': (
        mini_kinetics,
        [],
        {'train': KINETICS_LINES['train'][1::-1], 'val': KINETICS_LINES['train'][2:]},
        ['air drumming', 'clapping', 'riding a bike'],
    ),
    'something_v1': (
        something_v1,
        ['--frames'],
        {'train_frames': ['videos/12 3 1', 'videos/3 2 0'], 'val_frames': ['videos/7 4 2']},
        SOMETHING_V1,
    ),
    'something_v2': (
        something_v2,
        [],
        {'train': ['videos/78687.webm 2', 'videos/9.webm 0'], 'val': ['videos/5.webm 1']},
        ['Approaching something with your camera', 'Closing something', 'Holding something'],
    ),
    'activitynet': (
        activitynet,
        [],
        {'train': ['videos/v_--aaaaaaaaa.mp4 1'], 'val': ['videos/v_bbbbbbbbbbb.mkv 0,2']},
        ['Archery', 'Belly dance', 'Zumba'],
    ),
    'ucf101': (
        ucf101,
        [],
        three_splits(
            '',
            lambda n: [f'videos/YoYo/v_YoYo_g0{n}_c01.avi 1', 'videos/Archery/v_Archery_g01_c01.avi 2'],
            lambda n: [f'videos/YoYo/v_YoYo_g0{n % 3 + 1}_c01.avi 1'],
        ),
        ['ApplyEyeMakeup', 'YoYo', 'Archery'],
    ),
    'hmdb51': (
        hmdb51,
        ['--frames'],
        three_splits(
            '_frames',
            lambda n: ['videos/brush_hair/wave_[0] 5 0', f'videos/wave/#1_wave_{n} {n} 1'],
            lambda n: ['videos/wave/wave_[0] 4 1'],
        ),
        ['brush_hair', 'wave'],
    ),
}


@pytest.mark.parametrize('data_set', CASES)
def test_lists_match_the_official_files(data_set: str, tmp_path: Path) -> None:
    make, options, expected, class_names = CASES[data_set]
    out, media = tmp_path / 'data', tmp_path / 'data/videos'
    make(out, media)
    arguments = [data_set, str(media), str(out), '--num-classes', str(len(class_names)), *options]
    assert main(arguments) == 0
    assert lines_of(out) == expected
    assert read_class_names(str(out / 'classes.txt')) == class_names
    assert not list(out.glob('*.missing.txt'))
    before = {file: file.read_bytes() for file in out.iterdir() if file.is_file()}
    times = {file: file.stat().st_mtime_ns for file in before}
    assert main(arguments) == 0
    assert {file: file.read_bytes() for file in out.iterdir() if file.is_file()} == before
    assert {file: file.stat().st_mtime_ns for file in before} == times


def test_number_of_classes_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinetics(tmp_path, tmp_path / 'videos')
    with pytest.raises(SystemExit) as stop:
        main(['kinetics400', str(tmp_path / 'videos'), str(tmp_path)])
    assert stop.value.code == 2
    assert re.match('error: Kinetics-400 .*400 .*3.* air drumming, clapping, riding a bike', capsys.readouterr().err)
    assert not (tmp_path / 'train.txt').exists()


# Custom data ------------------------------------------------------------------------------------------------


def test_class_folders_are_split_by_seed(tmp_path: Path) -> None:
    videos(tmp_path / 'videos', *[f'{name}/{n}.mp4' for name in ('wave hands', 'clap') for n in range(10)])
    arguments = ['folders', str(tmp_path / 'videos'), str(tmp_path), '--val-fraction', '0.3']
    assert main(arguments) == 0
    lines = lines_of(tmp_path)
    assert [len(lines['train']), len(lines['val'])] == [14, 6]
    assert sorted(lines['train'] + lines['val']) == sorted(
        [f'videos/clap/{n}.mp4 0' for n in range(10)] + [f'videos/wave hands/{n}.mp4 1' for n in range(10)]
    )
    for option in (['--seed', '3'], ['--val-fraction', '0.3']):
        media = tmp_path / 'split'
        videos(media, 'train/clap/1.mp4', 'val/clap/2.mp4')
        with pytest.raises(SystemExit, match='^2$'):
            main(['folders', str(media), str(tmp_path / 'out'), *option])
    assert main([*arguments, '--seed', '3']) == 0
    assert lines_of(tmp_path) != lines
    assert main(arguments) == 0
    assert lines_of(tmp_path) == lines


@pytest.mark.parametrize('root', ['', 'train/', 'val/'])
def test_class_folder_without_videos_is_an_error(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos(tmp_path / 'media', f'{root}clap/1.mp4', f'{root}wave/sub/2.MTS')
    (tmp_path / 'media' / f'{root}jump').mkdir()
    (tmp_path / 'media' / f'{root}jump/3.xyz').touch()
    arguments = ['folders', str(tmp_path / 'media'), str(tmp_path / 'out')]
    arguments += [] if root else ['--val-fraction', '0']
    with pytest.raises(SystemExit):
        main(arguments)
    error = capsys.readouterr().err
    assert f'error: class folder {root}jump ' in error
    assert f'.xyz: 1 ({root}jump/3.xyz)' in error
    assert not (tmp_path / 'out').exists()
    (tmp_path / 'media' / f'{root}jump').rename(tmp_path / 'media' / '.jump')
    assert main(arguments) == 0
    assert 'hidden: 1 (.jump)' in capsys.readouterr().out
    assert json.loads((tmp_path / 'out/build_list.json').read_text())['files_not_used'] == {'hidden': 1}


def test_class_names_with_line_breaks_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos(tmp_path / 'videos', 'clap\nhands/1.mp4', 'wave/1.mp4')
    with pytest.raises(SystemExit) as stop:
        main(['folders', str(tmp_path / 'videos'), str(tmp_path), '--val-fraction', '0'])
    assert stop.value.code == 2
    assert re.match(r"error: .*'clap\\nhands'.*'clap\\nhands/1.mp4'", capsys.readouterr().err)
    assert not (tmp_path / 'classes.txt').exists()


def test_frame_folders_in_split_folders(tmp_path: Path) -> None:
    frames(tmp_path / 'f', 'frame{}.png', train__clap__a=3, train__wave__b=2, val__wave__c=4)
    (tmp_path / 'order.txt').write_text('wave\nclap\n')
    options = ['--frames', '--filename-tmpl', 'frame{}.png', '--class-file', str(tmp_path / 'order.txt')]
    assert main(['folders', str(tmp_path / 'f'), str(tmp_path / 'out'), *options, '--workers', '2']) == 0
    root = tmp_path / 'f'
    assert lines_of(tmp_path / 'out') == {
        'train_frames': [f'{root}/train/clap/a 3 1', f'{root}/train/wave/b 2 0'],
        'val_frames': [f'{root}/val/wave/c 4 0'],
    }
    assert main(['folders', str(root), str(tmp_path / 'out'), *options, '--relative-to', str(root)]) == 0
    assert lines_of(tmp_path / 'out')['val_frames'] == ['val/wave/c 4 0']


def test_csv_with_all_options(tmp_path: Path) -> None:
    videos(tmp_path / 'videos', 'a/1.mp4', 'b/1.mp4', 'b/2 x.mp4')
    write(tmp_path / 'annotations/all.csv', 'v;c;s\na/1.mp4;1|3;train\nb/1.mp4;2;val\nb/2 x.mp4;1;test\n')
    names = ['--path-column', 'v', '--label-column', 'c', '--split-column', 's', '--label-separator', '|']
    assert main(['csv', str(tmp_path / 'videos'), str(tmp_path), *names, '--first-label', '1']) == 0
    expected = {'train': ['videos/a/1.mp4 0,2'], 'val': ['videos/b/1.mp4 1'], 'test': ['videos/b/2 x.mp4 0']}
    assert lines_of(tmp_path) == expected
    assert read_class_names(str(tmp_path / 'classes.txt')) == ['0', '1', '2']
    write(tmp_path / 'names.txt', 'clap\nwave\njump\n')
    options = [*names, '--first-label', '1', '--class-file', str(tmp_path / 'names.txt')]
    assert main(['csv', str(tmp_path / 'videos'), str(tmp_path), *options]) == 0
    assert read_class_names(str(tmp_path / 'classes.txt')) == ['clap', 'wave', 'jump']


def test_csv_paths_must_match_the_folder(tmp_path: Path) -> None:
    videos(tmp_path / 'videos', 'a/1.mp4')
    write(tmp_path / 'x.csv', 'path,label\na/1.mp4,clap\nb/1.mp4,wave\n')
    arguments = ['csv', str(tmp_path / 'videos'), str(tmp_path), '--file', f'train={tmp_path / "x.csv"}']
    assert main([*arguments, '--skip-missing']) == 0
    assert lines_of(tmp_path) == {'train': ['videos/a/1.mp4 0']}


# Missing videos ---------------------------------------------------------------------------------------------


def test_missing_videos_are_reported_and_optionally_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    media = tmp_path / 'videos'
    kinetics(tmp_path, media)
    missing_file = media / 'train/air drumming/_bbbbbbbbbb.mkv'
    missing_file.unlink()
    videos(media, 'x/-aaaaaaaaaa_000005_000015.mp4', 'old/-aaaaaaaaaa.mp4', 'val/unlisted.mp4')
    (media / 'train/riding_a_bike/-aaaaaaaaaa_000005_000015.mp4').rename(media / '-aaaaaaaaaa_000005_000015.mp4')
    arguments = ['kinetics400', str(media), str(tmp_path), '--num-classes', '3']

    assert main(arguments) == 1
    assert lines_of(tmp_path) == {}
    csv = tmp_path / 'annotations/train.csv'
    missing = [line.split('\t') for line in (tmp_path / 'train.missing.txt').read_text().splitlines()]
    assert [[name, reason, source] for name, reason, _, source in missing] == [
        ['riding a bike/-aaaaaaaaaa_000005_000015', 'ambiguous', f'{csv}:2'],
        ['air drumming/_bbbbbbbbbb_000000_000010', 'not found', f'{csv}:3'],
    ]
    for token in ('-aaaaaaaaaa_000005_000015.mp4', ' x/-aaaaaaaaaa_000005_000015.mp4'):
        assert token in missing[0][2]
    for token in ('air drumming/_bbbbbbbbbb_000000_000010', ' air drumming/_bbbbbbbbbb', ' _bbbbbbbbbb'):
        assert token in missing[1][2]
    assert not (tmp_path / 'val.missing.txt').exists()
    summary = json.loads((tmp_path / 'build_list.json').read_text())
    assert summary['written'] is False
    assert summary['lists']['train.txt'] == {
        'listed': 3,
        'num_listed': 1,
        'skipped': {'ambiguous': 1, 'not found': 1},
        'classes_without_video': ['air drumming', 'riding a bike'],
        'videos_per_class': {'air drumming': 0, 'clapping': 1, 'riding a bike': 0},
    }
    assert (summary['videos_found'], summary['videos_in_no_list']) == (6, 4)
    (note,) = summary['notes']
    assert str(tmp_path / 'annotations/test.csv') in note
    shown = capsys.readouterr().out
    for token in ('train.txt: 1 of 3 ', 'air drumming, riding a bike', f'{csv}:3: ', 'not found: 1\n', '4 of 6 ', note):
        assert token in shown
    for token in ('train', '66.7%', '--skip-missing', 'train.missing.txt'):
        assert token in shown.splitlines()[-1]

    assert main([*arguments, '--skip-missing', '0.5']) == 1
    assert main([*arguments, '--skip-missing', '0.7']) == 0
    assert lines_of(tmp_path)['train'] == ['videos/train/ccccccccccc_000001_000011.mp4 1']
    assert main([*arguments, '--skip-missing']) == 0
    assert read_class_names(str(tmp_path / 'classes.txt')) == ['air drumming', 'clapping', 'riding a bike']

    videos(media, 'train/air drumming/_bbbbbbbbbb.mkv')
    (media / 'x/-aaaaaaaaaa_000005_000015.mp4').unlink()
    capsys.readouterr()
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert re.search(f'^{tmp_path / "train.txt"}: .*2.*0', shown, re.M), 'lines added and removed'
    assert f'{tmp_path / "val.txt"}: unchanged\n' in shown
    assert f'{tmp_path / "train.missing.txt"}: ' in shown
    assert not (tmp_path / 'train.missing.txt').exists()


def test_incomplete_frame_folders_are_skipped(tmp_path: Path) -> None:
    something_v1(tmp_path, tmp_path / 'frames')
    (tmp_path / 'frames/12/00002.jpg').unlink()
    arguments = ['something_v1', str(tmp_path / 'frames'), str(tmp_path), '--frames', '--num-classes', '3']
    assert main([*arguments, '--skip-missing']) == 0
    assert lines_of(tmp_path)['train_frames'] == ['frames/3 2 0']
    details = (tmp_path / 'train_frames.missing.txt').read_text().split('\t')
    assert details[:2] == ['12', 'incomplete']
    assert re.match(r'12: .*1.*3.*2', details[2])
    assert main([*arguments, '--skip-missing', '--start-index', '2']) == 1


def test_no_match_shows_an_existing_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinetics(tmp_path, tmp_path / 'other')
    videos(tmp_path / 'videos', 'train/some_other_name.mp4')
    arguments = ['kinetics400', str(tmp_path / 'videos'), str(tmp_path), '--num-classes', '3', '--skip-missing']
    assert main(arguments) == 1
    assert ' train/some_other_name.mp4\n' in capsys.readouterr().out


def test_names_need_not_be_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b'\xe9tude')
    videos(tmp_path / 'videos', f'clap/{name}.mp4', f'x/{name}2.mp4', f'y/{name}2.mp4')
    (tmp_path / 'annotations').mkdir()
    rows = b'path,label\nclap/\xe9tude.mp4,clap\n\xe9tude2.mp4,clap\n'
    (tmp_path / 'annotations/train.csv').write_bytes(rows)
    assert main(['csv', str(tmp_path / 'videos'), str(tmp_path), '--skip-missing']) == 0
    assert 'x/\\udce9tude2.mp4, y/\\udce9tude2.mp4' in capsys.readouterr().out
    (record,) = parse_list_file(str(tmp_path / 'train.txt'), data_root=str(tmp_path))
    assert os.path.isfile(record.path)


# Errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['kinetics400', 'videos', 'empty'], r"train.csv .*'empty/annotations'"),
        (['ucf101', 'videos', '.', '--annotations', 'empty'], r"classInd.txt .*'empty'"),
        (['kinetics400', 'videos', '.', '--file', 'train'], r'--file train.* ROLE=FILE.* train,'),
        (['kinetics400', 'videos', '.', '--file', 'json=a'], r'--file json=.* train'),
        (['kinetics400', 'videos', '.', '--file', 'val=no.csv'], r'--file val=no.csv'),
        (['kinetics400', 'videos', '.', '--skip-missing', '2'], r'--skip-missing: .*0 .*1.* .2'),
        (['kinetics400', 'nowhere', '.', '--num-classes', '3'], r"'.*/nowhere'"),
        (['kinetics400', 'annotations', '.', '--num-classes', '3'], r"annotations'.*test.csv"),
        (['kinetics400', 'videos', '.', '--num-classes', '3', '--frames'], r"'img_\{:05d\}"),
        (['kinetics400', 'videos', '.', '--file', 'val=empty.csv'], r'\bval\b'),
        (['kinetics400', 'videos', '.', '--annotations', 'empty', '--file', 'test=annotations/test.csv'], r'test.csv'),
        (['folders', 'videos', '.', '--annotations', 'x'], r'--annotations'),
        (['kinetics400', 'videos', '.', '--val-fraction', '0'], r'--val-fraction .*folders'),
        (['csv', 'videos', '.', '--val-fraction', '0.2', '--seed', '1'], r'--val-fraction, --seed .*folders'),
        (['folders', 'videos', '.', '--first-label', '0'], r'--first-label .*csv'),
        (['kinetics400', 'videos', 'empty.csv'], r'OUT empty.csv '),
        (['kinetics400', 'videos', '.', '--filename-tmpl', '{}.jpg'], r'--filename-tmpl.* --frames'),
        (['kinetics400', 'videos', '.', '--start-index', '1'], r'--start-index.* --frames'),
    ],
)
def test_invalid_arguments_write_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    kinetics(Path(), Path('videos'))
    Path('empty').mkdir()
    Path('empty.csv').write_text('label,youtube_id,time_start,time_end\n')
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(SystemExit, match='^2$'):
        main(arguments)
    shown = capsys.readouterr().err
    assert re.search(f'error: .*{text}', shown), shown
    assert sorted(tmp_path.rglob('*')) == before


def test_first_label_requires_numbers_as_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos(tmp_path / 'videos', 'a.mp4')
    write(tmp_path / 'annotations/train.csv', 'path,label\na.mp4,clap\n')
    with pytest.raises(SystemExit, match='^2$'):
        main(['csv', str(tmp_path / 'videos'), str(tmp_path), '--first-label', '1'])
    assert re.match("error: .*first_label=1.* 'clap'", capsys.readouterr().err)


def test_existing_lists_keep_their_class_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos(tmp_path / 'videos', 'a/1.mp4', 'b/1.mp4', 'c/1.mp4')
    frames(tmp_path / 'frames', b__1=2, c__1=2)
    of_videos = ['folders', str(tmp_path / 'videos'), str(tmp_path), '--val-fraction', '0']
    of_frames = ['folders', str(tmp_path / 'frames'), str(tmp_path), '--val-fraction', '0', '--frames']
    assert main(of_videos) == 0
    before = {file: file.read_bytes() for file in tmp_path.glob('*.*')}
    with pytest.raises(SystemExit, match='2'):
        main(of_frames)
    file = tmp_path / 'classes.txt'
    assert re.match(f'error: .*train.txt .*--class-file {file}', capsys.readouterr().err)
    assert {file: file.read_bytes() for file in tmp_path.glob('*.*')} == before
    assert main([*of_frames, '--class-file', str(file)]) == 0
    assert lines_of(tmp_path) == {
        'train': ['videos/a/1.mp4 0', 'videos/b/1.mp4 1', 'videos/c/1.mp4 2'],
        'train_frames': ['frames/b/1 2 1', 'frames/c/1 2 2'],
    }
    videos(tmp_path / 'videos', 'd/1.mp4')  # a new class at the end does not change the other numbers
    assert main(of_videos) == 0
    videos(tmp_path / 'videos', 'aa/1.mp4')
    with pytest.raises(SystemExit, match='2'):
        main(of_videos)
    (tmp_path / 'train_frames.txt').unlink()
    assert main(of_videos) == 0
    assert read_class_names(str(file)) == ['a', 'aa', 'b', 'c', 'd']


def test_write_failures_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos(tmp_path / 'videos', 'a/1.mp4')
    (tmp_path / 'train.txt').mkdir()
    assert main(['folders', str(tmp_path / 'videos'), str(tmp_path), '--val-fraction', '0']) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith('error: ')


def test_commands_in_the_docs_can_be_parsed() -> None:
    text = (ROOT / 'docs/datasets.md').read_text().replace('\\\n', ' ')
    commands = re.findall(r'^    dsanet build-list (.*)$', text, re.M)
    parser = argparse.ArgumentParser()
    build_list.add_arguments(parser)
    parsed = [parser.parse_args(shlex.split(command)) for command in commands if '#' not in command]
    for args in parsed:
        build_list._check_arguments(args)
    assert {args.dataset for args in parsed} >= {'folders', 'csv', *KNOWN_DATASETS} - {'kinetics600', 'kinetics700'}


def test_names_match_the_catalog() -> None:
    assert build_list.NAMES == (*KNOWN_DATASETS, *CUSTOM)


def test_list_does_not_replace_its_annotations(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    videos(tmp_path / 'videos', 'a.mp4')
    write(tmp_path / 'out' / 'train.txt', 'path,label\na.mp4,run\n')
    with pytest.raises(SystemExit, match='^2$'):
        main(['csv', f'{tmp_path}/videos', f'{tmp_path}/out', '--file', f'train={tmp_path}/out/train.txt'])
    assert f'{tmp_path}/out/train.txt' in capsys.readouterr().err
    assert (tmp_path / 'out' / 'train.txt').read_text().startswith('path,label')


def test_lists_made_by_hand_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    videos(tmp_path / 'videos', 'train/run/a.mp4', 'train/walk/b.mp4', 'val/run/c.mp4', 'val/walk/d.mp4')
    out = tmp_path / 'out'
    command = ['folders', f'{tmp_path}/videos', str(out)]
    for name, content in (('val.txt', 'c.mp4 0\n'), ('classes.txt', 'walk\nrun\n')):
        write(out / name, content)
        with pytest.raises(SystemExit, match='^2$'):
            main(command)
        assert f': {name}. ' in capsys.readouterr().err
        assert {file.name: file.read_text() for file in out.iterdir()} == {name: content}
        (out / name).unlink()
    write(out / 'classes.txt', 'run\nwalk\n')  # what the command would write
    for _ in range(2):
        assert main(command) == 0

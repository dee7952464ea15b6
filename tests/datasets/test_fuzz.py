"""Damaged lists, videos and pictures: each ends in an error with a name, or as a bad sample that is counted.

So it is in loading and in the tools: official files go through dsanet build-list, videos through extract-frames
and transcode.

The quick tests take a handful of each kind. ``pytest -m long tests/datasets/test_fuzz.py -s`` takes thousands and
prints what became of them.
"""

import os
import random
import re
import shutil
import sys
import time
from collections import Counter

import av
import cv2
import numpy as np
import pytest

from dsanet import commands
from dsanet.data_tools.video.batch import FAILURES_FILE, SETTINGS_FILE, read_failures
from dsanet.data_tools.video.extract import FILENAME_TMPL
from dsanet.datasets import RawFramesDataset, VideoDataset, build_dataloader
from dsanet.datasets.annotation import read_class_names
from dsanet.datasets.transforms import CenterCrop, DecodeRawFrames, DecodeVideo, OpenVideo, PackInputs, SampleSnippets
from dsanet.datasets.transforms.base import BadSample
from dsanet.datasets.video.readers import READERS, is_installed
from tests.commands import test_build_list as official
from tests.make_faults import FATAL_FAULTS, FILE_FAULTS, damage_list
from tests.make_videos import write_frames, write_video

DECODERS = [name for name in READERS if is_installed(name)]
CODECS = {
    'mp4': 'libx264',
    'mkv': 'libx264',
    'avi': 'mpeg4',
    'mpg': 'mpeg2video',
    'ts': 'libx264',
    'flv': 'libx264',
    'webm': 'libvpx-vp9',
}
NUM_CLASSES = 7
TIME_LIMIT = 10.0


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """A good video of each kind, and a good folder of frames."""
    root = tmp_path_factory.mktemp('good')
    for kind, codec in CODECS.items():
        write_video(root / f'a.{kind}', 30, codec=codec)
    write_frames(root / 'frames', 8)
    return root


def pipeline(decoder):
    sample = SampleSnippets(2, 2, random=True)
    if decoder is None:
        return [sample, DecodeRawFrames(), CenterCrop(32), PackInputs()]
    return [OpenVideo(decoder, TIME_LIMIT), sample, DecodeVideo(), CenterCrop(32), PackInputs()]


# -- lists -------------------------------------------------------------------------------------------------------------


def must_match(pattern, error):
    assert re.search(pattern, str(error), re.DOTALL), error


def expected_records(list_file, with_num_frames):
    """Parse a list file in another way than the project does; None for a line that is none."""
    count = r'\s+([0-9]{1,9})' if with_num_frames else '()'
    pattern = rf'(.*\S){count}\s+([0-9]{{1,9}}(?:,[0-9]{{1,9}})*)'
    text = list_file.read_bytes().decode('utf-8', 'surrogateescape').removeprefix('\ufeff')
    for number, line in enumerate(re.split('\r\n|\r|\n', text), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith('#'):
            match = re.fullmatch(pattern, stripped, re.DOTALL)
            yield number, match and (match[1], match[2], match[3])


def fuzz_lists(good, root, count, seed):
    """Read damaged lists; return how many ended in which way."""
    rng = random.Random(seed)
    outcomes = Counter()
    list_file = root / 'list.txt'
    for number in range(count):
        with_num_frames = number % 2 == 1
        lines = [f'frames 8 {n % NUM_CLASSES}' if with_num_frames else f'a.mp4 {n % NUM_CLASSES}' for n in range(10)]
        list_file.write_bytes(damage_list('\n'.join(lines).encode() + b'\n', rng))
        kind = RawFramesDataset if with_num_frames else VideoDataset
        try:
            dataset = kind(
                pipeline(None if with_num_frames else 'pyav'), str(list_file), str(good), multi_hot=NUM_CLASSES
            )
        except ValueError as error:
            must_match(r'list\.txt(:\d+: .*| names no video; expected)', error)
            outcomes['list refused, by line'] += 1
            continue
        expected = list(expected_records(list_file, with_num_frames))
        assert len(expected) == len(dataset)
        for record, row, (line, parts) in zip(dataset.records, dataset.labels, expected, strict=True):
            assert record.line == line
            assert parts is not None, (line, record)
            assert record.path == os.path.join(good, parts[0])
            assert str(record.num_frames or '') == parts[1].lstrip('0')
            assert np.flatnonzero(row).tolist() == sorted(int(label) for label in parts[2].split(','))
        try:
            sample = dataset[rng.randrange(len(dataset))]
            assert sample['inputs'].shape == (1, 2, 3, 2, 32, 32)
            outcomes['list read, sample read'] += 1
        except BadSample as error:
            must_match(r'list\.txt:\d+: ', error)
            outcomes['list read, sample refused'] += 1
    return outcomes


def fuzz_class_files(root, count, seed):
    rng = random.Random(seed)
    outcomes = Counter()
    for _ in range(count):
        (root / 'classes.txt').write_bytes(damage_list(b'sit down\nstand up\nwalk\nrun\n', rng))
        try:
            names = read_class_names(str(root / 'classes.txt'))
            assert names
            assert len(set(names)) == len(names)
            outcomes['class file read'] += 1
        except ValueError as error:
            must_match(r'classes\.txt(:\d+: .*| names no class)', error)
            outcomes['class file refused, by line'] += 1
    return outcomes


# -- official files ----------------------------------------------------------------------------------------------------


def own_csv(out, media):
    splits = list(enumerate(('train', 'train', 'val', 'test')))
    rows = [f'{name}/{number}.mp4,{name},{split}' for name in ('clap', 'wave') for number, split in splits]
    official.write(out / 'annotations/all.csv', '\n'.join(['path,label,split', *rows, '']))
    official.videos(media, *(row.split(',')[0] for row in rows))


def own_numbers(out, media):
    rows = [f'{number}.mp4;{number % 3}' for number in range(9)]
    official.write(out / 'annotations/train.csv', '\n'.join(['path;label', *rows, '']))
    official.videos(media, *(row.split(';')[0] for row in rows))


TABLES = ['--file=kinetics_train={}/train.csv', '--file=kinetics_val={}/validate.csv']
# How a tree is made, the dataset's name, its classes, and what else its command says. The lines of the lists are few,
# so that a fault hits every part of them.
TREES = (
    (official.kinetics, 'kinetics400', 3, []),
    (official.mini_kinetics, 'mini_kinetics200', 3, TABLES),
    (official.something_v1, 'something_v1', 3, ['--frames']),
    (official.something_v2, 'something_v2', 3, []),
    (official.activitynet, 'activitynet', 3, []),
    (official.ucf101, 'ucf101', 3, []),
    (official.hmdb51, 'hmdb51', 2, ['--frames']),
    (own_csv, 'csv', 2, []),
    (own_numbers, 'csv', 3, []),
)
# What is wrong with all of a file, or of several, has no line.
ABOUT_ALL = 'has [0-9]+ classes, the files name|names no video|no video has the label|holds a line break|differ in case'


def with_lines(text):
    """Return a JSON file's text with a line for each entry, others as they are."""
    if text[:1] not in (b'{', b'['):
        return text
    return re.sub(rb'}, (?={"id"|"[^"]*": {)', b'},\n', text)


def read_classes_by_path(out):
    """Return the names of classes of each line of the lists that were written."""
    names = out.joinpath('classes.txt').read_bytes().decode('utf-8', 'surrogateescape').split('\n')
    found = {}
    for list_file, lines in official.lines_of(out).items():
        for line in lines:
            path, *_, labels = line.rsplit(' ', 2 if list_file.endswith('_frames') else 1)
            found.setdefault(path, set()).update(names[int(label)] for label in labels.split(','))
    return found


def plain(text):
    return re.sub(r'[\W_]+', '', text).casefold()


def must_be_listed(classes_by_path, truth, texts):
    """Assert that a class that is not a video's stands in a line with it, in a file as it is now."""
    lines = [plain(line) for text in texts for line in text.decode('utf-8', 'surrogateescape').splitlines()]
    for path, classes in classes_by_path.items():
        video = plain(os.path.splitext(os.path.basename(path))[0].removeprefix('v_').split('_0000')[0])
        for name in classes - truth.get(path, set()):
            assert any(video in line and plain(name) in line for line in lines), (path, name)


def fuzz_official_files(root, count, seed, capsys):
    """Build lists from damaged official files; return how many ended in which way, by dataset."""
    sys.stderr.reconfigure(errors='backslashreplace')  # as it is outside of pytest
    rng = random.Random(seed)
    outcomes = {}
    for number, (make, name, num_classes, options) in enumerate(TREES):
        out, media = root / f'{number}', root / f'{number}' / 'videos'
        folder = out / 'annotations'
        make(out, media)
        files = {file: with_lines(file.read_bytes()) for file in sorted(folder.iterdir())}
        for file, text in files.items():
            file.write_bytes(text)
        # As many classes as there are: else every loss of a class would be told by their number alone.
        words = [name, str(media), str(out), '--skip-missing', '--num-classes', str(num_classes)]
        words += [option.format(folder) for option in options]
        assert commands.main(['build-list', *words]) == 0
        truth = read_classes_by_path(out)
        ended = outcomes[make.__name__] = Counter()
        for _ in range(count):
            for list_file in out.glob('*.txt'):
                list_file.unlink()
            file = rng.choice(list(files))
            text = damage_list(files[file], rng)
            file.write_bytes(text)
            capsys.readouterr()
            try:
                status = commands.main(['build-list', *words])
            except SystemExit as end:
                status = end.code
            file.write_bytes(files[file])
            if status == 2:
                said = capsys.readouterr().err
                must_match(r'^error: .*\n$', said)
                must_match(f'{re.escape(str(folder))}|{ABOUT_ALL}', said)
                is_located = re.search(re.escape(str(folder)) + '/[^:]*?(:[0-9]+|, id )', said)
                ended['refused, by line' if is_located else 'refused, by file'] += 1
            elif status == 1:
                ended['nothing found'] += 1
            else:
                found = read_classes_by_path(out)
                must_be_listed(found, truth, (files | {file: text}).values())
                ended['read, all of it' if found == truth else 'read, not all of it'] += 1
    return outcomes


# -- videos and pictures -----------------------------------------------------------------------------------------------


def drain(dataset, root, fatal, outcomes):
    """Load everything once in a worker and check what comes out.

    Args:
        dataset: damaged samples, in ``root``, and good ones from elsewhere.
        root: folder.
        fatal: names of those that nothing can read.
        outcomes: how many ended in which way; added to.
    """
    loader = build_dataloader(dataset, 1, 1, training=True, max_bad_share=1)
    source_of = {record.path: record.source for record in dataset.records}
    bad, seen = set(), set()
    started = time.monotonic()
    batches = list(loader)
    assert len(batches) == len(dataset)
    for batch in batches:
        record = dataset.records[batch['index'].item()]
        assert (batch['path'], batch['label'].item()) == ([record.path], record.label)
        assert batch['inputs'].shape == (1, 1, 2, 3, 2, 32, 32)
        seen.add(batch['path'][0])
        for case in (case for cases in batch['bad'] for case in cases):
            assert case['source'] == source_of[case['path']]
            assert case['reason']
            for kind, text in (('cut off', 'time_limit'), ('crash', 'crashed')):
                outcomes[kind] += text in case['reason']
            bad.add(case['path'])
    # What is damaged in some frames only may be read in one place of the epoch and be bad in another.
    assert bad | seen == set(source_of)
    assert {path for path in source_of if os.path.basename(path) in fatal} <= bad - seen
    assert not {path for path in bad if not path.startswith(root)}
    assert time.monotonic() - started < TIME_LIMIT + len(dataset)
    outcomes['bad, counted'] += len(bad)
    outcomes['read'] += len(source_of) - len(bad)


def write_list(root, names, with_num_frames=False):
    middle = ' 8' if with_num_frames else ''
    (root / 'list.txt').write_text(''.join(f'{name}{middle} {n % NUM_CLASSES}\n' for n, name in enumerate(names)))
    return str(root / 'list.txt')


def wrong_types(good, root):
    """Write what is no video at all, or not what its name says; return the names and which of them nothing reads."""
    (root / 'folder.mp4').mkdir()
    os.mkfifo(root / 'pipe.mp4')
    (root / 'loop.mp4').symlink_to('loop.mp4')
    (root / 'text.mp4').write_text('path label\n' * 100)
    (root / 'script.mp4').write_text("ffconcat version 1.0\nfile 'a.mp4'\n")
    shutil.copy(good / 'frames' / 'img_00001.jpg', root / 'picture.mp4')
    shutil.copy(good / 'a.mkv', root / 'renamed.mp4')
    shutil.copy(good / 'a.mp4', root / 'renamed.txt')
    with av.open(str(root / 'sound.mka'), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format='s16', layout='mono')
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    fatal = ['folder.mp4', 'pipe.mp4', 'loop.mp4', 'missing.mp4', 'text.mp4', 'sound.mka']
    return [*fatal, 'script.mp4', 'picture.mp4', 'renamed.mp4', 'renamed.txt'], fatal


def fuzz_videos(good, root, count, seed, decoder):
    rng = random.Random(seed)
    names, fatal = wrong_types(good, root)
    for number in range(count):
        kind = list(CODECS)[number % len(CODECS)]
        fault = rng.choice(FILE_FAULTS)
        names.append(f'{number:05d}.{kind}')
        (root / names[-1]).write_bytes(fault((good / f'a.{kind}').read_bytes(), rng))
        if fault in FATAL_FAULTS:
            fatal.append(names[-1])
    # As many good ones, of every class, so that each bad one can be replaced.
    names += [str(good / 'a.mp4')] * NUM_CLASSES * (1 + len(names) // NUM_CLASSES)
    outcomes = Counter()
    drain(VideoDataset(pipeline(decoder), write_list(root, names), str(root)), str(root), fatal, outcomes)
    outcomes['read'] -= 1  # the good one
    return outcomes


def fuzz_frames(good, root, count, seed):
    rng = random.Random(seed)
    names, fatal = [], []
    for number in range(count):
        names.append(f'{number:05d}')
        folder = root / names[-1]
        shutil.copytree(good / 'frames', folder)
        kind = rng.randrange(8)
        if kind == 0:
            shutil.rmtree(folder)
        elif kind == 1:
            (folder / 'img_00001.jpg').rename(folder / 'img_00000.jpg')
        elif kind == 2:
            for file in folder.iterdir():
                file.rename(folder / f'frame{file.stem[-5:]}.jpg')
        elif kind == 3:
            folder.rename(root / 'x')
            (root / 'x' / 'img_00001.jpg').rename(folder)
            shutil.rmtree(root / 'x')
        else:
            for file in sorted(folder.iterdir()):
                fault = rng.choice(FILE_FAULTS)
                file.write_bytes(fault(file.read_bytes(), rng))
        if kind in (0, 2, 3):
            fatal.append(names[-1])
    names += [str(good / 'frames')] * NUM_CLASSES * (1 + len(names) // NUM_CLASSES)
    outcomes = Counter()
    drain(RawFramesDataset(pipeline(None), write_list(root, names, True), str(root)), str(root), fatal, outcomes)
    outcomes['read'] -= 1
    return outcomes


def damaged_folder(good, root, count, rng):
    """Write damaged videos of every kind; return how many, and the names of those that nothing can read."""
    root.mkdir()
    fatal = []
    for number in range(count):
        kind = list(CODECS)[number % len(CODECS)]
        fault = rng.choice(FILE_FAULTS)
        name = f'{number:05d}.{kind}'
        (root / name).write_bytes(fault((good / f'a.{kind}').read_bytes(), rng))
        if fault in FATAL_FAULTS:
            fatal.append(name)
    return fatal


def fuzz_tools(good, root, count, seed, capsys):
    """Run damaged videos through the tools that convert; return how many ended in which way, by tool."""
    rng = random.Random(seed)
    videos = root / 'videos'
    fatal = damaged_folder(good, videos, count, rng)
    outcomes = {}
    for name, command, options in (
        ('extract-frames', 'extract-frames', []),
        ('extract-frames, keep', 'extract-frames', ['--keep-damaged', '--fps', '10']),
        ('transcode', 'transcode', []),
        ('transcode, keep', 'transcode', ['--keep-damaged', '--gop', '4', '--fps', '10']),
    ):
        out = root / name
        words = [str(videos), str(out), '--workers', '2', '--time-limit', str(TIME_LIMIT), *options]
        status = commands.main([command, *words])
        said = capsys.readouterr()
        assert 'Traceback' not in said.out + said.err
        failures = {failure.path: failure for failure in read_failures(out / FAILURES_FILE)}
        failed = {path for path, failure in failures.items() if not failure.kept}
        targets = {file.name for file in out.iterdir()} - {FAILURES_FILE, SETTINGS_FILE}
        suffix = '' if name.startswith('extract') else '.mp4'
        written = {path for path in os.listdir(videos) if os.path.splitext(path)[0] + suffix in targets}
        assert len(targets) == len(written), 'and no parts'
        assert written.isdisjoint(failed)
        assert written | failed == set(os.listdir(videos))
        assert set(fatal) <= failed
        assert status == bool(failed)
        assert all(failure.reason for failure in failures.values())
        for path in written:
            check_target(out / (os.path.splitext(path)[0] + suffix))
        outcomes[name] = Counter(
            failed=len(failed),
            kept=len(failures) - len(failed),
            whole=len(written - failures.keys()),
            crashed=sum('SIG' in failure.reason for failure in failures.values()),
            hung=sum(bool(re.search(r'\d s$', failure.reason)) for failure in failures.values()),
        )
    return outcomes


def check_target(target):
    """Assert that all frames of a folder or of a video can be read."""
    if target.is_dir():
        names = sorted(os.listdir(target))
        assert names == [FILENAME_TMPL.format(number + 1) for number in range(len(names))]
        shapes = {cv2.imread(str(target / name)).shape for name in names}
        assert len(shapes) == 1
        return
    reader = READERS['pyav'](str(target))
    assert len(reader.read(np.arange(reader.num_frames))) == reader.num_frames
    reader.close()


def test_damaged_lists_are_refused_by_line_or_read_rightly(good, tmp_path):
    outcomes = fuzz_lists(good, tmp_path, 150, seed=0)
    assert outcomes.total() == 150
    assert min(outcomes.values()) >= 5
    assert len(outcomes) == 3
    assert len(fuzz_class_files(tmp_path, 50, seed=0)) == 2


@pytest.mark.parametrize('decoder', DECODERS)
def test_damaged_videos_are_counted(good, tmp_path, decoder):
    outcomes = fuzz_videos(good, tmp_path, 40, seed=0, decoder=decoder)
    assert outcomes['bad, counted'] + outcomes['read'] == 50
    assert min(outcomes['bad, counted'], outcomes['read']) >= 5


def test_damaged_frames_are_counted(good, tmp_path):
    outcomes = fuzz_frames(good, tmp_path, 40, seed=0)
    assert outcomes['bad, counted'] + outcomes['read'] == 40
    assert outcomes['bad, counted'] >= 20


def test_damaged_official_files_are_refused_by_name_or_read_rightly(tmp_path, capsys):
    outcomes = fuzz_official_files(tmp_path, 20, seed=0, capsys=capsys)
    assert [ended.total() for ended in outcomes.values()] == [20] * len(TREES)
    for ended in outcomes.values():
        assert ended['refused, by line'] + ended['refused, by file'] >= 3
    assert sum(ended['refused, by line'] for ended in outcomes.values()) >= 30
    assert sum(ended['read, all of it'] + ended['read, not all of it'] for ended in outcomes.values()) >= 30


def test_tools_list_damaged_videos(good, tmp_path, capsys):
    outcomes = fuzz_tools(good, tmp_path, 28, seed=0, capsys=capsys)
    for ended in outcomes.values():
        assert ended['failed'] >= 5
        assert ended['whole'] >= 2
    assert outcomes['transcode, keep']['kept'] >= 2


@pytest.mark.long
def test_thousands_of_damaged_official_files(tmp_path, capsys):
    outcomes = fuzz_official_files(tmp_path, 600, seed=1, capsys=capsys)
    with capsys.disabled():
        sys.stdout.write('\n' + ''.join(f'{name}: {dict(ended)}\n' for name, ended in outcomes.items()))
    assert sum(ended.total() for ended in outcomes.values()) == 600 * len(TREES)


@pytest.mark.long
def test_tools_list_hundreds_of_damaged_videos(good, tmp_path, capsys):
    outcomes = fuzz_tools(good, tmp_path, 700, seed=1, capsys=capsys)
    with capsys.disabled():
        sys.stdout.write('\n' + ''.join(f'{name}: {dict(ended)}\n' for name, ended in outcomes.items()))
    assert all(ended['failed'] + ended['kept'] + ended['whole'] == 700 for ended in outcomes.values())


@pytest.mark.long
def test_thousands_of_damaged_lists(good, tmp_path):
    outcomes = fuzz_lists(good, tmp_path, 4000, seed=1) + fuzz_class_files(tmp_path, 1000, seed=1)
    sys.stdout.write(f'\nlists: {dict(outcomes)}\n')
    assert outcomes.total() == 5000


@pytest.mark.long
@pytest.mark.parametrize('decoder', [None, *DECODERS])
def test_hundreds_of_damaged_videos_and_pictures(good, tmp_path, decoder):
    if decoder is None:
        outcomes = fuzz_frames(good, tmp_path, 700, seed=1)
    else:
        outcomes = fuzz_videos(good, tmp_path, 700, seed=1, decoder=decoder)
    sys.stdout.write(f'\n{decoder or "frames"}: {dict(outcomes)}\n')
    assert outcomes['bad, counted'] + outcomes['read'] == (700 if decoder is None else 710)

"""Damaged lists, videos and images must end in an error with file and line, or be counted as bad samples.

Videos are also read by extract-frames and transcode.

The quick tests use a few files of each kind. ``pytest -m long tests/datasets/test_fuzz.py -s`` uses thousands and
prints the outcomes.
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
from dsanet.data_tools.video.batch import FAILURES_FILE, read_failures
from dsanet.data_tools.video.extract import FILENAME_TMPL
from dsanet.data_tools.video.targets import SETTINGS_FILE
from dsanet.datasets import RawFramesDataset, VideoDataset, build_dataloader
from dsanet.datasets.annotation import read_class_names
from dsanet.datasets.transforms import CenterCrop, DecodeRawFrames, DecodeVideo, OpenVideo, PackInputs, SampleSnippets
from dsanet.datasets.transforms.base import BadSample
from dsanet.datasets.video.readers import READERS, is_installed
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
    """One undamaged video of each kind, and one undamaged folder of frames."""
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
    """Parse a list file independently of the project; yield None for a malformed line."""
    count = r'\s+([0-9]{1,9})' if with_num_frames else '()'
    pattern = rf'(.*\S){count}\s+([0-9]{{1,9}}(?:,[0-9]{{1,9}})*)'
    text = list_file.read_bytes().decode('utf-8', 'surrogateescape').removeprefix('\ufeff')
    for number, line in enumerate(re.split('\r\n|\r|\n', text), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith('#'):
            match = re.fullmatch(pattern, stripped, re.DOTALL)
            yield number, match and (match[1], match[2], match[3])


def fuzz_lists(good, root, count, seed):
    """Read damaged lists; return the number of each outcome."""
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
            must_match(r'list\.txt(:\d+: .*| .*path)', error)
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
            must_match(r'classes\.txt(:\d+: .*| .*class)', error)
            outcomes['class file refused, by line'] += 1
    return outcomes


# -- videos and images ------------------------------------------------------------------------------------------------


def drain(dataset, root, fatal, outcomes):
    """Load all samples once in a data worker, and check the batches.

    Args:
        dataset: damaged samples in ``root``, and undamaged ones elsewhere.
        root: folder of the damaged samples.
        fatal: names of the samples that no decoder can read.
        outcomes: number of each outcome, which is increased.
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
    # A video with a few damaged frames may be read once and be bad another time in the same epoch.
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
    """Write files that are not videos, or have a wrong extension; return all names, and those that no decoder reads."""
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


def write_damaged_videos(good, root, count, rng):
    """Write damaged videos of every kind; return all names, and those that no decoder can read."""
    names, fatal = [], []
    for number in range(count):
        kind = list(CODECS)[number % len(CODECS)]
        fault = rng.choice(FILE_FAULTS)
        names.append(f'{number:05d}.{kind}')
        (root / names[-1]).write_bytes(fault((good / f'a.{kind}').read_bytes(), rng))
        if fault in FATAL_FAULTS:
            fatal.append(names[-1])
    return names, fatal


def fuzz_videos(good, root, count, seed, decoder):
    rng = random.Random(seed)
    names, fatal = wrong_types(good, root)
    damaged, unreadable = write_damaged_videos(good, root, count, rng)
    names, fatal = names + damaged, fatal + unreadable
    # Add as many undamaged ones, of every class, so that each bad one can be replaced.
    names += [str(good / 'a.mp4')] * NUM_CLASSES * (1 + len(names) // NUM_CLASSES)
    outcomes = Counter()
    drain(VideoDataset(pipeline(decoder), write_list(root, names), str(root)), str(root), fatal, outcomes)
    outcomes['read'] -= 1  # the undamaged one
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


def fuzz_tools(good, root, count, seed, capsys):
    """Run the conversion tools on damaged videos; return the number of each outcome, by tool."""
    rng = random.Random(seed)
    videos = root / 'videos'
    videos.mkdir()
    _, fatal = write_damaged_videos(good, videos, count, rng)
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
        output = capsys.readouterr()
        assert 'Traceback' not in output.out + output.err
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
    """Assert that all frames of a folder or a video can be read."""
    if target.is_dir():
        names = sorted(os.listdir(target))
        assert names == [FILENAME_TMPL.format(number + 1) for number in range(len(names))]
        shapes = {cv2.imread(str(target / name)).shape for name in names}
        assert len(shapes) == 1
        return
    reader = READERS['pyav'](str(target))
    assert len(reader.read(np.arange(reader.num_frames))) == reader.num_frames
    reader.close()


def quick_and_long(quick, long):
    """Return parameters (count, seed) of a quick test and of one that runs for minutes."""
    return pytest.mark.parametrize(('count', 'seed'), [(quick, 0), pytest.param(long, 1, marks=pytest.mark.long)])


@pytest.fixture
def show(capsys, request):
    """Print the outcomes of a long test."""

    def write(name, outcomes):
        if 'long' in request.keywords:
            with capsys.disabled():
                sys.stdout.write(f'\n{name}: {dict(outcomes)}')

    return write


@quick_and_long(150, 4000)
def test_damaged_lists_are_refused_or_read_correctly(good, tmp_path, show, count, seed):
    outcomes = fuzz_lists(good, tmp_path, count, seed)
    show('lists', outcomes)
    assert outcomes.total() == count
    assert min(outcomes.values()) >= 5
    assert len(outcomes) == 3
    assert len(fuzz_class_files(tmp_path, count // 3, seed)) == 2


@quick_and_long(24, 700)
@pytest.mark.parametrize('decoder', DECODERS)
def test_damaged_videos_are_counted(good, tmp_path, show, decoder, count, seed):
    outcomes = fuzz_videos(good, tmp_path, count, seed, decoder)
    show(decoder, outcomes)
    assert outcomes['bad, counted'] + outcomes['read'] == count + 10
    assert min(outcomes['bad, counted'], outcomes['read']) >= 5


@quick_and_long(40, 700)
def test_damaged_frames_are_counted(good, tmp_path, show, count, seed):
    outcomes = fuzz_frames(good, tmp_path, count, seed)
    show('frames', outcomes)
    assert outcomes['bad, counted'] + outcomes['read'] == count
    assert outcomes['bad, counted'] >= count // 2


@quick_and_long(28, 700)
def test_tools_report_damaged_videos(good, tmp_path, capsys, show, count, seed):
    outcomes = fuzz_tools(good, tmp_path, count, seed, capsys)
    for name, ended in outcomes.items():
        show(name, ended)
        assert ended['failed'] + ended['kept'] + ended['whole'] == count
        assert ended['failed'] >= 5
        assert ended['whole'] >= 2
    assert outcomes['transcode, keep']['kept'] >= 2

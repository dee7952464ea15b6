"""Records as columns, compared with lists of the same records; and what a long list costs, in counts and bytes."""

import hashlib
import os
import pickle
import random
import sys
from collections import Counter

import numpy as np
import pytest

from dsanet.data_checks.reading import splits_of
from dsanet.data_checks.run import quick_report
from dsanet.datasets import MixedDataset, RawFramesDataset, VideoDataset, build_dataloader
from dsanet.datasets import records as records_module
from dsanet.datasets.annotation import parse_list_file
from dsanet.datasets.records import VideoRecord, VideoRecords
from dsanet.datasets.transforms import DecodeRawFrames, DecodeVideo, OpenVideo, PackInputs, SampleSnippets
from dsanet.engine.resuming import hash_records

VIDEO_PIPELINE = (OpenVideo(), SampleSnippets(1, 1), DecodeVideo(), PackInputs())
NAMES = ('a.mp4', 'sub/b c.mp4', '/data/x.mp4', '/data/y/z.mp4', 'é/視.mp4', 'wei\udcdf.mp4', 'x')


def random_records(seed, number=40, folders=('train.txt',)):
    """Return records of all kinds, in a list; also of several list files."""
    rng = random.Random(seed)
    kind = seed % 4
    records = []
    for line in range(number):
        labels = rng.sample(range(9), rng.randint(1, 3)) if kind == 1 else [rng.randrange(9)]
        num_frames = rng.choice([None, 3, 70]) if kind == 2 else None
        span = (rng.choice([None, 0.0, 2.5]), rng.choice([None, 3.25, 1e6])) if kind == 3 else (None, None)
        folder = rng.choice(folders)
        at = None if folder.endswith('/') else line + 1
        records.append(VideoRecord(rng.choice(NAMES), tuple(labels), folder, at, num_frames, *span))
    return records


@pytest.mark.parametrize('seed', range(8))
def test_columns_equal_the_list_of_records(seed):
    expected = random_records(seed, folders=('train.txt', 'b.txt', 'class/')[: 1 + seed // 4 * 2])
    records = VideoRecords.of(expected)
    assert VideoRecords.of(records) is records
    assert list(records) == expected
    assert records == expected
    assert records != expected[:-1]
    assert [records[-1], *records[3:30:4]] == [expected[-1], *expected[3:30:4]]
    assert pickle.loads(pickle.dumps(records)) == expected
    assert list(records.keys()) == [record.key for record in expected]
    assert [len(r.labels) for r in expected] == records.label_counts.tolist()
    assert [max(r.labels) for r in expected] == records.largest_labels.tolist()
    counts = Counter(label for record in expected for label in record.labels)
    assert list(records.count_labels().items()) == list(counts.items())
    known = records.with_frame_counts()
    lengths = [record.num_frames for record in expected if record.num_frames]
    assert known.frame_counts is None if not lengths else [record.num_frames for record in known] == lengths
    same = [set(record.labels) == set(expected[5].labels) for record in expected]
    assert records.have_same_labels(5).tolist() == same
    assert records.multi_hot(9).tolist() == [[k in r.labels for k in range(9)] for r in expected]
    with pytest.raises(IndexError):
        records[40]


def test_parts_are_joined_without_copies_of_texts():
    parts = [random_records(seed, folders=('a.txt', 'class/')) for seed in range(4)]
    columns = [VideoRecords.of(part) for part in parts]
    joined = VideoRecords.concatenate([VideoRecords.of([]), *columns])
    assert joined == [record for part in parts for record in part]
    assert {id(source.text) for source in joined.paths.sources} == {id(c.paths.sources[0].text) for c in columns}
    assert list(VideoRecords.concatenate([])) == []
    places = np.array([120, 3, 3, 77])
    assert list(joined.take(places)) == [joined[place] for place in places]


def test_chosen_labels_are_renumbered():
    records = random_records(1)
    found = VideoRecords.of(records).select_labels([7, 2])
    expected = [(r.line, tuple({7: 0, 2: 1}[k] for k in r.labels if k in (7, 2))) for r in records]
    assert [(r.line, r.labels) for r in found] == [(line, labels) for line, labels in expected if labels]


def slow_hash_lines(records):
    """Return the lines that are hashed, from the definition."""
    start = os.path.commonprefix([r.path for r in records]).rfind('/') + 1
    return [f'{r.key[start:]}\t{r.labels}\t{r.num_frames}\n' for r in records]


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('root', ['', '/data/é/', '/data/é/k'])
def test_hash_is_that_of_all_lines(seed, root):
    records = random_records(seed, folders=('a.txt', 'b.txt')[: 1 + seed // 4])
    inside = [VideoRecord(f'{root}{r.path.lstrip("/")}', *[getattr(r, n) for n in r.__slots__[1:]]) for r in records]
    dataset = type('Dataset', (), {'records': VideoRecords.of(inside)})
    for ordered in (True, False):
        lines = slow_hash_lines(inside) if ordered else sorted(slow_hash_lines(inside))
        text = ''.join([*lines, '\n']).encode('utf-8', 'surrogateescape')
        assert hash_records(dataset, ordered) == hashlib.sha256(text).hexdigest()


# -- what a long list costs -------------------------------------------------------------------------------------------


def write_list(folder, number, line='train/class {k}/video_number_{i:06d}.mp4 {k}'):
    file = folder / f'{number}.txt'
    file.write_text(''.join(line.format(i=i, k=i % 50) + '\n' for i in range(number)))
    return str(file)


def count_records(monkeypatch, function):
    """Return the number of VideoRecord objects that a function makes."""
    made = []
    original = records_module.VideoRecord
    with monkeypatch.context() as patch:
        patch.setattr(records_module, 'VideoRecord', lambda *args: made.append(1) or original(*args))
        function()
    return len(made)


def start(list_file, kind, pipeline):
    """Do what a training does with its lists before the first iteration."""
    dataset = kind(pipeline, list_file)
    build_dataloader(dataset, 4, 0, 'square_root', training=True)
    dataset.check_labels(50)
    hash_records(dataset)
    hash_records(dataset, ordered=False)
    quick_report(splits_of('train', dataset, 50), seconds=0)
    quick_report([*splits_of('train', MixedDataset([dataset, dataset]), 50), *splits_of('val', dataset, 50)][:2], 0)


@pytest.mark.parametrize('kind', [VideoDataset, RawFramesDataset])
def test_start_makes_few_records_of_long_lists(tmp_path, monkeypatch, kind):
    if kind is VideoDataset:
        pipeline, line = VIDEO_PIPELINE, 'a/{i}.mp4 {k}'
    else:
        pipeline, line = (SampleSnippets(1, 1), DecodeRawFrames(), PackInputs()), 'a/{i} 9 {k}'
    made = [
        count_records(monkeypatch, lambda n=number: start(write_list(tmp_path, n, line), kind, pipeline))
        for number in (1000, 4000)
    ]
    assert made[0] == made[1] < 200  # 20 files of each split are looked for, and are missing


@pytest.mark.parametrize(
    ('line', 'with_num_frames', 'own_bytes'),
    [('p/{i} {k}', False, 16), ('p/{i} 7 {k}', True, 20), ('p/{i} {k},77', False, 28)],
)
def test_list_takes_few_bytes_per_line(tmp_path, line, with_num_frames, own_bytes):
    list_file = write_list(tmp_path, 20_000, line)
    before = sys.getallocatedblocks()
    records = parse_list_file(list_file, with_num_frames=with_num_frames)
    assert sys.getallocatedblocks() - before < 2000  # objects of Python
    columns = (*vars(records).values(), *vars(records.paths).values())
    assert sum(getattr(column, 'nbytes', 0) for column in columns) == 20_000 * own_bytes
    assert records.paths.sources[0].text == (tmp_path / '20000.txt').read_bytes()


def private_dirty():
    with open('/proc/self/smaps_rollup') as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith('Private_Dirty'))


@pytest.mark.skipif(not os.path.exists('/proc/self/smaps_rollup'), reason='requires Linux')
def test_worker_shares_the_records_of_a_list(tmp_path):
    dataset = VideoDataset(VIDEO_PIPELINE, write_list(tmp_path, 100_000))
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        before = private_dirty()
        for index in range(0, 100_000, 3):
            _ = dataset.records[index].path, dataset.label(index)
        os.write(theirs, str(private_dirty() - before).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(ours, 100)) < 4_000  # kB; 100,000 objects would be 20,000


def test_matrix_of_labels_is_made_on_demand(tmp_path):
    dataset = VideoDataset(VIDEO_PIPELINE, write_list(tmp_path, 100, 'a/{i} {k},77'), multi_hot=100)
    mixed = MixedDataset([dataset, dataset])
    for one, index in ((dataset, 3), (mixed, 103)):
        assert np.flatnonzero(one.label(index)).tolist() == [3, 77]
        assert one.indices_with_same_labels(index).tolist()[-2:] == [index, index + 50]
        assert 'labels' not in vars(one)
        assert one.labels.shape == (len(one), 100)
        assert np.array_equal(one.labels[index], one.label(index))

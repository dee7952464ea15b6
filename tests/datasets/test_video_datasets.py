import errno
import os
import re

import numpy as np
import pytest

from dsanet.config.registry import DATASETS, build
from dsanet.datasets import MixedDataset, RawFramesDataset, VideoDataset
from dsanet.datasets.transforms import (
    DecodeRawFrames,
    DecodeVideo,
    Flip,
    OpenVideo,
    PackInputs,
    SampleSnippets,
    Transform,
)
from dsanet.datasets.transforms.base import BadSample, MissingSample, SampleError
from dsanet.datasets.video.pyav_reader import PyAVReader
from dsanet.datasets.video.readers import READERS
from dsanet.utils.machine_faults import MachineError
from tests.make_videos import read_index, write_frames, write_video


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Two videos and two folders of frames, with list files and in class folders."""
    root = tmp_path_factory.mktemp('data')
    for name in ('sit/a b', 'walk/c'):
        (root / 'videos' / name).parent.mkdir(parents=True)
        write_video(root / 'videos' / f'{name}.mp4', 40)
        write_frames(root / 'frames' / name, 20)
    (root / 'videos.txt').write_text('sit/a b.mp4 0\nwalk/c.mp4 1\n')
    (root / 'frames.txt').write_text('sit/a b 20 0\nwalk/c 20 1\n')
    (root / 'classes.txt').write_text('sit\nwalk\n')
    return root


def video_pipeline(random=False):
    return [OpenVideo(), SampleSnippets(2, 3, 2, random=random), DecodeVideo(), PackInputs()]


def frames_pipeline():
    return [SampleSnippets(2, 3, 2), DecodeRawFrames(), PackInputs()]


def indices(sample):
    return [read_index(frame.permute(1, 2, 0)) for frame in sample['inputs'][0].permute(0, 2, 1, 3, 4).flatten(0, 1)]


class Raise(Transform):
    def __init__(self, error):
        self.error = error

    def __call__(self, record):
        raise self.error


def test_video_dataset_returns_labeled_inputs(root):
    dataset = VideoDataset(video_pipeline(), str(root / 'videos.txt'), str(root / 'videos'), str(root / 'classes.txt'))
    assert len(dataset) == 2
    assert dataset.class_names == ['sit', 'walk']
    assert dataset.labels.tolist() == [0, 1]
    sample = dataset[1]
    assert sample['path'] == str(root / 'videos' / 'walk/c.mp4')
    assert (sample['label'], sample['index']) == (1, 1)
    assert sample['inputs'].shape == (1, 2, 3, 3, 72, 128)
    # 35 possible starts in two segments: centers 8 and 26.
    assert indices(sample) == [8, 10, 12, 26, 28, 30]


def test_raw_frames_dataset_returns_labeled_inputs(root):
    dataset = RawFramesDataset(frames_pipeline(), str(root / 'frames.txt'), str(root / 'frames'))
    assert dataset.class_names is None
    # 15 possible starts in two segments: centers 3 and 11.
    assert indices(dataset[0]) == [3, 5, 7, 11, 13, 15]
    assert dataset[1]['label'] == 1


def test_filename_tmpl_and_start_index_are_options(tmp_path):
    write_frames(tmp_path / 'a', 10, filename_tmpl='f{:d}.png', start_index=0)
    (tmp_path / 'list.txt').write_text('a 10 0\n')
    dataset = RawFramesDataset(
        frames_pipeline(), str(tmp_path / 'list.txt'), str(tmp_path), filename_tmpl='f{:d}.png', start_index=0
    )
    assert indices(dataset[0]) == [1, 3, 5, 3, 5, 7]


@pytest.mark.parametrize('dataset_class', [VideoDataset, RawFramesDataset])
def test_class_folders_are_used_without_list_file(root, dataset_class):
    videos = dataset_class is VideoDataset
    pipeline = video_pipeline() if videos else frames_pipeline()
    dataset = dataset_class(pipeline, data_root=str(root / ('videos' if videos else 'frames')))
    assert dataset.class_names == ['sit', 'walk']
    assert [record.label for record in dataset.records] == [0, 1]
    assert dataset[1]['inputs'].shape == (1, 2, 3, 3, 72, 128)


def test_paths_without_data_root_start_at_working_directory(root, monkeypatch):
    monkeypatch.chdir(root / 'videos')
    dataset = VideoDataset(video_pipeline(), '../videos.txt')
    assert dataset[0]['path'] == 'sit/a b.mp4'


def test_dataset_is_built_from_config(root):
    cfg = dict(
        type='VideoDataset',
        list_file=str(root / 'videos.txt'),
        data_root=str(root / 'videos'),
        pipeline=[
            dict(type='OpenVideo', decoder='pyav'),
            dict(type='SampleSnippets', num_snippets=2, frames_per_snippet=3),
            dict(type='DecodeVideo'),
            dict(type='CenterCrop', size=(64, 32)),
            dict(type='PackInputs'),
        ],
    )
    assert build(cfg, DATASETS)[0]['inputs'].shape == (1, 2, 3, 3, 64, 32)


def test_samples_depend_only_on_seed_epoch_index(root):
    class Draw(Transform):
        requires = ('rng',)

        def __call__(self, record):
            return {'drawn': record['rng'].random()}

    dataset = VideoDataset([Draw()], str(root / 'videos.txt'), str(root / 'videos'))
    drawn = {}
    for seed in (0, 1):
        dataset.seed = seed
        for epoch in (0, 1):
            for index in (1, 0):
                drawn[seed, epoch, index] = dataset[epoch, index]['drawn']
    assert len(set(drawn.values())) == 8
    assert all(value == np.random.default_rng(key).random() for key, value in drawn.items())
    dataset.seed = 0
    assert dataset[1]['drawn'] == drawn[0, 0, 1]
    assert dataset[-1]['drawn'] == drawn[0, 0, 1]


def test_index_may_be_a_numpy_integer(root):
    dataset = VideoDataset(video_pipeline(), str(root / 'videos.txt'), str(root / 'videos'))
    one, *others = (dataset[key] for key in (1, np.int64(1), (0, np.int64(1)), np.array(1)))
    for other in others:
        assert (other['index'], other['path']) == (1, one['path'])
        assert (other['inputs'] == one['inputs']).all()
    assert type(others[0]['index']) is int
    with pytest.raises(TypeError, match='float'):
        dataset[1.5]


def test_index_out_of_range_is_refused(root):
    dataset = VideoDataset(video_pipeline(), str(root / 'videos.txt'), str(root / 'videos'))
    with pytest.raises(IndexError):
        dataset[2]


def test_pipeline_is_checked_at_construction(root):
    with pytest.raises(ValueError, match=r'\b0 SampleSnippets .*num_frames.*VideoDataset'):
        VideoDataset(frames_pipeline(), str(root / 'videos.txt'), str(root / 'videos'))


def test_missing_video_names_line_path_and_data_root(root):
    list_file = root / 'wrong.txt'
    list_file.write_text('sit/a b.mp4 0\nsit/none.mp4 0\n')
    data_root = str(root / 'videos')
    dataset = VideoDataset(video_pipeline(), str(list_file), data_root)
    path = root / 'videos' / 'sit/none.mp4'
    with pytest.raises(FileNotFoundError, match=f'{list_file}:2: .*{path}.*data_root={data_root!r}'):
        dataset[1]


def test_missing_video_names_working_directory_without_data_root(root, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    dataset = VideoDataset(video_pipeline(), str(root / 'videos.txt'))
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/sit/a b.mp4.*'{tmp_path}'"):
        dataset[0]


@pytest.mark.parametrize(
    ('error', 'kind', 'text'),
    [
        (ValueError('too small'), SampleError, 'too small'),
        (KeyError('frames'), KeyError, 'frames'),
        (RuntimeError('no luck'), RuntimeError, 'no luck'),
        (OSError('disk'), RuntimeError, r'disk \[OSError\]'),
        (UnicodeDecodeError('utf-8', b'', 0, 1, 'bad'), RuntimeError, r'bad \[UnicodeDecodeError\]'),
    ],
)
def test_errors_keep_their_type_and_name_video(root, error, kind, text):
    dataset = VideoDataset([Raise(error)], str(root / 'videos.txt'), str(root / 'videos'))
    with pytest.raises(kind, match=rf'videos.txt:2: {root}/videos/walk/c.mp4: .*{text}') as caught:
        dataset[1]
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


def test_error_after_opening_closes_the_video(root, monkeypatch):
    closed = []

    class Watched(PyAVReader):
        def close(self):
            closed.append(self.path)
            super().close()

    monkeypatch.setitem(READERS, 'pyav', Watched)
    dataset = VideoDataset([OpenVideo('pyav'), Raise(ValueError('no'))], str(root / 'videos.txt'), str(root / 'videos'))
    with pytest.raises(ValueError, match='no'):
        dataset[0]
    assert closed == [dataset.records[0].path]


def test_label_out_of_range_names_file_and_line(tmp_path):
    list_file = tmp_path / 'train.txt'
    list_file.write_text('a.mp4 0\nb.mp4 5\nc.mp4 7\n')
    with pytest.raises(ValueError, match=rf"{list_file}:2: .*\b5\b.*'b.mp4'.*num_classes=5.*\b7\b.*num_classes=8"):
        VideoDataset(video_pipeline(), str(list_file)).check_labels(5)


def test_labels_counted_from_one_are_recognized(tmp_path):
    list_file = tmp_path / 'train.txt'
    list_file.write_text('a.mp4 1\nb.mp4 2\nc.mp4 3\n')
    with pytest.raises(ValueError, match=r':3: .*num_classes=3.*\b0\b.*subtract 1'):
        VideoDataset(video_pipeline(), str(list_file)).check_labels(3)


def test_wrong_number_of_class_names_is_refused(root):
    dataset = VideoDataset(video_pipeline(), str(root / 'videos.txt'), str(root / 'videos'), str(root / 'classes.txt'))
    dataset.check_labels(2)
    with pytest.raises(ValueError, match=r'classes.txt .*\b2\b.*num_classes=3'):
        dataset.check_labels(3)
    with pytest.raises(ValueError, match=r'videos .*\b2\b.*num_classes=3'):
        VideoDataset(video_pipeline(), data_root=str(root / 'videos')).check_labels(3)


def test_multi_hot_labels_have_one_entry_per_class(root, tmp_path):
    list_file = tmp_path / 'train.txt'
    list_file.write_text('sit/a b.mp4 4,1\nwalk/c.mp4 0\n')
    dataset = VideoDataset(video_pipeline(), str(list_file), str(root / 'videos'), multi_hot=5)
    assert dataset.labels.tolist() == [[0, 1, 0, 0, 1], [1, 0, 0, 0, 0]]
    assert dataset.labels.sum(axis=0).tolist() == [1, 1, 0, 0, 1]
    label = dataset[0]['label']
    assert (label.dtype, label.tolist()) == (np.float32, [0, 1, 0, 0, 1])
    dataset.check_labels(5)


def test_multi_hot_works_with_frame_and_class_folders(root, tmp_path):
    list_file = tmp_path / 'train.txt'
    list_file.write_text('walk/c 20 0,2\n')
    dataset = RawFramesDataset(frames_pipeline(), str(list_file), str(root / 'frames'), multi_hot=3)
    assert dataset[0]['label'].tolist() == [1, 0, 1]
    folders = RawFramesDataset(frames_pipeline(), data_root=str(root / 'frames'), multi_hot=2)
    assert folders[1]['label'].tolist() == [0, 1]


def test_multi_hot_must_equal_num_classes(tmp_path):
    list_file = tmp_path / 'train.txt'
    list_file.write_text('a.mp4 0\nb.mp4 1,6,5\n')
    with pytest.raises(ValueError, match=rf"{list_file}:2: .*\b6\b.*'b.mp4'.*multi_hot=5.*multi_hot=7"):
        VideoDataset(video_pipeline(), str(list_file), multi_hot=5)
    with pytest.raises(ValueError, match='multi_hot=7.*num_classes=8'):
        VideoDataset(video_pipeline(), str(list_file), multi_hot=7).check_labels(8)
    with pytest.raises(ValueError, match=r'multi_hot .*\b1\b.*\b0\b'):
        VideoDataset(video_pipeline(), str(list_file), multi_hot=0)


def test_classes_of_transforms_must_be_below_num_classes(root):
    pipeline = [*video_pipeline()[:-1], Flip(1, swap_labels=((0, 1), (5, 3))), PackInputs()]
    arguments = (pipeline, str(root / 'videos.txt'), str(root / 'videos'))
    dataset = VideoDataset(*arguments)
    assert [dataset[i]['label'] for i in range(2)] == [1, 0]
    dataset.check_labels(6)
    with pytest.raises(ValueError, match=r'\b3 Flip .*class 5.*num_classes=5'):
        dataset.check_labels(5)
    with pytest.raises(ValueError, match=r'\b3 Flip .*class 5.*multi_hot=5'):
        VideoDataset(*arguments, multi_hot=5)


def test_list_file_or_data_root_is_required():
    with pytest.raises(ValueError, match='list_file.*data_root'):
        VideoDataset(video_pipeline())


def test_missing_data_root_is_refused(root):
    with pytest.raises(FileNotFoundError, match="data_root='nowhere' .*/nowhere"):
        VideoDataset(video_pipeline(), str(root / 'videos.txt'), 'nowhere')


class ReadName(Transform):
    """Return a random number in place of frames; videos named bad... cannot be read."""

    requires = ('path', 'rng')
    provides = ('inputs',)

    def __call__(self, record):
        name = record['path'].rsplit('/', 1)[-1]
        if name.startswith('bad'):
            raise BadSample(f'{record["path"]} is bad', record['path'], 'is bad')
        return {key: record[key] for key in ('path', 'label', 'index')} | {'inputs': record['rng'].random()}


def named(tmp_path, lines, on_error='resample', **options):
    """Return a dataset of video names without files."""
    (tmp_path / 'names.txt').write_text(''.join(f'{line}\n' for line in lines))
    dataset = VideoDataset([ReadName()], str(tmp_path / 'names.txt'), **options)
    dataset.on_error = on_error
    return dataset


def test_bad_sample_has_path_reason_and_source(tmp_path, root):
    with pytest.raises(BadSample, match=r'names.txt:2: bad ') as caught:
        named(tmp_path, ['a 0', 'bad 1'], 'raise')[1]
    error = caught.value
    assert (error.path, error.reason, error.source) == ('bad', 'is bad', f'{tmp_path}/names.txt:2')
    (tmp_path / 'gone.txt').write_text('gone.mp4 0\n')
    with pytest.raises(MissingSample) as caught:
        VideoDataset(video_pipeline(), str(tmp_path / 'gone.txt'))[0]
    assert (caught.value.path, VideoDataset.on_error) == ('gone.mp4', 'raise')


def test_bad_sample_is_replaced_by_same_class(tmp_path):
    lines = ['bad1 0', 'a 0', 'b 0', 'c 1', 'd 1', 'bad2 0']
    dataset = named(tmp_path, lines)
    seen = set()
    for epoch in range(30):
        sample = dataset[epoch, 0]
        assert sample['label'] == 0
        assert sample['path'] in ('a', 'b')
        assert dataset.records[sample['index']].path == sample['path']
        expected = [
            {'path': f'bad{n}', 'reason': 'is bad', 'source': f'{tmp_path}/names.txt:{line}'}
            for n, line in ((1, 1), (2, 6))
        ]
        assert sample['bad'] in (expected[:1], expected)
        seen.add((sample['path'], len(sample['bad'])))
    assert len(seen) == 4
    assert 'bad' not in dataset[0, 1]


@pytest.mark.parametrize('number', [errno.EIO, errno.EACCES])
def test_unreadable_storage_is_no_damage(tmp_path, number):
    dataset = named(tmp_path, [f'{name}.mp4 0' for name in 'abc'])
    readable = {'c.mp4'}

    def read(record):
        if record['path'] in readable:
            return record
        error = OSError(number, os.strerror(number))
        raise BadSample(f'{record["path"]}: {error}', record['path'], str(error)) from error

    dataset.pipeline = read
    assert dataset[0]['path'] == 'c.mp4'
    readable.clear()
    with pytest.raises(MachineError, match='3 videos.*disk'):
        dataset[0]


def test_replacement_depends_only_on_seed_epoch_index(tmp_path):
    lines = ['bad1 0', 'bad2 0'] + [f'v{n} 0' for n in range(40)]
    drawn = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            for index in (0, 1):
                dataset = named(tmp_path, lines)
                dataset.seed = seed
                sample = dataset[epoch, index]
                drawn[seed, epoch, index] = (sample['path'], sample['inputs'])
                again = dataset[epoch, index, 0]
                assert (again['path'], again['inputs']) == drawn[seed, epoch, index]
    assert len(set(drawn.values())) == 8
    usual = {named(tmp_path, lines)[epoch, index]['inputs'] for epoch in (0, 1) for index in range(2, 42)}
    assert not usual & {value for _, value in drawn.values()}


def test_replacement_may_come_from_another_class(tmp_path):
    sample = named(tmp_path, ['bad1 0', 'bad2 0', 'a 1'])[0]
    assert (sample['path'], sample['label'], sample['index']) == ('a', 1, 2)
    assert {bad['path'] for bad in sample['bad']} == {'bad1', 'bad2'}


def test_too_many_bad_samples_raise_with_reasons(tmp_path):
    with pytest.raises(SampleError, match=r'\b3 .*data_root.*names.txt:1: bad0: is bad; .*names.txt'):
        named(tmp_path, ['bad0 0', 'bad1 1', 'bad2 0'])[0]
    with pytest.raises(SampleError, match=r'\b11\b'):
        named(tmp_path, [f'bad{n} {n % 2}' for n in range(50)])[7]


def test_other_errors_are_not_resampled(root):
    dataset = VideoDataset([Raise(ValueError('crop too large'))], str(root / 'videos.txt'), str(root / 'videos'))
    dataset.on_error = 'resample'
    with pytest.raises(ValueError, match='crop too large'):
        dataset[0]


def test_multi_hot_replacement_has_equal_labels(tmp_path):
    dataset = named(tmp_path, ['bad 0,2', 'a 0', 'b 2,0', 'c 0,1,2'], multi_hot=3)
    for epoch in range(5):
        assert dataset[epoch, 0]['path'] == 'b'
        assert dataset[epoch, 0]['label'].tolist() == [1, 0, 1]


def test_repetitions_of_an_epoch_differ(tmp_path):
    dataset = named(tmp_path, ['a 0', 'b 0'])
    drawn = [dataset[0, 0, repetition]['inputs'] for repetition in range(4)]
    assert len(set(drawn)) == 4
    assert drawn[0] == dataset[0, 0]['inputs'] == np.random.default_rng((0, 0, 0)).random()


def test_classes_option_filters_and_renumbers_labels(tmp_path):
    (tmp_path / 'classes.txt').write_text('sit\nwalk\nrun\nfall\n')
    lines = ['a 0', 'b 1', 'c 2', 'd 3', 'e 2']
    for classes in (['fall', 'run'], [3, 2], ['fall', 2]):
        dataset = named(tmp_path, lines, class_file=str(tmp_path / 'classes.txt'), classes=classes)
        assert dataset.class_names == ['fall', 'run']
        assert [(record.path, record.label, record.line) for record in dataset.records] == [
            ('c', 1, 3),
            ('d', 0, 4),
            ('e', 1, 5),
        ]
        assert dataset.labels.tolist() == [1, 0, 1]
        dataset.check_labels(2)
    with pytest.raises(ValueError, match=r"classes=\['fall', 2\] .*\b2\b.*num_classes=4"):
        dataset.check_labels(4)
    assert named(tmp_path, lines, classes=(2, 0)).labels.tolist() == [1, 0, 0]


def test_classes_option_works_with_folders_and_multi_hot(root, tmp_path):
    dataset = RawFramesDataset(frames_pipeline(), data_root=str(root / 'frames'), classes=['walk'])
    assert ([r.label for r in dataset.records], dataset.class_names) == ([0], ['walk'])
    dataset = named(tmp_path, ['a 0,3', 'b 1', 'c 3,2'], multi_hot=2, classes=[3, 0])
    assert dataset.labels.tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize(
    ('classes', 'tokens'),
    [
        (['jump'], r"'jump'.*\b2\b"),
        (['wal'], "'wal'.*'walk'"),
        ([2], r'\b2\b.*\b0\b.*\b1\b'),
        ([-1], r'-1.*\b0\b.*\b1\b'),
        (['walk', 1], r"=\['walk', 1\]"),
        ([], r'=\[\]'),
    ],
)
def test_wrong_classes_are_refused(tmp_path, classes, tokens):
    (tmp_path / 'classes.txt').write_text('sit\nwalk\n')
    with pytest.raises(ValueError, match=f'classes.*{tokens}'):
        named(tmp_path, ['a 0', 'b 1'], class_file=str(tmp_path / 'classes.txt'), classes=classes)


def test_classes_without_class_names_must_occur(tmp_path):
    with pytest.raises(ValueError, match=r'names.txt .*\[5\]'):
        named(tmp_path, ['a 0', 'b 1'], classes=[1, 5])
    with pytest.raises(ValueError, match="'walk'.*class_file"):
        named(tmp_path, ['a 0', 'b 1'], classes=['walk'])
    (tmp_path / 'classes.txt').write_text('sit\nwalk\nrun\n')
    split = named(tmp_path, ['a 0', 'b 1'], class_file=str(tmp_path / 'classes.txt'), classes=['run', 'sit'])
    assert split.labels.tolist() == [1]
    with pytest.raises(ValueError, match=r"names.txt .*\['run'\]"):
        named(tmp_path, ['a 0', 'b 1'], class_file=str(tmp_path / 'classes.txt'), classes=['run'])


def mixed(tmp_path, weights=None):
    parts = []
    for name, lines in (('one', ['a 0', 'bad1 1', 'b 1']), ('two', ['c 1', 'bad2 0', 'd 0', 'e 2'])):
        (tmp_path / name).mkdir(exist_ok=True)
        parts.append(named(tmp_path / name, lines))
    dataset = MixedDataset(parts, weights)
    dataset.on_error = 'resample'
    return dataset


def test_mixed_dataset_concatenates_its_datasets(tmp_path):
    dataset = mixed(tmp_path)
    assert len(dataset) == 7
    assert [dataset[i]['path'] for i in (0, 2, 3, 5, 6, -1)] == ['a', 'b', 'c', 'd', 'e', 'e']
    assert [dataset[i]['index'] for i in (0, 2, 3, 5, 6, -1)] == [0, 2, 3, 5, 6, 6]
    assert dataset.labels.tolist() == [0, 1, 1, 1, 0, 0, 2]
    assert [record.path for record in dataset.records] == ['a', 'bad1', 'b', 'c', 'bad2', 'd', 'e']
    assert dataset.provides == {'inputs', 'path', 'label', 'index', 'rng'}
    # The random numbers depend on the index in the mixed dataset.
    dataset.seed = 3
    assert dataset[1, 3]['inputs'] == np.random.default_rng((3, 1, 3)).random()
    dataset.check_labels(3)
    with pytest.raises(ValueError, match=r"two/names.txt:4: .*\b2\b.*'e'.*num_classes=2"):
        dataset.check_labels(2)


def test_mixed_dataset_replaces_within_the_same_dataset(tmp_path):
    dataset = mixed(tmp_path)
    assert (dataset[1]['path'], dataset[1]['index'], dataset[1]['bad'][0]['path']) == ('b', 2, 'bad1')
    assert (dataset[4]['path'], dataset[4]['index'], dataset[4]['bad'][0]['path']) == ('d', 5, 'bad2')
    assert dataset[1]['bad'][0]['source'] == f'{tmp_path}/one/names.txt:2'


def test_mixed_dataset_is_built_from_config(root):
    frames = dict(
        type='RawFramesDataset',
        list_file=str(root / 'frames.txt'),
        data_root=str(root / 'frames'),
        class_file=str(root / 'classes.txt'),
        pipeline=[
            dict(type='SampleSnippets', num_snippets=2, frames_per_snippet=3),
            dict(type='DecodeRawFrames'),
            dict(type='PackInputs'),
        ],
    )
    videos = {
        **frames,
        'type': 'VideoDataset',
        'list_file': str(root / 'videos.txt'),
        'data_root': str(root / 'videos'),
        'classes': ['sit', 'walk'],
        'pipeline': [dict(type='OpenVideo'), frames['pipeline'][0], dict(type='DecodeVideo'), dict(type='PackInputs')],
    }
    dataset = build(dict(type='MixedDataset', datasets=[videos, frames], weights=[1, 0.5]), DATASETS)
    assert dataset.weights == [1.0, 0.5]
    assert dataset.class_names == ['sit', 'walk']
    assert [dataset[i]['inputs'].shape[2:4] for i in (0, 2)] == [(3, 3), (3, 3)]
    with pytest.raises(KeyError, match=r'dataset.datasets.1.pipelin .*RawFramesDataset'):
        build(dict(type='MixedDataset', datasets=[videos, frames | {'pipelin': 1}]), DATASETS)


def test_mixed_dataset_refuses_incompatible_datasets(tmp_path, root):
    one = named(tmp_path, ['a 0'])
    with pytest.raises(ValueError, match='datasets'):
        MixedDataset([])
    with pytest.raises(ValueError, match='MixedDataset'):
        MixedDataset([one, MixedDataset([one])])
    for weights in ([1], [1, 0], [1, -1], [1, float('inf')], [1, float('nan')]):
        with pytest.raises(ValueError, match=rf'weights={re.escape(repr(weights))} .*\b2\b'):
            MixedDataset([one, one], weights)
    with pytest.raises(ValueError, match=r'multi_hot.*\[None, 2\]'):
        MixedDataset([one, named(tmp_path, ['a 0'], multi_hot=2)])
    (tmp_path / 'classes.txt').write_text('walk\nsit\n')
    two = [
        VideoDataset(video_pipeline(), str(root / 'videos.txt'), str(root / 'videos'), str(file))
        for file in (root / 'classes.txt', tmp_path / 'classes.txt')
    ]
    with pytest.raises(ValueError, match=rf"class 0 .*'sit'.*{root}.*'walk'.*{tmp_path}"):
        MixedDataset(two)

import re

import numpy as np
import pytest

from codes.datasets import RawFramesDataset, VideoDataset
from codes.datasets.transforms import (
    DecodeRawFrames,
    DecodeVideo,
    Flip,
    OpenVideo,
    PackInputs,
    SampleSnippets,
    Transform,
)
from codes.datasets.transforms.video_readers import READERS, PyAVReader
from codes.registry import DATASETS, build
from tests.make_videos import read_index, write_frames, write_video


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A data set of two videos and two folders of frames, by list and by class folder."""
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


def test_video_dataset_gives_labelled_inputs(root):
    dataset = VideoDataset(video_pipeline(), str(root / 'videos.txt'), str(root / 'videos'), str(root / 'classes.txt'))
    assert len(dataset) == 2
    assert dataset.class_names == ['sit', 'walk']
    assert dataset.labels.tolist() == [0, 1]
    sample = dataset[1]
    assert sample['path'] == str(root / 'videos' / 'walk/c.mp4')
    assert (sample['label'], sample['index']) == (1, 1)
    assert sample['inputs'].shape == (1, 2, 3, 3, 72, 128)
    # 35 possible starts in two segments: centres 8 and 26.
    assert indices(sample) == [8, 10, 12, 26, 28, 30]


def test_frames_dataset_gives_labelled_inputs(root):
    dataset = RawFramesDataset(frames_pipeline(), str(root / 'frames.txt'), str(root / 'frames'))
    assert dataset.class_names is None
    # 15 possible starts in two segments: centres 3 and 11.
    assert indices(dataset[0]) == [3, 5, 7, 11, 13, 15]
    assert dataset[1]['label'] == 1


def test_frame_names_are_options(tmp_path):
    write_frames(tmp_path / 'a', 10, filename_tmpl='f{:d}.png', start_index=0)
    (tmp_path / 'list.txt').write_text('a 10 0\n')
    dataset = RawFramesDataset(
        frames_pipeline(), str(tmp_path / 'list.txt'), str(tmp_path), filename_tmpl='f{:d}.png', start_index=0
    )
    assert indices(dataset[0]) == [1, 3, 5, 3, 5, 7]


@pytest.mark.parametrize('dataset_class', [VideoDataset, RawFramesDataset])
def test_without_a_list_the_class_folders_are_the_data_set(root, dataset_class):
    videos = dataset_class is VideoDataset
    pipeline = video_pipeline() if videos else frames_pipeline()
    dataset = dataset_class(pipeline, data_root=str(root / ('videos' if videos else 'frames')))
    assert dataset.class_names == ['sit', 'walk']
    assert [record.label for record in dataset.records] == [0, 1]
    assert dataset[1]['inputs'].shape == (1, 2, 3, 3, 72, 128)


def test_a_class_file_decides_the_labels_of_class_folders(root, tmp_path):
    (tmp_path / 'classes.txt').write_text('walk\nfall\nsit\n')
    dataset = VideoDataset(video_pipeline(), data_root=str(root / 'videos'), class_file=str(tmp_path / 'classes.txt'))
    assert dataset.labels.tolist() == [2, 0]
    assert dataset.class_names == ['walk', 'fall', 'sit']


def test_relative_paths_without_data_root_start_at_the_working_directory(root, monkeypatch):
    monkeypatch.chdir(root / 'videos')
    dataset = VideoDataset(video_pipeline(), '../videos.txt')
    assert dataset[0]['path'] == 'sit/a b.mp4'


def test_a_config_builds_the_data_set(root):
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


def test_samples_are_a_function_of_seed_epoch_and_index(root):
    class Draw(Transform):
        needs = ('rng',)

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


def test_index_beyond_the_end_is_refused(root):
    dataset = VideoDataset(video_pipeline(), str(root / 'videos.txt'), str(root / 'videos'))
    with pytest.raises(IndexError):
        dataset[2]


def test_pipeline_is_checked_when_the_data_set_is_built(root):
    with pytest.raises(ValueError, match='needs num_frames, which neither VideoDataset nor an earlier step gives'):
        VideoDataset(frames_pipeline(), str(root / 'videos.txt'), str(root / 'videos'))


def test_missing_video_names_the_line_the_path_and_what_it_is_relative_to(root):
    list_file = root / 'wrong.txt'
    list_file.write_text('sit/a b.mp4 0\nsit/none.mp4 0\n')
    data_root = str(root / 'videos')
    dataset = VideoDataset(video_pipeline(), str(list_file), data_root)
    path = root / 'videos' / 'sit/none.mp4'
    message = re.escape(f'{list_file}:2: no video {path} (relative paths are joined to data_root={data_root!r})')
    with pytest.raises(FileNotFoundError, match=message):
        dataset[1]


def test_missing_video_without_data_root_names_the_working_directory(root, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    dataset = VideoDataset(video_pipeline(), str(root / 'videos.txt'))
    message = re.escape(f'{tmp_path}/sit/a b.mp4 (relative paths are joined to the working directory')
    with pytest.raises(FileNotFoundError, match=message):
        dataset[0]


@pytest.mark.parametrize(
    ('error', 'kind', 'text'),
    [
        (ValueError('too small'), ValueError, 'too small'),
        (KeyError('frames'), KeyError, 'frames'),
        (RuntimeError('no luck'), RuntimeError, 'no luck'),
        (OSError('disk'), RuntimeError, r'disk \[OSError\]'),
        (UnicodeDecodeError('utf-8', b'', 0, 1, 'bad'), RuntimeError, r'bad \[UnicodeDecodeError\]'),
    ],
)
def test_errors_keep_their_type_and_name_the_video(root, error, kind, text):
    dataset = VideoDataset([Raise(error)], str(root / 'videos.txt'), str(root / 'videos'))
    with pytest.raises(kind, match=rf'videos.txt:2: {root}/videos/walk/c.mp4: .*{text}') as caught:
        dataset[1]
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


def test_an_error_after_opening_closes_the_video(root, monkeypatch):
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


def test_good_labels_pass(root):
    VideoDataset(
        video_pipeline(), str(root / 'videos.txt'), str(root / 'videos'), str(root / 'classes.txt')
    ).check_labels(2)


def test_label_out_of_range_is_named_by_file_and_line(tmp_path):
    list_file = tmp_path / 'train.txt'
    list_file.write_text('a.mp4 0\nb.mp4 5\nc.mp4 7\n')
    message = re.escape(f"{list_file}:2: label 5 of 'b.mp4' is too large: num_classes=5 allows 0 to 4")
    with pytest.raises(ValueError, match=message + '$'):
        VideoDataset(video_pipeline(), str(list_file)).check_labels(5)


def test_labels_counted_from_one_are_recognised(tmp_path):
    list_file = tmp_path / 'train.txt'
    list_file.write_text('a.mp4 1\nb.mp4 2\nc.mp4 3\n')
    with pytest.raises(ValueError, match=r':3: label 3 .*No label is 0 and the largest is 3: count from 0, not 1'):
        VideoDataset(video_pipeline(), str(list_file)).check_labels(3)


def test_another_number_of_class_names_is_refused(root):
    with pytest.raises(ValueError, match='classes.txt has 2 classes, but num_classes=3'):
        VideoDataset(
            video_pipeline(), str(root / 'videos.txt'), str(root / 'videos'), str(root / 'classes.txt')
        ).check_labels(3)
    with pytest.raises(ValueError, match='videos has 2 classes, but num_classes=3'):
        VideoDataset(video_pipeline(), data_root=str(root / 'videos')).check_labels(3)


def test_multi_hot_labels_have_an_entry_a_class(root, tmp_path):
    list_file = tmp_path / 'train.txt'
    list_file.write_text('sit/a b.mp4 4,1\nwalk/c.mp4 0\n')
    dataset = VideoDataset(video_pipeline(), str(list_file), str(root / 'videos'), multi_hot=5)
    assert dataset.labels.tolist() == [[0, 1, 0, 0, 1], [1, 0, 0, 0, 0]]
    assert dataset.labels.sum(axis=0).tolist() == [1, 1, 0, 0, 1]
    label = dataset[0]['label']
    assert (label.dtype, label.tolist()) == (np.float32, [0, 1, 0, 0, 1])
    dataset.check_labels(5)


def test_multi_hot_labels_of_frame_folders_and_class_folders(root, tmp_path):
    list_file = tmp_path / 'train.txt'
    list_file.write_text('walk/c 20 0,2\n')
    dataset = RawFramesDataset(frames_pipeline(), str(list_file), str(root / 'frames'), multi_hot=3)
    assert dataset[0]['label'].tolist() == [1, 0, 1]
    folders = RawFramesDataset(frames_pipeline(), data_root=str(root / 'frames'), multi_hot=2)
    assert folders[1]['label'].tolist() == [0, 1]


def test_several_labels_need_multi_hot(root, tmp_path):
    list_file = tmp_path / 'train.txt'
    list_file.write_text('a.mp4 1\nb.mp4 3,17\n')
    message = re.escape(f"{list_file}:2: 'b.mp4' has the labels 3,17") + '.*multi_hot=<number of classes>'
    with pytest.raises(ValueError, match=message):
        VideoDataset(video_pipeline(), str(list_file))


def test_multi_hot_must_be_the_number_of_classes(tmp_path):
    list_file = tmp_path / 'train.txt'
    list_file.write_text('a.mp4 0\nb.mp4 1,6,5\n')
    message = re.escape(f"{list_file}:2: label 6 of 'b.mp4' is too large: multi_hot=5 allows 0 to 4")
    with pytest.raises(ValueError, match=message):
        VideoDataset(video_pipeline(), str(list_file), multi_hot=5)
    with pytest.raises(ValueError, match='multi_hot=7 is the number of classes, but num_classes=8'):
        VideoDataset(video_pipeline(), str(list_file), multi_hot=7).check_labels(8)
    with pytest.raises(ValueError, match='multi_hot must be a whole number of at least 1, got 0'):
        VideoDataset(video_pipeline(), str(list_file), multi_hot=0)


def test_classes_of_a_step_must_be_classes_of_the_model(root):
    pipeline = [*video_pipeline()[:-1], Flip(1, swap_labels=((0, 1), (5, 3))), PackInputs()]
    arguments = (pipeline, str(root / 'videos.txt'), str(root / 'videos'))
    dataset = VideoDataset(*arguments)
    assert [dataset[i]['label'] for i in range(2)] == [1, 0]
    dataset.check_labels(6)
    message = 'step 3 Flip of the pipeline is about class 5, but {}=5 allows 0 to 4'
    with pytest.raises(ValueError, match=message.format('num_classes')):
        dataset.check_labels(5)
    with pytest.raises(ValueError, match=message.format('multi_hot')):
        VideoDataset(*arguments, multi_hot=5)


def test_nothing_to_read_from_is_refused():
    with pytest.raises(ValueError, match='list_file and data_root are both None'):
        VideoDataset(video_pipeline())


def test_missing_data_root_is_refused_at_once(root):
    with pytest.raises(FileNotFoundError, match="data_root='nowhere' is no folder .looked for '/"):
        VideoDataset(video_pipeline(), str(root / 'videos.txt'), 'nowhere')


@pytest.mark.parametrize('filename_tmpl', ['img.jpg', 'img_{:05d}_{:d}.jpg', 'img_{name}.jpg', 'img_{:x.jpg'])
def test_template_needs_one_number(root, filename_tmpl):
    with pytest.raises(ValueError, match=re.escape(f'filename_tmpl={filename_tmpl!r} needs one field')):
        RawFramesDataset(frames_pipeline(), data_root=str(root / 'frames'), filename_tmpl=filename_tmpl)

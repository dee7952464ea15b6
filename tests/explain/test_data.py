import logging
import shutil

import numpy as np
import pytest
import torch

from dsanet.data_tools.ordered_actions import CLASSES, make_dataset
from dsanet.explain.data import (
    MIN_PER_CLASS,
    build_test_loader,
    check_control,
    check_same_test_videos,
    choose_videos,
    read_batches,
)
from dsanet.inference.recognizer import Recognizer
from tests.engine.conftest import make_config
from tests.make_recognizer import make_recognizer


@pytest.fixture
def recognizer(tmp_path):
    make_dataset(tmp_path, num_videos=16, seed=0, val_fraction=0.5, size=32)
    own = make_recognizer()
    own.config = make_config(tmp_path)
    own.class_names = list(CLASSES)
    return own


def test_every_test_video_is_read_once(recognizer) -> None:
    batches = list(read_batches(build_test_loader(recognizer)))
    assert [i for batch in batches for i in batch['index'].tolist()] == list(range(8))


def test_selection_has_equal_numbers_of_each_class() -> None:
    labels = np.repeat(np.arange(8), [40, 40, 40, 40, 40, 40, 40, 3])
    chosen = choose_videos(labels, 64)
    assert np.bincount(labels[chosen]).tolist() == [8] * 7 + [3]
    assert [i for i in chosen if i < 40] == [2, 7, 12, 17, 22, 27, 32, 37], 'spread evenly over the class'
    assert chosen == sorted(set(chosen))


def test_many_classes_keep_several_videos_each() -> None:
    labels = np.arange(4000) % 400
    chosen = choose_videos(labels, 40)
    classes, counts = np.unique(labels[chosen], return_counts=True)
    assert counts.tolist() == [MIN_PER_CLASS] * 10
    assert np.diff(classes).tolist() == [40] * 9, 'spread evenly over the classes'
    assert len(choose_videos(labels, 1)) == 1


def test_loader_reads_the_selection_with_one_view(recognizer) -> None:
    fast = Recognizer(recognizer.model, recognizer.config, CLASSES, 'cpu', 'fast')
    batches = list(read_batches(build_test_loader(fast, 4)))
    everything = next(iter(read_batches(build_test_loader(fast))))
    labels = [k for batch in batches for k in batch['label'].tolist()]
    assert len(labels) == 4
    assert {batch['inputs'].shape[1] for batch in batches} == {1}
    first = batches[0]['index'][0].item()
    assert torch.equal(batches[0]['inputs'][0], everything['inputs'][first])


def test_control_has_the_same_test_videos(recognizer, tmp_path, caplog) -> None:
    model = recognizer.config
    copy = tmp_path / 'copy'
    shutil.copytree(tmp_path, copy)
    check_same_test_videos(model, model)
    check_same_test_videos(model, make_config(copy))
    lines = (copy / 'val.txt').read_text().splitlines()
    (copy / 'val.txt').write_text('\n'.join([*lines[1:], 'videos/00000.mp4 0']))
    with pytest.raises(ValueError, match='8 and 8 videos, 7 in both'):
        check_same_test_videos(model, make_config(copy))
    assert not caplog.records
    (copy / 'val.txt').unlink()
    check_same_test_videos(model, make_config(copy))
    assert [record.levelname for record in caplog.records] == ['WARNING']


def test_bad_video_is_named(recognizer, tmp_path) -> None:
    (tmp_path / 'bad.mp4').write_bytes(b'\0' * 5000)
    (tmp_path / 'val.txt').write_text('bad.mp4 0\n')
    with pytest.raises(ValueError, match=r'bad\.mp4'):
        list(read_batches(build_test_loader(recognizer)))


def test_control_has_the_same_classes(recognizer, caplog) -> None:
    control = make_recognizer()
    with pytest.raises(ValueError, match='class 0'):
        check_control(recognizer, control)
    control.class_names = recognizer.class_names[:7]
    with pytest.raises(ValueError, match='8 and 7'):
        check_control(recognizer, control)
    control.class_names = recognizer.class_names
    with caplog.at_level(logging.WARNING):
        check_control(recognizer, control)
        assert not caplog.records
        control.steps = control.steps[:-1]
        check_control(recognizer, control)
    assert len(caplog.records) == 1

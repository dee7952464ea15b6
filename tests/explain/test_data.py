import logging

import pytest

from dsanet.data_tools.ordered_actions import CLASSES, make_dataset
from dsanet.explain.data import build_test_loader, check_control, read_batches
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

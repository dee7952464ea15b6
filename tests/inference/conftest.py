"""Videos and a recognizer with random weights."""

from pathlib import Path

import pytest

from dsanet.inference.recognizer import Recognizer
from tests.make_recognizer import make_recognizer, write_some_videos


@pytest.fixture(scope='session')
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('some') / 'videos'
    write_some_videos(root)
    return root


@pytest.fixture(scope='session')
def recognizer() -> Recognizer:
    return make_recognizer()

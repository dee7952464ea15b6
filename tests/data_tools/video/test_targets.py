"""Atomic targets, also with several processes, and the settings of a folder."""

import json
import multiprocessing
from pathlib import Path

import pytest

from dsanet.data_tools.video.targets import SETTINGS_FILE, atomic_target, prepare_folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / 'out'


def test_output_folder_has_one_set_of_settings(out):
    prepare_folder(out, {'size': (2, 3), 'fps': None})
    (out / 'a.mp4').touch()
    prepare_folder(out, {'size': [2, 3], 'fps': None})
    with pytest.raises(ValueError, match=r'fps\W+None\W.*5\W.*size\W+\[2, 3\].*4'):
        prepare_folder(out, {'size': 4, 'fps': 5})


def test_empty_output_folder_accepts_new_settings(out):
    prepare_folder(out, {'size': 2})
    prepare_folder(out, {'size': 4})
    assert json.loads((out / SETTINGS_FILE).read_text()) == {'size': 4}
    (out / SETTINGS_FILE).write_text('{"size"')
    prepare_folder(out, {'size': 5})
    assert json.loads((out / SETTINGS_FILE).read_text()) == {'size': 5}


def test_writing_renames_a_complete_target(out):
    with atomic_target(out / 'folder' / 'file') as part:
        part.write_text('new')
        assert not (out / 'folder' / 'file').exists()
    assert (out / 'folder' / 'file').read_text() == 'new'
    with atomic_target(out / 'folder' / 'file') as part:
        part.write_text('newer')
    assert (out / 'folder' / 'file').read_text() == 'newer'


def test_target_names_may_have_the_maximum_length(out):
    for name in ('x' * 255, 'ü' * 127):
        with atomic_target(out / name) as part:
            part.touch()
        assert (out / name).is_file()


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_writing_removes_the_partial_target_on_error(out, error):
    def fail(is_folder: bool) -> None:
        with atomic_target(out / 'x') as part:
            part.mkdir() if is_folder else part.touch()
            raise error('no')

    for is_folder in (False, True):
        with pytest.raises(error, match='no'):
            fail(is_folder)
        assert list(out.iterdir()) == []


def test_two_processes_can_write_one_target(out):
    with atomic_target(out / 'x') as part:
        other = multiprocessing.get_context('fork').Process(target=_write_at_once, args=(out / 'x',))
        part.write_text('half')
        other.start()
        other.join()
        assert (out / 'x').read_text() == 'whole'
        with part.open('a') as file:
            file.write(' and the rest')
    assert (out / 'x').read_text() == 'half and the rest'


def _write_at_once(target: Path) -> None:
    with atomic_target(target) as part:
        part.write_text('whole')

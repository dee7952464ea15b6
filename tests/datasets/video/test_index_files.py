import io
import logging
import os

import numpy as np
import pytest

from dsanet.datasets.video import frame_index, remembered
from dsanet.datasets.video.index_files import load_arrays, save_arrays
from dsanet.datasets.video.pyav_reader import PyAVReader
from tests.make_videos import read_index, write_video


@pytest.fixture
def video(tmp_path, monkeypatch):
    monkeypatch.setenv('DSANET_INDEX_DIR', str(tmp_path / 'new' / 'folder'))
    return write_video(tmp_path / 'a.mp4', 40)


def test_nothing_is_written_without_a_folder(video, monkeypatch):
    monkeypatch.delenv('DSANET_INDEX_DIR')
    save_arrays(video, {'x': np.arange(3)})
    assert load_arrays(video) is None
    assert os.listdir(os.path.dirname(video)) == ['a.mp4']


def test_arrays_of_a_version_are_found_again(video, monkeypatch):
    assert load_arrays(video) is None
    save_arrays(video, {'x': np.arange(3), 'y': np.array(5)})
    monkeypatch.chdir(os.path.dirname(video))
    assert {name: array.tolist() for name, array in load_arrays('a.mp4').items()} == {'x': [0, 1, 2], 'y': 5}
    os.utime(video, (1, 1))
    assert load_arrays(video) is None


def test_processes_of_two_machines_write_different_parts(video, tmp_path, monkeypatch):
    """Process ids may be equal there."""
    monkeypatch.setattr(os, 'getpid', lambda: 7)
    parts = []
    save = np.savez

    def save_twice(stream, **arrays):
        parts.append(stream.name)
        if len(parts) == 1:
            save_arrays(video, {'x': np.arange(5)})
        save(stream, **arrays)

    monkeypatch.setattr(np, 'savez', save_twice)
    save_arrays(video, {'x': np.arange(3)})
    assert len(set(parts)) == 2
    assert load_arrays(video)['x'].tolist() == [0, 1, 2]
    assert len(os.listdir(tmp_path / 'new' / 'folder')) == 1


def test_damaged_file_is_ignored_and_logged(video, tmp_path, caplog):
    save_arrays(video, {'x': np.arange(300)})
    (file,) = (tmp_path / 'new' / 'folder').iterdir()
    data = file.read_bytes()
    contents = [b'', b'no archive', data[:200], data[:300] + bytes(50) + data[350:]]
    entry = data.index(b'PK\1\2')  # in the directory of the archive: flags, then compression
    contents += [data[: entry + place] + b'\x21' + data[entry + place + 1 :] for place in (8, 10)]
    array = io.BytesIO()
    np.save(array, np.arange(3))
    for content in (*contents, array.getvalue()):
        file.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            assert load_arrays(video) is None
        assert file.name in caplog.text
        caplog.clear()


def test_folder_that_cannot_be_written_is_logged(video, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv('DSANET_INDEX_DIR', video)  # a file
    with caplog.at_level(logging.WARNING):
        save_arrays(video, {'x': np.arange(3)})
    assert 'DSANET_INDEX_DIR' in caplog.text


def test_next_run_reads_no_packets(video, monkeypatch):
    monkeypatch.setattr(frame_index, '_LONG_US', 0)
    for _ in range(2):
        monkeypatch.setattr(remembered, '_RESULTS', {})
        reader = PyAVReader(video)
        assert [read_index(frame) for frame in reader.read(np.array([0, 17, 39]))] == [0, 17, 39]
        reader.close()
        monkeypatch.setattr(frame_index, '_find_index', None)  # reading packets is an error

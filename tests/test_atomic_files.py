"""Files that are the old or the new one, whatever happens while they are written."""

import errno
import os
from pathlib import Path

import pytest

from codes.atomic_files import replacing, write_atomically


def test_file_is_the_old_one_until_the_new_one_is_complete(tmp_path: Path) -> None:
    file = tmp_path / 'x.txt'
    write_atomically(b'old', file)
    with replacing(file) as stream:
        stream.write(b'new')
        stream.flush()
        assert file.read_bytes() == b'old'
        assert sorted(os.listdir(tmp_path)) == ['x.txt', 'x.txt.part']
    assert file.read_bytes() == b'new'
    assert os.listdir(tmp_path) == ['x.txt']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_error_leaves_the_old_file_and_nothing_of_the_new_one(tmp_path: Path, error: type[BaseException]) -> None:
    def stop_half_way(file: Path) -> None:
        with replacing(file) as stream:
            stream.write(b'half of the n')
            raise error('stopped here')

    write_atomically(b'old', tmp_path / 'x')
    for name in ('x', 'y'):
        with pytest.raises(error, match='stopped here'):
            stop_half_way(tmp_path / name)
    assert os.listdir(tmp_path) == ['x']
    assert (tmp_path / 'x').read_bytes() == b'old'


def test_file_counts_as_written_when_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / 'x'
    write_atomically(b'old', file)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', fail)
        with pytest.raises(OSError, match='No space left on device'):
            write_atomically(b'new', file)
    assert file.read_bytes() == b'old'
    write_atomically(b'new', file)
    assert file.read_bytes() == b'new'


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere/x\.part'"):
        write_atomically(b'', tmp_path / 'nowhere' / 'x')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(IsADirectoryError, match="folder'"):
        write_atomically(b'', tmp_path / 'folder')
    assert os.listdir(tmp_path) == ['folder']


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / 'x.part').write_bytes(b'longer than the new one')
    write_atomically(b'new', tmp_path / 'x')
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == {'x': b'new'}

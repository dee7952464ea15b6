"""Files that are the old or the new one, whatever happens while they are written."""

import errno
import os
from pathlib import Path

import pytest

from dsanet.utils.files import check_result_file, check_writable, replacing, write_atomically


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


def test_folders_that_are_there_or_new_are_fine_and_not_made(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / 'new', tmp_path / 'new' / 'newer', Path('new'), Path()):
        check_writable(folder, '--out')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('below', ['', 'new', 'new/newer'])
def test_a_file_is_no_folder_nor_is_what_lies_below_one(tmp_path: Path, below: str) -> None:
    (tmp_path / 'file').touch()
    folder = tmp_path / 'file' / below
    with pytest.raises(ValueError, match=rf'^--out {folder} must be a folder .*: {tmp_path}/file is no folder$'):
        check_writable(folder, '--out')


def test_a_link_to_nowhere_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / 'link').symlink_to(tmp_path / 'gone')
    with pytest.raises(ValueError, match=r'link is no folder$'):
        check_writable(tmp_path / 'link' / 'new', 'OUT')


def test_what_the_system_does_not_let_write_is_named(tmp_path: Path, monkeypatch) -> None:
    # root may write everywhere, so the answer of the system is put in its mouth.
    monkeypatch.setattr(os, 'access', lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(ValueError, match=rf': {tmp_path} cannot be written to$'):
        check_writable(tmp_path / 'new', 'OUT')


def test_files_that_cannot_be_written_are_named_and_folders_made(tmp_path: Path) -> None:
    assert check_result_file(tmp_path / 'new' / 'x.pkl', ('.pkl',)) == tmp_path / 'new' / 'x.pkl'
    assert os.listdir(tmp_path / 'new') == []
    for file, message in (
        (tmp_path / 'x.csv', r'must end in .pkl or .json'),
        (tmp_path / 'new', r'must end in .pkl or .json'),
    ):
        with pytest.raises(ValueError, match=message):
            check_result_file(file, ('.pkl', '.json'))

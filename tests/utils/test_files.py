"""Atomic writing: files are complete whatever happens while they are written."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from dsanet.utils.files import check_creatable, check_outputs, check_writable, open_atomically, write_atomically


def test_old_file_stays_until_new_is_complete(tmp_path: Path) -> None:
    file = tmp_path / 'x.txt'
    write_atomically(b'old', file)
    with open_atomically(file) as stream:
        stream.write(b'new')
        stream.flush()
        assert file.read_bytes() == b'old'
        assert sorted(os.listdir(tmp_path)) == ['x.txt', 'x.txt.part']
    assert file.read_bytes() == b'new'
    assert os.listdir(tmp_path) == ['x.txt']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_error_keeps_the_old_file_only(tmp_path: Path, error: type[BaseException]) -> None:
    def stop_half_way(file: Path) -> None:
        with open_atomically(file) as stream:
            stream.write(b'half of the n')
            raise error('stopped')

    write_atomically(b'old', tmp_path / 'x')
    for name in ('x', 'y'):
        with pytest.raises(error, match='stopped'):
            stop_half_way(tmp_path / name)
    assert os.listdir(tmp_path) == ['x']
    assert (tmp_path / 'x').read_bytes() == b'old'


def test_failed_fsync_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_unwritable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere/x\.part'"):
        write_atomically(b'', tmp_path / 'nowhere' / 'x')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(IsADirectoryError, match="folder'"):
        write_atomically(b'', tmp_path / 'folder')
    assert os.listdir(tmp_path) == ['folder']


def test_leftover_part_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / 'x.part').write_bytes(b'longer than the new one')
    write_atomically(b'new', tmp_path / 'x')
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == {'x': b'new'}


def test_writable_folders_pass_and_are_not_created(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / 'new', tmp_path / 'new' / 'newer', Path('new'), Path()):
        check_writable(folder, '--out')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('below', ['', 'new', 'new/newer'])
def test_file_as_folder_or_parent_is_rejected(tmp_path: Path, below: str) -> None:
    (tmp_path / 'file').touch()
    folder = tmp_path / 'file' / below
    with pytest.raises(ValueError, match=rf'--out {folder} .*{tmp_path}/file\b'):
        check_writable(folder, '--out')


def test_broken_link_is_rejected(tmp_path: Path) -> None:
    (tmp_path / 'link').symlink_to(tmp_path / 'gone')
    with pytest.raises(ValueError, match=rf'OUT .*{tmp_path}/link .*folder$'):
        check_writable(tmp_path / 'link' / 'new', 'OUT')


def test_folder_without_permission_is_rejected(tmp_path: Path, monkeypatch) -> None:
    def fail(dir: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir))

    # root may write everywhere, so the answer of the system is replaced.
    monkeypatch.setattr(tempfile, 'TemporaryFile', fail)
    with pytest.raises(ValueError, match=rf'OUT {tmp_path}/new .*{tmp_path} '):
        check_writable(tmp_path / 'new', 'OUT')


@pytest.mark.skipif(not Path('/proc/self').exists(), reason='requires a file system that also root cannot write')
def test_folder_of_the_system_is_rejected() -> None:
    with pytest.raises(ValueError, match='OUT /proc/new'):
        check_writable(Path('/proc/new'), 'OUT')


def test_creatable_files_pass_and_are_not_created(tmp_path: Path) -> None:
    (tmp_path / 'old').write_text('old')
    for name in ('old', 'new', 'x' * 250):
        check_creatable(tmp_path / name)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {'old': 'old'}


def test_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    with open_atomically(tmp_path / 'x') as stream:
        stream.write(b'half')
        stream.flush()
        check_creatable(tmp_path / 'x')
        assert (tmp_path / 'x.part').read_bytes() == b'half'


@pytest.mark.parametrize('name', ['folder', 'nowhere/x', 'x' * 251])
def test_file_that_cannot_be_created_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / 'folder').mkdir()
    for function in (check_creatable, lambda file: write_atomically(b'', file)):
        with pytest.raises(OSError, match=name):
            function(tmp_path / name)
    assert os.listdir(tmp_path) == ['folder']


@pytest.mark.parametrize(
    ('output', 'source'),
    [
        ('in.json', 'in.json'),
        ('sub/../in.json', 'in.json'),
        ('link.json', 'in.json'),
        ('hard.json', 'in.json'),
        ('folder/in.json', 'in.json'),
        ('in.json', 'link.json'),
    ],
)
def test_output_that_is_an_input_is_refused(
    tmp_path: Path, output: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'sub').mkdir()
    (tmp_path / 'in.json').write_text('scores')
    (tmp_path / 'link.json').symlink_to('in.json')
    (tmp_path / 'hard.json').hardlink_to('in.json')
    (tmp_path / 'folder').symlink_to('.')
    for one, other in ((Path(output), tmp_path / source), (tmp_path / output, Path(source))):
        with pytest.raises(ValueError, match=rf'^--out .*{output} .*{source}; '):
            check_outputs({'--json': None, '--out': one}, [None, tmp_path / 'absent', str(other)])


@pytest.mark.parametrize('other', ['x.json', './x.json', 'here/x.json', 'X.JSON', 'link.json'])
def test_two_outputs_in_one_file_are_refused(tmp_path: Path, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'here').symlink_to('.')
    (tmp_path / 'link.json').symlink_to('x.json')  # which does not exist
    with pytest.raises(ValueError, match=r'^--out x\.json and --metrics-out '):
        check_outputs({'--out': Path('x.json'), '--metrics-out': Path(other)}, [])


def test_existing_and_different_outputs_are_allowed(tmp_path: Path) -> None:
    for name in ('a.json', 'b.json'):
        (tmp_path / name).write_text('of an earlier run')
    check_outputs({'--out': tmp_path / 'a.json', '--metrics-out': tmp_path / 'b.json'}, [tmp_path / 'c.pth'])


def test_full_disk_error_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / 'a.txt'
    with pytest.raises(OSError, match='No space left') as caught, open_atomically(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(file))
    assert not list(tmp_path.iterdir())

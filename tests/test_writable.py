"""Folders that a tool can write to, and others."""

import os
from pathlib import Path

import pytest

from codes.writable import check_writable


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

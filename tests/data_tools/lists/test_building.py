"""Find official files and write lists; see also tests/commands/test_build_list.py."""

import os
import re
from pathlib import Path

import pytest

from dsanet.data_tools.lists.base import Role
from dsanet.data_tools.lists.building import find_files, write_text


def test_several_matching_official_files_are_an_error(tmp_path: Path) -> None:
    roles = {'train': Role(('train.csv', '*train*.csv')), 'lists': Role(('list*.txt',), many=True)}
    for name in ('my_train.csv', 'train_2.csv', 'list1.txt', 'list2.txt'):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match='my_train.csv.*train_2.csv.*--file train='):
        find_files(roles, tmp_path, {})
    given = {'train': [str(tmp_path / 'train_2.csv')]}
    assert find_files(roles, tmp_path, given) == {
        'train': [str(tmp_path / 'train_2.csv')],
        'lists': [str(tmp_path / 'list1.txt'), str(tmp_path / 'list2.txt')],
    }
    (tmp_path / 'train.csv').touch()
    assert find_files(roles, tmp_path, {})['train'] == [str(tmp_path / 'train.csv')]


def test_interrupted_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / 'train.txt'
    assert write_text(file, 'a 0\nb 1\n') == 'new'

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_text(file, 'a 0\nc 1\nd 1\n')
    assert file.read_text() == 'a 0\nb 1\n'
    assert re.findall(r'\d+', write_text(file, 'a 0\nc 1\nd 1\n')) == ['2', '1']
    assert write_text(file, 'a 0\nc 1\nd 1\n') == 'unchanged'
    assert sorted(tmp_path.iterdir()) == [file]

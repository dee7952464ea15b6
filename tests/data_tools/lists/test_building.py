"""Finding official files, and writing lists; tests/commands/test_build_list.py has the rest."""

import os
from pathlib import Path

import pytest

from dsanet.data_tools.lists.base import Lists, Role
from dsanet.data_tools.lists.building import check_classes, find_files, write_text


def test_official_files_are_found_by_name_and_doubt_is_an_error(tmp_path: Path) -> None:
    roles = {'train': Role(('train.csv', '*train*.csv')), 'lists': Role(('list*.txt',), many=True)}
    for name in ('my_train.csv', 'train_2.csv', 'list1.txt', 'list2.txt'):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r'my_train.csv and .*train_2.csv: which one is it\? Say --file train=FILE'):
        find_files(roles, tmp_path, {})
    given = {'train': [str(tmp_path / 'train_2.csv')]}
    assert find_files(roles, tmp_path, given) == {
        'train': [str(tmp_path / 'train_2.csv')],
        'lists': [str(tmp_path / 'list1.txt'), str(tmp_path / 'list2.txt')],
    }
    (tmp_path / 'train.csv').touch()
    assert find_files(roles, tmp_path, {})['train'] == [str(tmp_path / 'train.csv')]


def test_an_unknown_number_of_classes_is_not_checked() -> None:
    check_classes(Lists(['a'], {}), None, 'csv files')


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / 'train.txt'
    assert write_text(file, 'a 0\nb 1\n') == 'new'

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_text(file, 'a 0\nc 1\nd 1\n')
    assert file.read_text() == 'a 0\nb 1\n'
    assert write_text(file, 'a 0\nc 1\nd 1\n') == 'changed: 2 lines more, 1 lines less'
    assert write_text(file, 'a 0\nc 1\nd 1\n') == 'unchanged'
    assert sorted(tmp_path.iterdir()) == [file]

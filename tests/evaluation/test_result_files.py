import collections
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsanet.evaluation.result_files import SUFFIXES, read_results, write_results
from dsanet.evaluation.results import ACTIVATIONS
from tests.evaluation.test_results import LABELS, MULTI_HOT, PATHS, SCORES, make


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('labels', [LABELS, MULTI_HOT])
@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_results_survive_saving(tmp_path: Path, suffix: str, labels: np.ndarray, activation: str) -> None:
    scores = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    write_results(make(scores, labels, activation=activation), tmp_path / f'x{suffix}')
    read = read_results(tmp_path / f'x{suffix}')
    assert (read.paths, read.activation) == (PATHS, activation)
    for one, other in ((read.scores, scores), (read.labels, labels)):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    assert read.is_multi_hot == (labels is MULTI_HOT)
    assert os.listdir(tmp_path) == [f'x{suffix}']


def test_file_has_one_dict_per_video(tmp_path: Path) -> None:
    write_results(make(), tmp_path / 'x.json')
    write_results(make(), tmp_path / 'x.pkl')
    entries = json.loads((tmp_path / 'x.json').read_text())
    assert entries[1] == {'path': 'b.mp4', 'label': 1, 'scores': [0, 2, 1], 'activation': 'softmax'}
    assert pickle.loads((tmp_path / 'x.pkl').read_bytes()) == entries
    assert 'class_names' not in entries[0]


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_first_entry_has_class_names(tmp_path: Path, suffix: str) -> None:
    results = replace(make(), class_names=['run', 'walk', 'j\xf6mp'])
    write_results(results, tmp_path / f'x{suffix}')
    assert read_results(tmp_path / f'x{suffix}').class_names == results.class_names
    if suffix == '.json':
        entries = json.loads((tmp_path / 'x.json').read_text())
        assert ['class_names' in entry for entry in entries] == [True, False, False, False]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, file = make(), tmp_path / 'x.json'
    file.write_text('old')

    def fail(*_: object) -> None:
        raise OSError('disk full')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', fail)
        with pytest.raises(OSError, match='disk full'):
            write_results(results, file)
    assert file.read_text() == 'old'
    write_results(results, file)
    assert [entry['path'] for entry in json.loads(file.read_text())] == PATHS
    assert os.listdir(tmp_path) == ['x.json']


class _Malicious:
    def __reduce__(self) -> tuple:
        return os.mkdir, ('it_ran',)


@pytest.mark.parametrize('value', [_Malicious(), np.float32(1), collections.OrderedDict()])
def test_pickle_with_code_raises_before_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('x.pkl').write_bytes(pickle.dumps([{'path': 'a', 'label': 0, 'scores': [value]}]))
    name = {_Malicious: 'mkdir', np.float32: 'numpy', collections.OrderedDict: 'OrderedDict'}[type(value)]
    with pytest.raises(ValueError, match=rf'x\.pkl.*{name}'):
        read_results(Path('x.pkl'))
    assert not Path('it_ran').exists()


GOOD = {'path': 'a', 'label': 0, 'scores': [0.5, 1], 'activation': 'softmax'}
OTHER = {**GOOD, 'path': 'b'}


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ({}, 'list.*{}'),
        ([], r'list.*\[\]'),
        ([GOOD, 3], r'entry 1\b.*path.*3'),
        ([{'path': 'a', 'label': 0}], r'entry 0\b.*scores'),
        ([{**GOOD, 'path': 7}], r'entry 0\b.*path.*7'),
        ([GOOD, GOOD], ' 1 .*more than once.* a;'),
        ([GOOD, {**GOOD, 'path': './a'}], ' 1 .*more than once.* a;'),
        ([GOOD, {**OTHER, 'scores': [1]}], r'entry 1\b.*scores.* 2 '),
        ([GOOD, {**OTHER, 'label': [0, 1]}], r'entry 1\b.*label.*\[0, 1\]'),
        ([{**OTHER, 'label': [0, 1]}, GOOD], r'entry 1\b.*label.* 0$'),
        ([{**GOOD, 'scores': 'high'}], 'scores.*high'),
        ([{**GOOD, 'scores': []}], 'scores'),
        ([{**GOOD, 'scores': [[1, 2]]}], 'scores'),
        ([{**GOOD, 'scores': [1, float('nan')]}], 'scores.*finite'),
        ([{**GOOD, 'scores': [1, float('-inf')]}], 'scores.*finite'),
        ([{**GOOD, 'scores': [1, 10**400]}], 'scores.*finite'),
        ([{**GOOD, 'scores': [1, 1e39]}], 'scores.*finite'),  # infinite in float32
        ([{**GOOD, 'scores': [1, True]}], 'scores.*True'),
        ([{**GOOD, 'scores': ['1.5', 1]}], "scores.*'1.5'"),
        ([{**GOOD, 'scores': [None, 1]}], 'scores.*None'),
        ([{**GOOD, 'scores': {'0': 1}}], "scores.*{'0': 1}"),
        ([{**GOOD, 'label': 2}], 'label .* 0 to 1'),
        ([{**GOOD, 'label': -1}], 'label .* 0 to 1'),
        ([{**GOOD, 'label': 0.5}], 'label .* 0 to 1'),
        ([{**GOOD, 'label': True}], 'label .*True'),
        ([{**GOOD, 'label': '1'}], "label .*'1'"),
        ([{**GOOD, 'label': None}], 'label .*None'),
        ([{**GOOD, 'label': 10**400}], 'label .* 0 to 1'),
        ([{**GOOD, 'label': [1, 0, 1]}], 'label .* 2 '),
        ([{**GOOD, 'label': [2, 0]}], 'label .* 2 '),
        ([{**GOOD, 'label': [True, 0]}], 'label .*True'),
        ([{**GOOD, 'activation': 'relu'}], 'activation.*softmax, sigmoid, none'),
        ([GOOD, {**OTHER, 'activation': 'none'}], 'activation'),
        ([{**GOOD, 'class_names': ['run']}], 'class_names.* 2 '),
        ([{**GOOD, 'class_names': 'ab'}], 'class_names.* 2 '),
        ([{**GOOD, 'class_names': ['a', 'a']}], 'class_names.* 2 '),
        ([{**GOOD, 'class_names': ['a', 'b']}, {**OTHER, 'class_names': ['b', 'a']}], 'class_names'),
    ],
)
@pytest.mark.parametrize('suffix', ['.pkl', '.json'])
def test_invalid_entries_raise(tmp_path: Path, entries: object, message: str, suffix: str) -> None:
    file = tmp_path / f'x{suffix}'
    file.write_bytes(pickle.dumps(entries) if suffix == '.pkl' else json.dumps(entries).encode())
    with pytest.raises(ValueError, match=rf'x\{suffix}.*{message}'):
        read_results(file)


COLUMNS = {
    'path': np.array(['a', 'b']),
    'label': np.array([0, 1]),
    'scores': np.float32([[0.5, 1], [2, 3]]),
    'activation': np.array('softmax'),
}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'path': None}, 'must contain path'),
        ({'activation': None}, 'must contain path'),
        ({'path': np.array([b'a', b'b'])}, 'must contain path'),
        ({'path': np.array([['a', 'b']])}, 'must contain path'),
        ({'label': np.array([0.0, 1.0])}, 'must contain path'),
        ({'label': np.array([True, False])}, 'must contain path'),
        ({'scores': np.array([[1, 2], [3, 4]])}, 'must contain path'),
        ({'path': np.array(['a', 'a'])}, 'more than once'),
        ({'path': np.array(['a'])}, '1, 2 and 2'),
        ({'label': np.array([0])}, '2, 1 and 2'),
        ({'scores': np.zeros((2, 0), np.float32)}, 'at least 1'),
        ({'scores': np.float32([[0, np.nan], [0, 0]])}, 'finite'),
        ({'scores': np.float64([[0, 1e39], [0, 0]])}, 'finite'),
        ({'label': np.array([0, 2])}, '0 to 1'),
        ({'label': np.array([-1, 0])}, '0 to 1'),
        ({'label': np.float32([[0, 1], [0.5, 1]])}, '0 or 1'),
        ({'label': np.float32([[0, 1, 1], [0, 1, 0]])}, '0 or 1'),
        ({'activation': np.array('relu')}, 'softmax, sigmoid, none'),
        ({'class_names': np.array(['run'])}, 'class_names.* 2 '),
        ({'class_names': np.array([1, 2])}, 'class_names.* 2 '),
    ],
)
def test_invalid_columns_raise(tmp_path: Path, change: dict, message: str) -> None:
    columns = {name: value for name, value in {**COLUMNS, **change}.items() if value is not None}
    np.savez(tmp_path / 'x.npz', **columns)
    with pytest.raises(ValueError, match=rf'x\.npz.*{message}'):
        read_results(tmp_path / 'x.npz')


def test_columns_with_code_raise_before_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez('x.npz', **{**COLUMNS, 'class_names': np.array([_Malicious(), None], dtype=object)})
    with pytest.raises(ValueError, match=r'x\.npz.*pickle'):
        read_results(Path('x.npz'))
    assert not Path('it_ran').exists()


def test_other_programs_can_read_columns(tmp_path: Path) -> None:
    write_results(replace(make(), class_names=['run', 'walk', 'jump']), tmp_path / 'x.npz')
    with np.load(tmp_path / 'x.npz') as content:
        assert sorted(content) == ['activation', 'class_names', 'label', 'path', 'scores']
        assert content['path'].tolist() == PATHS
        assert np.array_equal(content['scores'], SCORES)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_damaged_and_missing_files_raise(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f'x{suffix}'
    write_results(make(), file)
    content = file.read_bytes()
    for length in range(0, len(content) - 1, 5):
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf'x\{suffix}'):
            read_results(file)
    with pytest.raises(FileNotFoundError, match=r'nowhere\.json'):
        read_results(tmp_path / 'nowhere.json')


@pytest.mark.parametrize('content', [b'[]', b'PK\x03\x04 cut', b''])
def test_other_content_is_not_called_a_pickle(content: bytes, tmp_path: Path) -> None:
    (tmp_path / 'x.npz').write_bytes(content)
    with pytest.raises(ValueError, match=r'x\.npz.*it is not an archive of NumPy arrays') as error:
        read_results(tmp_path / 'x.npz')
    assert 'pickle' not in str(error.value)

"""Lists of Something-Something V1 (CSV) and V2 (JSON)."""

import json
from pathlib import Path
from typing import Any

import pytest

from dsanet.data_tools.lists.something import read_something_v1, read_something_v2

V1_LABELS = (
    'Holding something\nTurning something upside down\nPutting something, something and something on the table\n'
)


def write(folder: Path, name: str, content: Any) -> list[str]:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    return [str(folder / name)]


def entry(video: str, template: str) -> dict[str, Any]:
    return {'id': video, 'label': 'holding a cup', 'template': template, 'placeholders': ['a cup']}


def test_v1_keeps_the_order_of_its_labels_file(tmp_path: Path) -> None:
    files = {
        'labels': write(tmp_path, 'labels.csv', V1_LABELS),
        'train': write(tmp_path, 'train.csv', '100218;Turning something upside down\n7;Holding something\n'),
        'val': write(tmp_path, 'val.csv', '9;Putting something, something and something on the table\n'),
        'test': write(tmp_path, 'test.csv', '1420\n'),
    }
    lists = read_something_v1(files)
    assert lists.class_names == V1_LABELS.splitlines()
    assert [(v.names, v.classes) for v in lists.splits['train']] == [
        (('100218',), ('Turning something upside down',)),
        (('7',), ('Holding something',)),
    ]
    assert lists.splits['val'][0].classes == ('Putting something, something and something on the table',)
    assert len(lists.notes) == 1
    assert files['test'][0] in lists.notes[0]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('1;Holding something\n2,Holding\n', "train.csv:2: .*'2,Holding'.*id;class"),
        ('\n;Holding something\n', "train.csv:2: .*';Holding something'.*id;class"),
        ('1;Eating something\n', r"train.csv:1: .*'Eating something'.*\b3\b.*labels.csv"),
    ],
)
def test_v1_errors_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    files = {'labels': write(tmp_path, 'labels.csv', V1_LABELS), 'train': write(tmp_path, 'train.csv', text)}
    with pytest.raises(ValueError, match=message):
        read_something_v1(files)


def test_v2_ignores_brackets_in_templates(tmp_path: Path) -> None:
    thing = 'something that cannot actually stand upright'
    long = f'Putting {thing} upright on the table, so it falls on its side'
    labels = {'Holding something': '2', 'Taking one of many similar things on the table': '0', long: '1'}
    files = {
        'labels': write(tmp_path, 'labels.json', labels),
        'train': write(
            tmp_path,
            'train.json',
            [
                entry('78687', 'Holding [something]'),
                entry('3', 'Taking [one of many similar things on the table]'),
                entry('4', long.replace(thing, f'[{thing}]')),
            ],
        ),
    }
    files['test'] = write(tmp_path, 'test-answers.csv', '420;Holding something\n')
    lists = read_something_v2(files)
    assert lists.class_names == ['Taking one of many similar things on the table', long, 'Holding something']
    assert [video.classes[0] for video in lists.splits['train']] == [
        'Holding something',
        'Taking one of many similar things on the table',
        long,
    ]
    assert lists.splits['train'][0].names == ('78687',)
    assert lists.splits['train'][0].source == f'{files["train"][0]}, id 78687'
    assert lists.splits['test'][0].classes == ('Holding something',)


def test_v2_errors_name_file_and_id(tmp_path: Path) -> None:
    files = {'labels': write(tmp_path, 'labels.json', {'Holding something': '0'})}
    files['train'] = write(
        tmp_path, 'train.json', [entry('1', 'Holding [something]'), entry('2', 'Eating [something]')]
    )
    with pytest.raises(ValueError, match=r"train.json, id 2: .*'Eating \[something\]'.*\b1\b.*labels.json"):
        read_something_v2(files)
    files['train'] = write(tmp_path, 'train.json', [{'id': '1'}])
    with pytest.raises(ValueError, match=r'train.json: entry 0\b.*template.*\{"id": "1"\}'):
        read_something_v2(files)
    files['train'] = write(tmp_path, 'train.json', {'id': '1'})
    with pytest.raises(ValueError, match=r'train.json: .*\blist\b.*\bdict\b'):
        read_something_v2(files)
    files['train'] = write(tmp_path, 'train.json', '[\n{"id": "1",}\n]')
    with pytest.raises(ValueError, match=r'train.json: .*line 2 column \d+'):
        read_something_v2(files)


@pytest.mark.parametrize('numbers', [{}, {'a': '1'}, {'a': '0', 'b': '0'}, {'a': 0, 'b': 2}, {'a': 0, 'b': None}])
def test_v2_class_numbers_must_have_no_gaps(tmp_path: Path, numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='labels.json: .*0, 1, 2'):
        read_something_v2({'labels': write(tmp_path, 'labels.json', numbers)})


def test_classes_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    files = {
        'labels': write(tmp_path, 'labels.csv', 'Holding\nholding\n'),
        'train': write(tmp_path, 'train.csv', '1;x\n'),
    }
    with pytest.raises(ValueError, match="labels.csv: .*'holding'.*'Holding'"):
        read_something_v1(files)

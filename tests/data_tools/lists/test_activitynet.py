"""The annotation file of ActivityNet v1.3."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dsanet.data_tools.lists.activitynet import read_activitynet


def write(folder: Path, content: Any) -> dict[str, list[str]]:
    file = folder / 'activity_net.v1-3.min.json'
    file.write_text(json.dumps(content, indent=1))
    return {'json': [str(file)]}


def video(subset: str, *segments: tuple[str, float, float]) -> dict[str, Any]:
    annotations = [{'label': label, 'segment': [start, end]} for label, start, end in segments]
    return {'subset': subset, 'duration': 82.7, 'annotations': annotations, 'url': 'x'}


def test_training_videos_get_their_longest_class_only(tmp_path: Path) -> None:
    database = {
        'sJFgo9H6zNo': video('validation', ('Zumba', 0, 10), ('Archery', 20, 21), ('Zumba', 30, 31)),
        'v_aaa': video('training', ('Zumba', 0, 10), ('Archery', 20, 26), ('Archery', 30, 36)),
        'bbb': video('training', ('Zumba', 5, 10), ('Belly dance', 20, 25)),
        'ccc': video('training', ('Zumba', 5, 10)),
        'nothing': video('validation'),
        'hidden': video('testing'),
    }
    files = write(tmp_path, {'version': '1.3', 'database': database, 'taxonomy': []})
    lists = read_activitynet(files)
    assert lists.class_names == ['Archery', 'Belly dance', 'Zumba']
    assert [(v.names, v.classes) for v in lists.splits['train']] == [
        (('v_bbb', 'bbb'), ('Belly dance',)),
        (('v_ccc', 'ccc'), ('Zumba',)),
        (('v_aaa', 'aaa'), ('Archery',)),
    ]
    assert [(v.names[0], v.classes) for v in lists.splits['val']] == [
        ('v_nothing', ()),
        ('v_sJFgo9H6zNo', ('Archery', 'Zumba')),
    ]
    assert lists.splits['train'][0].source == f'{files["json"][0]}, id bbb'
    assert list(lists.splits) == ['train', 'val']
    assert [re.findall(r'\d+', note) for note in lists.notes] == [['2'], ['1']]


@pytest.mark.parametrize(
    'entry',
    [
        'text',
        {'annotations': []},
        {'subset': 'elsewhere', 'annotations': []},
        {'subset': 'training'},
        {'subset': 'training', 'annotations': [{'label': 'Zumba'}]},
        {'subset': 'training', 'annotations': [{'label': 'Zumba', 'segment': [1, 'x']}]},
        {'subset': 'training', 'annotations': [{'label': 7, 'segment': [1, 2]}]},
        {'subset': 'training', 'annotations': [{'label': None, 'segment': [1, 2]}]},
        {'subset': 'training', 'annotations': [{'label': ['Zumba'], 'segment': [1, 2]}]},
        {'subset': 'training', 'annotations': [{'label': ' ', 'segment': [1, 2]}]},
        {'subset': 'training', 'annotations': [{'label': 'Zumba', 'segment': [1, float('nan')]}]},
        {'subset': 'training', 'annotations': [{'label': 'Zumba', 'segment': [1, 10**400]}]},
    ],
)
def test_malformed_entries_are_located(tmp_path: Path, entry: Any) -> None:
    files = write(tmp_path, {'database': {'good': video('testing'), 'bad': entry}})
    with pytest.raises(ValueError, match=r'v1-3.min.json, id bad: '):
        read_activitynet(files)


def test_json_without_database_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='database.*results.*version'):
        read_activitynet(write(tmp_path, {'results': {}, 'version': 1}))


def test_unreadable_json_is_an_error(tmp_path: Path) -> None:
    files = write(tmp_path, {})
    Path(files['json'][0]).write_bytes(b'{"database": "\xff"}')
    with pytest.raises(ValueError, match=r'v1-3.min.json: .*\b14\b'):
        read_activitynet(files)

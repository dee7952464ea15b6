import json
from pathlib import Path
from typing import Any

import pytest

from dsanet.data_tools.lists.base import Lists
from dsanet.data_tools.lists.span_sources import (
    SPAN_DATASETS,
    ListedSpan,
    read_activitynet_spans,
    read_fiftyone,
    read_label_studio,
    read_span_table,
)


def write(folder: Path, content: Any, name: str = 'a.json') -> list[str]:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return [str(folder / name)]


def spans(lists: Lists, split: str = 'all') -> list[tuple[Any, ...]]:
    found = lists.splits[split]
    assert all(isinstance(span, ListedSpan) for span in found)
    return [(span.names[0], *span.classes, span.start, span.end, span.frames) for span in found]


def task(video: str, *regions: tuple[int, int, str], **options: Any) -> dict[str, Any]:
    result = [
        {'id': f'r{n}', 'type': 'timelinelabels', 'value': {'ranges': [{'start': a, 'end': b}], 'timelinelabels': [k]}}
        for n, (a, b, k) in enumerate(regions)
    ]
    return {'id': 7, 'data': {'video': video, 'fps': 25}, 'annotations': [{'result': result}], **options}


def test_activitynet_segments_keep_their_split(tmp_path: Path) -> None:
    def entry(subset: str, *segments: tuple[float, float, str]) -> dict[str, Any]:
        return {'subset': subset, 'annotations': [{'label': k, 'segment': [a, b]} for a, b, k in segments]}

    database = {'v_b': entry('training', (1, 2.5, 'wave'), (4, 5, 'clap')), 'a': entry('validation', (0, 3, 'clap'))}
    database['c'] = entry('testing')
    lists = read_activitynet_spans({'json': write(tmp_path, {'database': database})})
    assert lists.class_names == ['clap', 'wave']
    assert list(lists.splits) == ['train', 'val']
    assert spans(lists, 'train') == [('v_b', 'wave', 1, 2.5, None), ('v_b', 'clap', 4, 5, None)]
    assert lists.splits['train'][1].source == f'{tmp_path}/a.json, id v_b, annotation 2'
    assert lists.splits['val'][0].names == ('v_a', 'a')
    assert [note.split()[:2] for note in lists.notes] == [['skipped', '1']]


@pytest.mark.parametrize(
    'entry',
    [
        [],
        {'annotations': []},
        {'subset': 'other', 'annotations': []},
        {'subset': 'training', 'annotations': [{'label': 'a', 'segment': [1]}]},
        {'subset': 'training', 'annotations': [{'label': 'a', 'segment': ['x', 2]}]},
        {'subset': 'training', 'annotations': [{'label': 3, 'segment': [1, 2]}]},
        {'subset': 'training', 'annotations': [{'segment': [1, 2]}]},
    ],
)
def test_malformed_activitynet_entry_is_named(tmp_path: Path, entry: Any) -> None:
    with pytest.raises(ValueError, match=r'a\.json, id v_x: '):
        read_activitynet_spans({'json': write(tmp_path, {'database': {'v_x': entry}})})


def test_label_studio_frames_are_counted_from_0(tmp_path: Path) -> None:
    tasks = [task('/data/upload/1/0a1b2c3d-my%20film.mp4', (1, 25, 'wave'), (30, 31, 'clap'))]
    tasks.append(task('/data/local-files/?d=films/b.mp4', (3, 4, 'clap')))
    tasks.append(task('s3://bucket/x/c.mp4'))
    tasks[1]['annotations'][0]['result'].append({'type': 'videorectangle', 'value': {}})
    lists = read_label_studio({'all': write(tmp_path, tasks)})
    assert lists.class_names == ['clap', 'wave']
    names = [span.names for span in lists.splits['all']]
    assert names[1][1:] == ('my film.mp4', '0a1b2c3d-my film.mp4')
    assert names[2] == ('films/b.mp4', 'b.mp4', 'b.mp4')
    assert [span.frames for span in lists.splits['all']] == [(0, 24), (29, 30), (2, 3)]
    assert lists.splits['all'][1].source == f'{tmp_path}/a.json, task 7, region r1'
    assert len(lists.notes) == 2


def test_label_studio_ground_truth_is_chosen(tmp_path: Path) -> None:
    good, bad = (task('a.mp4', (1, n, 'wave'))['annotations'][0] for n in (10, 99))
    for annotations in (
        [bad | {'was_cancelled': True}, good],
        [bad, good | {'ground_truth': True}],
    ):
        lists = read_label_studio({'train': write(tmp_path, [task('a.mp4', annotations=annotations)])})
        assert [span.frames for span in lists.splits['train']] == [(0, 9)]
    with pytest.raises(ValueError, match='task 7: has 2 annotations'):
        read_label_studio({'train': write(tmp_path, [task('a.mp4', annotations=[good, bad])])})


@pytest.mark.parametrize(
    'content',
    [
        {},
        [3],
        [{'id': 7, 'video': 'a.mp4', 'label': []}],
        [task('a.txt')],
        [task('a.mp4') | {'data': {'a': 'a.mp4', 'b': 'b.mp4'}}],
        [task('a.mp4', (1, None, 'wave'))],  # type: ignore[arg-type]
        [task('a.mp4', (1, 2, 3))],  # type: ignore[arg-type]
    ],
)
def test_malformed_label_studio_export_is_named(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ValueError, match=r'a\.json'):
        read_label_studio({'all': write(tmp_path, content)})


def test_fiftyone_has_frames_or_seconds(tmp_path: Path) -> None:
    labels = {
        'x/a': [{'label': 1, 'support': [1, 10]}, {'label': 0, 'timestamps': [2.5, 4]}],
        'b': None,
    }
    lists = read_fiftyone({'all': write(tmp_path, {'classes': ['wave', 'clap', 'run'], 'labels': labels})})
    assert lists.class_names == ['wave', 'clap', 'run']
    assert spans(lists) == [('x/a', 'clap', None, None, (0, 9)), ('x/a', 'wave', 2.5, 4, None)]
    assert lists.splits['all'][0].source == f'{tmp_path}/a.json, x/a, detection 1'
    named = read_fiftyone({'val': write(tmp_path, {'labels': {'a': [{'label': 'run', 'support': [3, 3]}]}})})
    assert (named.class_names, spans(named, 'val')) == (['run'], [('a', 'run', None, None, (2, 2))])


@pytest.mark.parametrize(
    'content',
    [
        {},
        {'labels': []},
        {'labels': {'a': [{'label': 'x'}]}},
        {'labels': {'a': [{'label': 'x', 'support': [1]}]}},
        {'labels': {'a': [{'label': 'x', 'support': [1, 2.5]}]}},
        {'classes': ['x'], 'labels': {'a': [{'label': 3, 'support': [1, 2]}]}},
        {'classes': ['x'], 'labels': {'a': [{'label': 'x', 'support': [1, 2]}]}},
    ],
)
def test_malformed_fiftyone_labels_are_named(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ValueError, match=r'a\.json'):
        read_fiftyone({'all': write(tmp_path, content)})


def test_table_has_spans_and_splits(tmp_path: Path) -> None:
    text = 'video, label, start, end, part, who\n./a.mp4, wave, 0:01.5, 3, training, x\nb.mp4, clap, , , val, y\n'
    lists = read_span_table({'all': write(tmp_path, text, 'all.csv')}, split_column='part')
    assert lists.class_names == ['clap', 'wave']
    assert spans(lists, 'train') == [('a.mp4', 'wave', 1.5, 3, None)]
    assert spans(lists, 'val') == [('b.mp4', 'clap', None, None, None)]
    renamed = text.replace(' start', ' from').replace('part', 'split')
    assert list(read_span_table({'all': write(tmp_path, renamed, 'b.csv')}, start_column='from').splits) == [
        'train',
        'val',
    ]
    unsplit = read_span_table({'all': write(tmp_path, text, 'all.csv')})
    assert list(unsplit.splits) == ['all']


def test_table_labels_may_be_numbers_or_several(tmp_path: Path) -> None:
    file = write(tmp_path, 'video,label,start,end\na.mp4,2|10,1,2\n', 'train.csv')
    lists = read_span_table({'train': file}, label_separator='|', class_names=[f'c{k}' for k in range(11)])
    assert spans(lists, 'train') == [('a.mp4', 'c2', 'c10', 1, 2, None)]
    assert isinstance(lists.splits['train'][0], ListedSpan)


@pytest.mark.parametrize(
    ('row', 'match'),
    [('a.mp4,x,later,2', "2: start .*'later'"), (',x,1,2', ':2: '), ('a.mp4,,1,2', ':2: '), ('a.mp4,x,1', ':2: ')],
)
def test_malformed_table_row_is_named(tmp_path: Path, row: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        read_span_table({'train': write(tmp_path, f'video,label,start,end\n{row}\n', 'train.csv')})


def test_one_file_and_split_files_are_exclusive(tmp_path: Path) -> None:
    file = write(tmp_path, [task('a.mp4', (1, 2, 'x'))])
    for read in (read_label_studio, SPAN_DATASETS['label_studio'].read):
        with pytest.raises(ValueError, match='all, train'):
            read({'all': file, 'train': file})

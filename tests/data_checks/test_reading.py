import re
from pathlib import Path

import pytest

from dsanet.data_checks import reading
from dsanet.data_checks.reading import read_split, read_splits, read_valid_records, splits_of
from dsanet.data_checks.run import quick_report
from dsanet.datasets.transforms import DecodeVideo, OpenVideo, PackInputs, SampleSnippets
from dsanet.datasets.video_datasets import VideoDataset
from tests.data_checks.conftest import numbers

PIPELINE = [
    {'type': 'OpenVideo', 'decoder': 'pyav'},
    {'type': 'SampleSnippets', 'num_snippets': 2, 'frames_per_snippet': 2},
    {'type': 'DecodeVideo'},
    {'type': 'PackInputs'},
]


def test_dataset_becomes_a_split(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 1\n')
    (tmp_path / 'names.txt').write_text('x\ny\n')
    steps = [OpenVideo('pyav'), SampleSnippets(2, 2), DecodeVideo(), PackInputs()]
    dataset = VideoDataset(steps, str(tmp_path / 'list.txt'), class_file=str(tmp_path / 'names.txt'))
    (one,) = splits_of('train', dataset, 2)
    assert (one.name, one.num_classes, one.decoder, one.filename_tmpl) == ('train', 2, 'pyav', None)
    assert (one.class_name(1), one.class_name(2), one.needed_frames) == ("'y' (1)", 'class 2', 3)
    cfg = {
        'type': 'VideoDataset',
        'list_file': str(tmp_path / 'list.txt'),
        'class_file': str(tmp_path / 'names.txt'),
        'pipeline': PIPELINE,
    }
    (same,) = read_split('train_dataloader', {'dataset': cfg, 'batch_size': 9}, 2)
    assert (same.records, same.counts, same.class_names) == (one.records, one.counts, one.class_names)


def test_wrong_list_keeps_its_valid_records(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a 5 0\nb 1\nc 9 1\n')
    (tmp_path / 'names.txt').write_text('x\ny\n')
    cfg = {
        'type': 'RawFramesDataset',
        'list_file': str(tmp_path / 'list.txt'),
        'class_file': str(tmp_path / 'names.txt'),
        'start_index': 0,
        'pipeline': [PIPELINE[1], {'type': 'DecodeRawFrames'}, PIPELINE[3]],
    }
    (one,) = read_split('val_dataloader', {'dataset': cfg}, 2)
    assert [(r.path, r.num_frames) for r in one.records] == [('a', 5), ('c', 9)]
    assert (one.filename_tmpl, one.start_index, one.class_names) == ('img_{:05d}.jpg', 0, ['x', 'y'])
    assert [f.level for f in one.findings] == ['error']
    cfg['list_file'] = str(tmp_path / 'nowhere.txt')
    (none,) = read_split('val_dataloader', {'dataset': cfg}, 2)
    assert none.records == []
    assert f'{tmp_path}/nowhere.txt' in none.findings[0].text


def test_training_needs_one_full_batch(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 1\n')
    cfg = {'type': 'VideoDataset', 'list_file': str(tmp_path / 'list.txt'), 'pipeline': PIPELINE}
    for section, expected in (({'batch_size': 3}, 1), ({'batch_size': 2}, 0), ({'batch_size': 4, 'repeat': 2}, 0)):
        (one,) = read_split('train_dataloader', {'dataset': cfg, **section}, 2)
        assert [finding.level for finding in one.findings] == ['error'] * expected
    (val,) = read_split('val_dataloader', {'dataset': cfg, 'batch_size': 9}, 2)
    assert not val.findings


def test_valid_records_keep_classes_and_class_balance(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 1\nc.mp4 2\nd.mp4 7\ne.mp4\n')
    (tmp_path / 'names.txt').write_text(''.join(f'{name}\n' for name in 'stuvwxyz'))
    cfg = {'type': 'VideoDataset', 'list_file': str(tmp_path / 'list.txt'), 'pipeline': PIPELINE, 'classes': ['z', 't']}
    cfg['class_file'] = str(tmp_path / 'names.txt')
    (one,) = read_split('train_dataloader', {'dataset': cfg, 'class_balance': 'equal'}, 2)
    assert [(r.path, r.label) for r in one.records] == [('b.mp4', 1), ('d.mp4', 0)]
    assert (one.class_names, one.class_balance) == (['z', 't'], 'equal')
    assert [f.check for f in quick_report([one], seconds=0).findings] == ['files_missing', 'list'][::-1]
    (none,) = read_split('train_dataloader', {'dataset': {**cfg, 'classes': ['zz']}}, 2)
    assert (none.records, [f.check for f in none.findings]) == ([], ['list', 'list'])
    assert re.search(r"'zz'.*\b8\b", none.findings[1].text)
    mixed = {'type': 'MixedDataset', 'datasets': [cfg, {**cfg, 'list_file': str(tmp_path / 'good.txt')}]}
    (tmp_path / 'good.txt').write_text('f.mp4 1\n')
    splits = read_split('train_dataloader', {'dataset': mixed, 'class_balance': 'square_root'}, 2)
    assert [(s.class_balance, len(s.records)) for s in splits] == [('square_root', 2), ('square_root', 1)]


def test_wrong_mixed_dataset_with_valid_parts_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 1\n')
    part = {'type': 'VideoDataset', 'list_file': str(tmp_path / 'list.txt'), 'pipeline': PIPELINE}
    mixed = {'type': 'MixedDataset', 'datasets': [part, part], 'weights': [1, 2, 3]}
    with pytest.raises(ValueError, match='weights'):
        read_split('train_dataloader', {'dataset': mixed}, 2)
    wrong = {**part, 'list_file': str(tmp_path / 'nowhere.txt')}
    splits = read_split('train_dataloader', {'dataset': {**mixed, 'datasets': [part, wrong]}}, 2)
    assert [len(split.findings) for split in splits] == [0, 1], 'a wrong list is a finding'


def test_max_bad_share_equals_that_of_the_loader(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 1\n')
    cfg = {'type': 'VideoDataset', 'list_file': str(tmp_path / 'list.txt'), 'pipeline': PIPELINE}
    shares = {}
    for name, options in (
        ('train_dataloader', {}),
        ('train_dataloader', {'max_bad_share': 0.5}),
        ('train_dataloader', {'on_error': 'raise'}),
        ('val_dataloader', {}),
    ):
        (one,) = read_split(name, {'dataset': cfg, **options}, 2)
        shares[(name, *options)] = one.max_bad_share
    assert list(shares.values()) == [0.2, 0.5, 0.0, 0.0]
    (even,) = read_split('train_dataloader', {'dataset': cfg, 'class_balance': 'equal'}, 2)
    assert even.class_balance == 'equal'


def test_each_part_of_mixed_dataset_is_a_split(tmp_path: Path) -> None:
    (tmp_path / 'a.txt').write_text('a.mp4 0\nb.mp4 1\n')
    (tmp_path / 'b.txt').write_text('c.mp4 2\n')
    parts = [{'type': 'VideoDataset', 'list_file': str(tmp_path / f), 'pipeline': PIPELINE} for f in ('a.txt', 'b.txt')]
    section = {'dataset': {'type': 'MixedDataset', 'datasets': parts, 'weights': [1, 2]}}
    splits = read_split('train_dataloader', section, 3)
    assert [(s.name, len(s.records), s.max_bad_share, s.is_training) for s in splits] == [
        ('train.0', 2, 0.2, True),
        ('train.1', 1, 0.2, True),
    ]
    assert not [
        f for f in quick_report(splits, 0).findings if f.check in ('balance', 'labels')
    ]  # the classes of all parts together are complete
    (tmp_path / 'b.txt').write_text('c.mp4 2\nno label\n')
    splits = read_split('train_dataloader', section, 3)
    assert [(s.name, len(s.records), len(s.findings)) for s in splits] == [('train.0', 2, 0), ('train.1', 1, 1)]


def test_wrong_pipeline_raises(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a 0\n')
    cfg = {'type': 'VideoDataset', 'list_file': str(tmp_path / 'list.txt'), 'pipeline': [{'type': 'OpenVideo'}]}
    cfg['pipeline'] = [{'type': 'OpenVideo', 'decoder': 'eyes'}]
    with pytest.raises(ValueError, match="decoder='eyes'"):
        read_split('val_dataloader', {'dataset': cfg}, 2)


def test_all_wrong_lines_are_reported(tmp_path: Path) -> None:
    file = tmp_path / 'list.txt'
    file.write_text('a.mp4 0\nb.mp4\n\n# c\nd e.mp4 1\nf,1\ng.mp4 x\nh.mp4 2\n')
    found, wrong = read_valid_records('train', str(file), 'root', with_num_frames=False)
    assert [(r.path, r.label, r.source) for r in found] == [
        ('root/a.mp4', 0, f'{file}:1'),
        ('root/d e.mp4', 1, f'{file}:5'),
        ('root/h.mp4', 2, f'{file}:8'),
    ]
    assert [(f.text.split(': ')[0], numbers(f.text.split(': ')[1])) for f in wrong] == [(str(file), ['3'])]
    assert [example.split(': ')[0] for example in wrong[0].examples] == [f'{file}:{line}' for line in (2, 6, 7)]
    file.write_text('a 7 0\n')
    found, wrong = read_valid_records('train', str(file), None, with_num_frames=True)
    assert ([r.num_frames for r in found], wrong) == ([7], [])


def test_file_with_many_wrong_lines_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, 'MAX_MALFORMED_LINES', 4)
    (tmp_path / 'list.txt').write_text('word\n' * 10)
    found, wrong = read_valid_records('train', str(tmp_path / 'list.txt'), None, with_num_frames=False)
    assert found == []
    assert (numbers(wrong[0].text)[-1], len(wrong[0].examples)) == ('10', 4)
    (tmp_path / 'list.txt').write_text('# nothing\n')
    _, wrong = read_valid_records('train', str(tmp_path / 'list.txt'), None, with_num_frames=False)
    assert wrong[0].text.startswith(f'{tmp_path}/list.txt: ')
    assert len(wrong[0].examples) == 1


def test_list_of_spans_keeps_its_valid_records(tmp_path: Path) -> None:
    text = 'video,label,start,end\na.mp4,x,0,2\na.mp4,y,1,3\nb.mp4,z,0,1\nb.mp4,y,5,4\nb.mp4,y,1,2\n'
    (tmp_path / 'list.csv').write_text(text)
    (tmp_path / 'names.txt').write_text('x\ny\n')
    files = {'list_file': str(tmp_path / 'list.csv'), 'class_file': str(tmp_path / 'names.txt')}
    cfg = {'type': 'VideoDataset', **files, 'pipeline': PIPELINE}
    (one,) = read_split('val_dataloader', {'dataset': cfg}, 2)
    assert [(record.key, record.label) for record in one.records] == [
        ('a.mp4#0-2', 0),
        ('a.mp4#1-3', 1),
        ('b.mp4#1-2', 1),
    ]
    assert [(finding.level, len(finding.examples)) for finding in one.findings] == [('error', 2), ('error', 1)]
    lines = [re.search(r'list\.csv:(\d+)', text)[1] for finding in one.findings for text in finding.examples]
    assert lines == ['4', '5', '3']
    (several,) = read_split('val_dataloader', {'dataset': {**cfg, 'multi_hot': 2}}, 2)
    assert [len(finding.examples) for finding in several.findings] == [2]


def test_splits_know_the_class_weights(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 1\n')
    part = {'type': 'VideoDataset', 'list_file': str(tmp_path / 'list.txt'), 'pipeline': PIPELINE}
    config: dict = {'model': {}, 'train_dataloader': {'dataset': part, 'batch_size': 1}}
    assert [split.class_weights for split in read_splits(config)] == [None]
    config['model'] = {'cls_head': {'num_classes': 2, 'loss': {'type': 'FocalLoss', 'class_weights': 'balanced'}}}
    assert [split.class_weights for split in read_splits(config)] == ['balanced']

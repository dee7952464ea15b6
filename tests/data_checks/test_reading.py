from pathlib import Path

import pytest

from dsanet.data_checks.reading import read_split, splits_of
from dsanet.data_checks.run import quick_report
from dsanet.datasets.transforms import DecodeVideo, OpenVideo, PackInputs, SampleSnippets
from dsanet.datasets.video_datasets import VideoDataset

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
    (same,) = read_split('train_dataloader', {'dataset': cfg, 'batch_size': 2}, 2)
    assert (same.records, same.counts, same.class_names) == (one.records, one.counts, one.class_names)


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
        (one,) = read_split(name, {'dataset': cfg, 'batch_size': 1, **options}, 2)
        shares[(name, *options)] = one.max_bad_share
    assert list(shares.values()) == [0.2, 0.5, 0.0, 0.0]
    (even,) = read_split('train_dataloader', {'dataset': cfg, 'batch_size': 1, 'class_balance': 'equal'}, 2)
    assert even.class_balance == 'equal'


def test_each_part_of_mixed_dataset_is_a_split(tmp_path: Path) -> None:
    (tmp_path / 'a.txt').write_text('a.mp4 0\nb.mp4 1\n')
    (tmp_path / 'b.txt').write_text('c.mp4 2\n')
    parts = [{'type': 'VideoDataset', 'list_file': str(tmp_path / f), 'pipeline': PIPELINE} for f in ('a.txt', 'b.txt')]
    section = {'dataset': {'type': 'MixedDataset', 'datasets': parts, 'weights': [1, 2]}, 'batch_size': 1}
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
    assert [(s.name, len(s.records), len(s.findings)) for s in splits] == [('train', 0, 1)]


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'list_file': 'nowhere.txt'}, 'nowhere.txt'),
        ({'class_file': 'nowhere.txt'}, 'nowhere.txt'),
        ({'classes': [7]}, 'list.txt'),
        ({'pipeline': [{'type': 'OpenVideo', 'decoder': 'eyes'}]}, "decoder='eyes'"),
    ],
)
def test_wrong_dataset_is_a_finding(tmp_path: Path, change: dict, text: str) -> None:
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 1\n')
    cfg = {'type': 'VideoDataset', 'list_file': str(tmp_path / 'list.txt'), 'pipeline': PIPELINE}
    (one,) = read_split('val_dataloader', {'dataset': cfg | change, 'batch_size': 1}, 2)
    (finding,) = one.findings
    assert (list(one.records), finding.level, finding.check, finding.split) == ([], 'error', 'dataset', 'val')
    assert text in finding.text
    assert [f.check for f in quick_report([one], seconds=0).findings] == ['dataset']


def test_wrong_loader_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb.mp4 1\n')
    cfg = {'type': 'VideoDataset', 'list_file': str(tmp_path / 'list.txt'), 'pipeline': PIPELINE}
    for section, expected in (({'batch_size': 3}, 1), ({'batch_size': 2}, 0), ({'batch_size': 4, 'repeat': 2}, 0)):
        (one,) = read_split('train_dataloader', {'dataset': cfg, **section}, 2)
        assert len(one.records) == 2
        assert [(finding.level, finding.check) for finding in one.findings] == [('error', 'dataset')] * expected
    (val,) = read_split('val_dataloader', {'dataset': cfg, 'batch_size': 9}, 2)
    assert not val.findings

import numpy as np
import pytest

from dsanet.data_checks.probe import FileFacts, Job
from dsanet.data_checks.report import Finding, Report
from dsanet.data_checks.run import full_report, quick_report
from dsanet.data_checks.splits import Split
from dsanet.datasets.annotation import VideoRecord
from dsanet.datasets.transforms import CenterCrop, SampleSnippets
from dsanet.reports.dataset_report import draw_report


def dark(image: np.ndarray) -> int:
    return int((image.min(axis=2) < 128).sum())


def make_split(name: str, num_classes: int, number: int, num_frames: int | None = None) -> Split:
    records = [VideoRecord(f'{name}{i}', (i % num_classes,), f'{name}.txt', i + 1, num_frames) for i in range(number)]
    names = [f'class $ number {k}' for k in range(num_classes)]
    return Split(name, records, num_classes, names, steps=[SampleSnippets(2, 4, 4), CenterCrop(224)])


def make_facts(*splits: Split) -> dict[Job, FileFacts]:
    jobs = [split.job_of(record) for split in splits for record in split.records]
    return {
        job: FileFacts(job.path, 'ok' if i else 'hung', None, None, 20 + 900 * (i == 3), 100 + 20 * (i % 12), 320, 25.0)
        for i, job in enumerate(jobs)
    }


@pytest.mark.parametrize('num_classes', [1, pytest.param(40, marks=pytest.mark.sweep), 60])
def test_report_is_drawn_for_few_and_many_classes(num_classes: int) -> None:
    train, val = make_split('train', num_classes, 90), make_split('val', num_classes, 20)
    facts = make_facts(train, val)
    for known, report in ((facts, full_report([train, val], facts)), ({}, quick_report([train, val]))):
        picture = draw_report(report, [train, val, Split('test', val.records)], known, 'title')
        assert picture.shape[1] == 1400
        assert picture.shape[0] >= 700
        assert dark(picture) > 3000


def test_verdict_shows_in_the_color_of_the_title() -> None:
    train = make_split('train', 3, 9, num_frames=30)
    for errors, channel in (([], 1), ([Finding('error', 'x', 'train', 'no ' * 200)], 0)):
        report = Report('quick', quick_report([train]).splits, errors * 20)
        title = draw_report(report, [train], {}, 'title')[:30].astype(int)
        colored = title[(title.max(axis=2) - title.min(axis=2)) > 60]
        assert (colored.argmax(axis=1) == channel).mean() > 0.95


def test_report_of_nothing_is_drawn() -> None:
    report = quick_report([Split('train', [], 3)])
    assert draw_report(report, [Split('train', [], 3)], {}, 'title').shape[1] == 1400

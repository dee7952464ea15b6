import json
import logging
import time

import pytest

from dsanet.data_checks import run
from dsanet.data_checks.report import Finding, Report
from dsanet.data_checks.run import announce, quick_report
from dsanet.data_checks.splits import Split
from dsanet.datasets.annotation import VideoRecord
from tests.data_checks.conftest import split


def test_what_validation_and_test_share_is_said_once() -> None:
    val = split([0, 5], 'val')
    test = Split('test', val.records, 3)
    report = quick_report([split([0, 1, 2]), val, test])
    assert [f.split for f in report.findings if f.check == 'labels'] == ['val']
    assert list(report.splits) == ['train', 'val', 'test']


def test_errors_come_first() -> None:
    found = [Finding(level, 'x', 'val', level) for level in ('note', 'error', 'warning', 'error')]
    assert [f.level for f in run._sorted(found)] == ['error', 'warning', 'note']  # the second error is the first


def test_announce_logs_warnings_and_raises_errors(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {'train': {'videos': 3, 'classes': 2, 'videos_per_class': (1, 2)}}
    warning = Finding('warning', 'x', 'train', 'look out', ('a', 'b'))
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    with caplog.at_level(logging.INFO, logger='dsanet'):
        announce(Report('quick', numbers, [warning, Finding('note', 'x', 'train', 'never mind')]))
    assert caplog.messages == ['train: 3 videos of 2 classes, 1 to 2 a class', 'train: look out, such as a']
    with pytest.raises(ValueError, match='not fit to train on; --no-check trains nevertheless\ntrain: no'):
        announce(Report('quick', numbers, [Finding('error', 'x', 'train', 'no'), warning]))


def test_quick_form_takes_hundreds_of_thousands_of_lines() -> None:
    train, val = split([i % 400 for i in range(250_000)], num_classes=400), split([1] * 9, 'val', num_classes=400)
    started = time.process_time()
    report = quick_report([train, val], seconds=0.5)
    # Seconds on a machine that does nothing else; this is the processor's time, and generous.
    assert time.process_time() - started < 6
    assert report.splits['train']['videos_per_class'] == (625, 625)
    assert 'of 250,000 videos were looked for, spread over the list' in report.notes[0]


def test_names_that_are_no_utf8_can_be_reported() -> None:
    odd = Split('train', [VideoRecord('wei\udcdf.mp4', (0,), 'x.txt', i) for i in (1, 2)], 3)
    report = quick_report([odd], seconds=0)
    assert r'x.txt:2 (label 0): wei\udcdf.mp4' in report.text()
    assert report.text().encode()
    with pytest.raises(ValueError, match=r'wei\\udcdf'):
        announce(report)
    assert json.dumps(report.to_dict())

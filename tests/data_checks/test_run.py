import json
import logging
import re
import time
from pathlib import Path

import pytest

from dsanet.data_checks import run
from dsanet.data_checks.report import Finding, Report
from dsanet.data_checks.run import log_report, quick_report
from dsanet.data_checks.splits import Split
from dsanet.datasets.records import VideoRecord
from tests.data_checks.conftest import numbers, split
from tests.engine.conftest import make_config


def test_finding_of_val_and_test_is_reported_once() -> None:
    val = split([0, 5], 'val')
    test = Split('test', val.records, 3)
    report = quick_report([split([0, 1, 2]), val, test])
    assert [f.split for f in report.findings if f.check == 'labels'] == ['val']
    assert list(report.splits) == ['train', 'val', 'test']


def test_errors_come_first() -> None:
    found = [Finding(level, 'x', 'val', level) for level in ('note', 'error', 'warning', 'error')]
    assert [f.level for f in run._sort(found)] == ['error', 'warning', 'note']  # equal findings are merged


def test_log_report_logs_warnings_and_raises_errors(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = {'train': {'videos': 3, 'classes': 2, 'videos_per_class': (1, 2)}}
    warning = Finding('warning', 'x', 'train', 'look out', ('a', 'b'))
    monkeypatch.setattr(logging.getLogger('dsanet'), 'propagate', True)
    with caplog.at_level(logging.INFO, logger='dsanet'):
        log_report(Report('quick', splits, [warning, Finding('note', 'x', 'train', 'never mind')]))
    summary, message = caplog.messages
    assert numbers(summary) == ['3', '2', '1', '2']
    assert re.match('train: look out.* a$', message)
    with pytest.raises(ValueError, match='--no-check.*\ntrain: no'):
        log_report(Report('quick', splits, [Finding('error', 'x', 'train', 'no'), warning]))


def test_quick_check_is_fast_for_long_lists() -> None:
    train, val = split([i % 400 for i in range(250_000)], num_classes=400), split([1] * 9, 'val', num_classes=400)
    started = time.process_time()
    report = quick_report([train, val], seconds=0.5)
    # CPU time, with a wide margin for slow machines.
    assert time.process_time() - started < 6
    assert report.splits['train']['videos_per_class'] == (625, 625)
    assert re.match(r'train: [\d,]+ of 250,000 ', report.notes[0])


def test_paths_need_not_be_utf8() -> None:
    train = Split('train', [VideoRecord('wei\udcdf.mp4', (0,), 'x.txt', i) for i in (1, 2)], 3)
    report = quick_report([train], seconds=0)
    assert r'x.txt:2 (label 0): wei\udcdf.mp4' in report.text()
    assert report.text().encode()
    with pytest.raises(ValueError, match=r'wei\\udcdf'):
        log_report(report)
    assert json.dumps(report.to_dict())


def test_test_data_are_found_wrong_before_training(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(data)
    assert run.find_test_errors(config) == ''
    config['test_dataloader']['dataset']['list_file'] = str(tmp_path / 'test.txt')
    assert 'test.txt' in run.find_test_errors(config)
    with caplog.at_level(logging.WARNING, 'dsanet'):
        run.warn_of_test_errors(config)
        assert 'test.txt' in caplog.text
        caplog.clear()
        (tmp_path / 'test.txt').write_text((data / 'val.txt').read_text())
        run.warn_of_test_errors(config)
        config['val_dataloader']['dataset']['list_file'] = config['test_dataloader']['dataset']['list_file']
        (tmp_path / 'test.txt').unlink()
        run.warn_of_test_errors(config)
    assert not caplog.records, 'errors of the validation data are reported by their own check'
    (tmp_path / 'test.txt').write_text('gone.mp4 0\n')
    assert 'gone.mp4' in run.find_test_errors(config)

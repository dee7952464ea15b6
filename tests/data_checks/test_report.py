import json

from dsanet.data_checks.report import Finding
from dsanet.data_checks.run import full_report, quick_report
from dsanet.data_checks.splits import Split
from dsanet.datasets.records import VideoRecord
from tests.data_checks.conftest import facts, numbers, split


def test_report_as_text_and_json() -> None:
    train = split([0, 1, 2, 0])
    report = full_report([train], facts(train, v0={'kind': 'unreadable', 'error': 'broken'}))
    lines = report.text().splitlines()
    assert (numbers(lines[0]), 'full' in lines[0]) == (['1'], True)
    assert numbers(lines[2]) == ['4', '3', '1', '2', '50', '50', '2.0', '2.0', '2.0']
    assert lines[4] == 'errors'
    assert lines[5].startswith('  train: 1 of 4 videos ')
    assert lines[6] == '      train.txt:1: broken'
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain['fit'] is False
    assert plain['splits']['train']['histogram'] == {'0': 2, '1': 1, '2': 1}
    assert plain['splits']['train']['resolutions'] == {'320x240': 3}
    assert plain['findings'][0]['examples'] == ['train.txt:1: broken']


def test_text_is_limited_to_few_examples() -> None:
    finding = Finding('note', 'x', 'val', 'many', tuple(map(str, range(12))))
    *lines, last = str(finding).splitlines()
    assert (lines, numbers(last)) == (['val: many', *(f'    {i}' for i in range(5))], ['7'])


def test_spans_are_counted_as_samples() -> None:
    records = [VideoRecord('a.mp4', (k,), 'a.csv', k + 2, start=k, end=k + 1) for k in (0, 1)]
    train = Split('train', [*records, VideoRecord('b.mp4', (1,), 'a.csv', 4)], num_classes=3)
    report = quick_report([train], seconds=None)
    assert report.splits['train']['videos'] == 3
    assert report.splits['train']['files'] == 2
    assert '3 samples in 2 videos' in report.text()
    missing, _ = report.findings
    assert 'all 3 checked samples' in missing.text

import json

from dsanet.data_checks.report import Finding
from dsanet.data_checks.run import full_report
from tests.data_checks.conftest import facts, split


def test_report_as_text_and_as_json() -> None:
    train = split([0, 1, 2, 0])
    report = full_report([train], facts(train, v0={'kind': 'unreadable', 'error': 'broken'}))
    lines = report.text().splitlines()
    assert lines[0] == 'NOT fit to train: 1 error (full form)'
    assert lines[2] == (
        'train   4 videos of 3 classes, 1 to 2 a class, 50 frames (median 50), 2.0 to 2.0 s (median 2.0)'
    )
    assert lines[4:] == [
        'errors',
        '  train: 1 of 4 videos cannot be read, which ends a run',
        '      train.txt:1: broken',
    ]
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain['fit'] is False
    assert plain['splits']['train']['histogram'] == {'0': 2, '1': 1, '2': 1}
    assert plain['splits']['train']['resolutions'] == {'320x240': 3}
    assert plain['findings'][0]['examples'] == ['train.txt:1: broken']


def test_text_shows_a_few_examples_only() -> None:
    finding = Finding('note', 'x', 'val', 'many', tuple(map(str, range(12))))
    assert str(finding).splitlines() == ['val: many', *(f'    {i}' for i in range(5)), '    and 7 more']

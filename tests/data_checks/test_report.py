import json

from dsanet.data_checks.report import Finding
from dsanet.data_checks.run import full_report
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

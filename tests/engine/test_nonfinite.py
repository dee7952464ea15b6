import json
import logging
from pathlib import Path

import pytest

from dsanet.engine.nonfinite import NonFiniteLog
from dsanet.engine.stopping import RunError
from dsanet.utils import distributed

SCALARS = {'loss': float('nan'), 'grad_norm': float('inf')}
GOOD = {'scalars': {'loss': '1.5', 'grad_norm': 'nan'}, 'paths': ['c', 'd', 'e', 'f']}
BAD = {'scalars': {'loss': 'inf', 'grad_norm': 'nan'}, 'paths': ['g', 'h']}


def test_record_has_the_numbers_and_videos_of_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(distributed, 'all_gather_object', lambda value: [value, GOOD])
    with caplog.at_level(logging.WARNING, 'dsanet'):
        NonFiniteLog(tmp_path, 0, 1).add(2, 7, SCALARS, ['a', 'b'], 0.1)
    assert json.loads((tmp_path / 'nonfinite.jsonl').read_text()) == {
        'epoch': 2,
        'iteration': 7,
        'lr': 0.1,
        'processes': [{'scalars': {'loss': 'nan', 'grad_norm': 'inf'}, 'paths': ['a', 'b']}, GOOD],
    }
    assert caplog.messages == [
        'iteration 7 (epoch 2, lr 0.1) is not finite in process 0: loss nan, grad_norm inf; its videos: a, b; '
        'left out, 1 of at most 1'
    ]


@pytest.mark.parametrize(
    ('every', 'told'),
    [
        ([GOOD, BAD], ' in process 1: loss inf, grad_norm nan; its videos: g, h; '),
        ([BAD, GOOD, BAD], ' in process 0, 2: loss inf, grad_norm nan; its videos: g, h, g, h; '),
        ([BAD, BAD], ': loss inf, grad_norm nan; its videos: g, h, g, h; '),
        ([GOOD, GOOD], ': grad_norm nan; its videos: c, d, e, f and 4 more; '),  # the gradient alone
    ],
)
def test_processes_whose_loss_is_not_finite_are_blamed(
    every: list[dict], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(distributed, 'all_gather_object', lambda value: every)
    with caplog.at_level(logging.WARNING, 'dsanet'):
        NonFiniteLog(tmp_path, 0, 1).add(2, 7, SCALARS, ['a', 'b'], 0.1)
    assert caplog.messages == [f'iteration 7 (epoch 2, lr 0.1) is not finite{told}left out, 1 of at most 1']


def test_one_too_many_is_recorded_and_ends_the_run(tmp_path: Path) -> None:
    log = NonFiniteLog(tmp_path, iteration=9, max_count=3, count=3)
    with pytest.raises(RunError, match=r'iteration 10 .* 4 iterations were not finite, more than .*max_nonfinite=3'):
        log.add(1, 10, SCALARS, ['a'], 0.1)
    assert len((tmp_path / 'nonfinite.jsonl').read_text().splitlines()) == 1


def test_resumed_run_drops_what_it_will_meet_again(tmp_path: Path) -> None:
    log = NonFiniteLog(tmp_path, 0, 9)
    for iteration in (3, 5):
        log.add(1, iteration, SCALARS, ['a'], 0.1)
    with log.file.open('a') as stream:
        stream.write('{"epoch": 1, "iterat')
    assert NonFiniteLog(tmp_path, 4, 9, count=1).count == 1
    assert [json.loads(line)['iteration'] for line in log.file.read_text().splitlines()] == [3]

import json
import logging
from pathlib import Path

import pytest

from dsanet.engine.nonfinite import NonFiniteLog
from dsanet.engine.stopping import RunError
from dsanet.utils import distributed
from dsanet.utils.json_lines import read_json_lines

SCALARS = {'loss': float('nan'), 'grad_norm': float('inf')}
GOOD = {'scalars': {'loss': '1.5', 'grad_norm': 'nan'}, 'paths': ['c', 'd', 'e', 'f']}
BAD = {'scalars': {'loss': 'inf', 'grad_norm': 'nan'}, 'paths': ['g', 'h']}


def add(log: NonFiniteLog, count: int = 1, iteration: int = 7) -> None:
    log.add(count, 2, iteration, SCALARS, ['a', 'b'], 0.1)


def test_record_has_values_of_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(distributed, 'all_gather_object', lambda value: [value, GOOD])
    with caplog.at_level(logging.WARNING, 'dsanet'):
        add(NonFiniteLog(tmp_path, 0, 3), count=2)
    assert json.loads((tmp_path / 'nonfinite.jsonl').read_text()) == {
        'epoch': 2,
        'iteration': 7,
        'lr': 0.1,
        'processes': [{'scalars': {'loss': 'nan', 'grad_norm': 'inf'}, 'paths': ['a', 'b']}, GOOD],
    }
    (message,) = caplog.messages
    for token in (
        'iteration 7 ',
        'epoch 2',
        'lr 0.1',
        'process 0',
        'loss nan, grad_norm inf',
        '2 of at most 3',
        ': a, b',
    ):
        assert token in message


@pytest.mark.parametrize(
    ('every', 'ranks', 'values', 'videos'),
    [
        ([GOOD, BAD], 'process 1 ', 'loss inf, grad_norm nan', 'g, h'),
        ([BAD, GOOD, BAD], 'process 0, 2 ', 'loss inf, grad_norm nan', 'g, h, g, h'),
        ([BAD, BAD], None, 'loss inf, grad_norm nan', 'g, h, g, h'),
        ([GOOD, GOOD], None, 'grad_norm nan', 'c, d, e, f and 4 '),  # only the gradient is not finite
    ],
)
def test_processes_at_fault_are_named(
    every: list[dict], ranks: str | None, values: str, videos: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(distributed, 'all_gather_object', lambda value: every)
    with caplog.at_level(logging.WARNING, 'dsanet'):
        add(NonFiniteLog(tmp_path, 0, 1))
    (message,) = caplog.messages
    assert f' {values} ' in message
    assert f': {videos}' in message
    assert ('c, d' in message) == ('c, d' in videos)
    assert ranks in message if ranks else 'process' not in message


def test_one_too_many_ends_the_run(tmp_path: Path) -> None:
    log = NonFiniteLog(tmp_path, iteration=9, max_count=3)
    with pytest.raises(RunError, match=r'iteration 10 .* 4 .*train_cfg\.max_nonfinite=3'):
        add(log, count=4, iteration=10)
    assert [line['iteration'] for line in read_json_lines(log.file)] == [10]


def test_resumed_run_drops_iterations_it_repeats(tmp_path: Path) -> None:
    log = NonFiniteLog(tmp_path, 0, 9)
    for iteration in (3, 5):
        add(log, iteration=iteration)
    with log.file.open('a') as stream:
        stream.write('{"epoch": 1, "iterat')
    NonFiniteLog(tmp_path, 4, 9)
    assert [json.loads(line)['iteration'] for line in log.file.read_text().splitlines()] == [3]

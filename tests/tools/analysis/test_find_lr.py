import logging
import math
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.config.registry import MODELS, build
from dsanet.engine.train_step import Stepper
from dsanet.engine.trainer import Runner
from dsanet.utils.json_lines import read_lines
from tools.analysis import find_lr
from tools.analysis.find_lr import MEMORY, Point, suggest


def points_of(losses: list[float]) -> list[Point]:
    """Points a factor of 10 in the rate apart, with the average as given."""
    return [Point(10.0**i, loss, loss) for i, loss in enumerate(losses, -MEMORY)]


def test_average_is_without_bias_and_forgets() -> None:
    average = find_lr.Average()
    assert average.add(3.0) == pytest.approx(3.0)
    # Weights 0.9 and 1 of the two values.
    assert average.add(5.0) == pytest.approx((0.9 * 3 + 5) / 1.9)
    for _ in range(200):
        last = average.add(1.0)
    assert last == pytest.approx(1.0)


def test_suggestions_are_the_steepest_descent_and_a_tenth_of_the_minimum() -> None:
    before = [9.0] * MEMORY  # not looked at: the average is of too few
    # Central differences: the steepest is between 4 and 1, at the rate 100.
    points = points_of([*before, 5, 4.8, 4, 1, 0.5, 0.4, 3])
    assert suggest(points) == pytest.approx((100.0, 1e5 / 10))


def test_a_fall_behind_the_minimum_does_not_count() -> None:
    points = points_of([*[9.0] * MEMORY, 4, 2, 1, 50, 20])
    assert suggest(points) == pytest.approx((1.0, 10.0))


@pytest.mark.parametrize('losses', [[1.0, 2.0, 3.0], [1.0]])
def test_nothing_is_suggested_where_nothing_falls(losses: list[float]) -> None:
    points = points_of([*[9.0] * MEMORY, *losses])
    assert suggest(points) is None
    assert 'no suggestion: the average does not fall' in find_lr.describe(points, None, len(points))


@pytest.fixture(autouse=True)
def _logger_of_each_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give back what the command sets up for its log."""
    logger = logging.getLogger('dsanet')
    for name, value in {'handlers': [], 'propagate': True, 'level': logger.level}.items():
        monkeypatch.setattr(logger, name, value)


@pytest.fixture
def runner(config: Path, tmp_path: Path) -> Runner:
    """The tiny run, without data workers, with a head that learns five times as fast."""
    loaded = load_config(config)
    loaded['train_dataloader']['num_workers'] = 0
    loaded['parameters'] = {'lr_multipliers': {'cls_head': 5.0}}
    runner = find_lr.make_runner(loaded, tmp_path)
    runner.start()
    return runner


def test_the_rate_grows_by_a_factor_and_groups_keep_their_multipliers(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, steps = [], find_lr.take_step

    def take_step(runner: Runner, *args: Any) -> float:
        seen.append([group['lr'] for group in runner.optimizer.param_groups])
        return steps(runner, *args)

    monkeypatch.setattr(find_lr, 'take_step', take_step)
    before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
    points = find_lr.range_test(runner, 1e-4, 1e-1, 7)  # more iterations than an epoch has
    rates = [1e-4 * 10 ** (i / 2) for i in range(7)]
    assert [point.rate for point in points] == pytest.approx(rates)
    assert [sorted(lrs) for lrs in seen] == [pytest.approx([rate, 5 * rate]) for rate in rates]
    assert all(not torch.equal(p, before[name]) for name, p in runner.model.named_parameters())


def test_losses_are_those_of_a_training(runner: Runner, config: Path, tmp_path: Path) -> None:
    """The same seed, batches and constant rate as the first epoch of a run with this rate."""
    points = find_lr.range_test(runner, 0.01, 0.01 * (1 + 1e-12), 4)
    loaded = load_config(config, ['optimizer.lr=0.01', 'train_cfg.max_epochs=1'])
    loaded['train_dataloader']['num_workers'] = 0
    loaded['parameters'] = {'lr_multipliers': {'cls_head': 5.0}}
    loaded['schedule'] = {'type': 'StepSchedule', 'milestones': []}
    loaded.pop('val_dataloader')
    straight = Runner(loaded, tmp_path, torch.device('cpu'))
    straight.start()
    straight.train()
    lines = read_lines(tmp_path / 'scalars.jsonl')
    assert len(lines) == 4
    assert [point.loss for point in points] == pytest.approx([line['train/loss'] for line in lines], rel=1e-6)


@pytest.mark.parametrize(
    ('losses', 'kept'),
    [([2.0, 1.0, math.nan, 1.0], 2), ([2.0, 1.0, math.inf, 1.0], 2), ([1.0, 1.0, 50.0, 1.0], 3), ([1.0] * 4, 4)],
)
def test_it_ends_where_the_loss_diverges(
    runner: Runner, losses: list[float], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_lr, 'take_step', lambda _runner, _stepper, _batches, i: losses[i])
    points = find_lr.range_test(runner, 1e-3, 1, 4)
    assert [point.loss for point in points] == losses[:kept]
    assert ('ended after' in find_lr.describe(points, None, 4)) == (kept < 4)


def test_command_prints_a_table_and_a_suggestion_and_leaves_a_picture_alone(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    here, scratch = tmp_path / 'here', tmp_path / 'scratch'
    here.mkdir()
    scratch.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, 'tempdir', str(scratch))
    options = ['train_dataloader.num_workers=0', 'model.cls_head.dropout=0.0', 'train_cfg.base_batch_size=999']
    arguments = ['--start', '1e-4', '--end', '3', '--iterations', '30', '--cfg-options', *options]
    monkeypatch.setattr(sys, 'argv', ['find_lr.py', str(config), *arguments])
    find_lr.main()
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if re.fullmatch(r'[ \d.e+-]+', line)]
    assert len(rows) == 30
    rates = [float(row[0]) for row in rows]
    assert rates == sorted(set(rates))
    assert (rates[0], rates[-1]) == (1e-4, 3)
    suggested = [float(number) for number in re.findall(r'(?:rate of|lowest:) ([\d.e+-]+)$', out, re.M)]
    assert len(suggested) == 2
    assert all(1e-5 <= rate <= 3 for rate in suggested)
    picture = Path('work_dirs', config.stem, 'lr.png')
    assert [file for file in Path().rglob('*') if file.is_file()] == [picture]
    assert cv2.imread(str(picture)).std() > 5  # something is drawn
    assert '--scale-lr' not in caplog.text, 'which this command has not'
    assert list(scratch.iterdir()) == []


def test_options_reach_the_run(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Weights, precision, clipping and accumulation, seen at the first step; its loss is then not finite."""
    model = build(load_config(config)['model'], MODELS, 'model')
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'weights.pth')
    seen = []

    def take_step(runner: Runner, stepper: Stepper, batches: list, _iteration: int) -> float:
        same = all(torch.equal(p, model.state_dict()[name]) for name, p in runner.model.named_parameters())
        seen.append((same, stepper.amp, stepper.clip_grad_norm, stepper.average, len(batches), runner.val_loader))
        return math.nan

    monkeypatch.setattr(find_lr, 'take_step', take_step)
    options = ['train_cfg.clip_grad_norm=7', 'train_cfg.accumulate=2', 'train_cfg.ema_decay=0.9']
    arguments = ['--load-from', str(tmp_path / 'weights.pth'), '--amp', 'bf16', '--cfg-options', *options]
    monkeypatch.setattr(sys, 'argv', ['find_lr.py', str(config), *arguments])
    with pytest.raises(SystemExit, match='error: the loss is not finite at a learning rate of 1e-05'):
        find_lr.main()
    torch.backends.mkldnn.set_flags(True)  # taken back: bf16 switches it off
    assert seen == [(True, 'bf16', 7, None, 2, None)]


def test_a_gradient_that_is_not_finite_ends_it_too(runner: Runner) -> None:
    next(runner.model.cls_head.parameters()).data.fill_(math.inf)
    assert find_lr.range_test(runner, 1e-3, 1, 4) == []


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['--start', '1', '--end', '0.1'], '--start 1.0 and --end 0.1 must be above 0, the start below the end'),
        (['--start', '0'], '--start 0.0 and --end 1.0 must be above 0'),
        (['--iterations', '20'], '--iterations 20 must be above 20'),
        (['--out', 'lr.docx'], 'error: --out lr.docx must end with one of .'),
        (['--out', 'nowhere/lr.png'], 'error: --out nowhere/lr.png: there is no folder'),
        (['--load-from', 'nowhere.pth'], 'error: there is no checkpoint'),
        (['--cfg-options', 'optimizer.lr=0'], 'error: optimizer.lr=0 must be above 0'),
    ],
)
def test_mistakes_are_plain_errors(
    arguments: list[str], text: str, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, 'argv', ['find_lr.py', str(config), *arguments])
    with pytest.raises(SystemExit) as end:
        find_lr.main()
    assert end.value.code == 2
    assert text in capsys.readouterr().err


def test_a_config_that_only_tests_is_refused(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    loaded = load_config(config)
    loaded.pop('train_dataloader')
    (tmp_path / 'tests_only.py').write_text(format_config(loaded))
    monkeypatch.setattr(sys, 'argv', ['find_lr.py', str(tmp_path / 'tests_only.py')])
    with pytest.raises(SystemExit):
        find_lr.main()
    assert capsys.readouterr().err == 'error: the config has no train_dataloader, which training needs\n'

import logging
import math
import re
import tempfile
from pathlib import Path

import cv2
import pytest
import torch

from dsanet import commands
from dsanet.config.formatting import format_config
from dsanet.config.loading import load_config
from dsanet.config.registry import MODELS, build
from dsanet.engine import range_test
from dsanet.engine.train_step import Stepper
from dsanet.engine.trainer import Trainer


@pytest.fixture(autouse=True)
def _logger_of_each_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give back what the command sets up for its log."""
    logger = logging.getLogger('dsanet')
    for name, value in {'handlers': [], 'propagate': True, 'level': logger.level}.items():
        monkeypatch.setattr(logger, name, value)


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
    commands.main(['find-lr', str(config), *arguments])
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

    def take_step(trainer: Trainer, stepper: Stepper, batches: list, _iteration: int) -> float:
        same = all(torch.equal(p, model.state_dict()[name]) for name, p in trainer.model.named_parameters())
        seen.append((same, stepper.amp, stepper.clip_grad_norm, stepper.average, len(batches), trainer.val_loader))
        return math.nan

    monkeypatch.setattr(range_test, 'take_step', take_step)
    options = ['train_cfg.clip_grad_norm=7', 'train_cfg.accumulate=2', 'train_cfg.ema_decay=0.9']
    arguments = ['--load-from', str(tmp_path / 'weights.pth'), '--amp', 'bf16', '--cfg-options', *options]
    with pytest.raises(SystemExit, match='error: the loss is not finite at a learning rate of 1e-05'):
        commands.main(['find-lr', str(config), *arguments])
    torch.backends.mkldnn.set_flags(True)  # taken back: bf16 switches it off
    assert seen == [(True, 'bf16', 7, None, 2, None)]


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['--start', '1', '--end', '0.1'], '--start 1.0 and --end 0.1 must be above 0, the start below the end'),
        (['--start', '0'], '--start 0.0 and --end 1.0 must be above 0'),
        (['--iterations', '20'], '--iterations 20 must be above 20'),
        (['--out', 'lr.docx'], 'error: --out lr.docx'),
        (['--out', 'nowhere/lr.png'], 'error: --out nowhere/lr.png'),
        (['--load-from', 'nowhere.pth'], 'error: there is no checkpoint'),
        (['--cfg-options', 'optimizer.lr=0'], 'error: optimizer.lr=0 must be above 0'),
    ],
)
def test_mistakes_are_plain_errors(
    arguments: list[str], text: str, config: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as end:
        commands.main(['find-lr', str(config), *arguments])
    assert end.value.code == 2
    assert text in capsys.readouterr().err


def test_a_config_that_only_tests_is_refused(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    loaded = load_config(config)
    loaded.pop('train_dataloader')
    (tmp_path / 'tests_only.py').write_text(format_config(loaded))
    with pytest.raises(SystemExit):
        commands.main(['find-lr', str(tmp_path / 'tests_only.py')])
    assert capsys.readouterr().err == 'error: the config has no train_dataloader, which training needs\n'

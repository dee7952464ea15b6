import logging
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
from dsanet.engine.train_step import Stepper
from tests.engine.conftest import make_config


@pytest.fixture(autouse=True)
def _logger_of_each_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what the command changes in the logger."""
    logger = logging.getLogger('dsanet')
    for name, value in {'handlers': [], 'propagate': True, 'level': logger.level}.items():
        monkeypatch.setattr(logger, name, value)


@pytest.fixture
def config(data: Path, tmp_path: Path) -> Path:
    """A config file without data workers, which would outlive a test that ends with an error."""
    (tmp_path / 'tiny.py').write_text(format_config(make_config(data)))
    return tmp_path / 'tiny.py'


def test_prints_table_and_writes_only_a_picture(
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
    options = ['model.cls_head.dropout=0.0', 'train_cfg.base_batch_size=999']
    arguments = ['--start', '1e-4', '--end', '3', '--iterations', '30', '--cfg-options', *options]
    commands.main(['find-lr', str(config), *arguments])
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if re.fullmatch(r'[ \d.e+-]+', line)]
    assert len(rows) == 30
    rates = [float(row[0]) for row in rows]
    assert rates == sorted(set(rates))
    assert (rates[0], rates[-1]) == (1e-4, 3)
    suggested = [float(number) for number in re.findall(r'[a-z:] ([\d.e+-]+)$', out, re.M)]
    assert len(suggested) == 2
    assert all(1e-5 <= rate <= 3 for rate in suggested)
    picture = Path('work_dirs', config.stem, 'lr.png')
    assert str(picture) in out
    assert [file for file in Path().rglob('*') if file.is_file()] == [picture]
    assert cv2.imread(str(picture)).std() > 5  # something is drawn
    assert '--scale-lr' not in caplog.text  # an option of another command
    # torch's compiler makes a folder when it is imported.
    assert [file.name for file in scratch.iterdir() if not file.name.startswith('torchinductor')] == []


def test_options_reach_the_training(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Weights, precision, clipping and accumulation, seen in the first step, whose loss is not finite."""
    model = build(load_config(config)['model'], MODELS, 'model')
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'weights.pth')
    seen = []

    def backward(self: Stepper, batches: list, _iteration: int) -> dict[str, torch.Tensor]:
        is_loaded = all(torch.equal(p, model.state_dict()[name]) for name, p in self.model.named_parameters())
        seen.append((is_loaded, self.runtime.amp, self.train_cfg.clip_grad_norm, self.average, len(batches)))
        return {'loss': torch.tensor(torch.nan), 'grad_norm': torch.tensor(torch.nan)}

    monkeypatch.setattr(Stepper, 'backward', backward)
    options = ['train_cfg.clip_grad_norm=7', 'train_cfg.accumulate=2', 'train_cfg.ema_decay=0.9']
    arguments = ['--load-from', str(tmp_path / 'weights.pth'), '--amp', 'bf16', '--cfg-options', *options]
    with pytest.raises(SystemExit, match='1e-05'):
        commands.main(['find-lr', str(config), *arguments])
    assert seen == [(True, 'bf16', 7, None, 2)]


@pytest.mark.parametrize(
    ('arguments', 'tokens'),
    [
        (['--start', '1', '--end', '0.1'], ['--start 1.0', '--end 0.1']),
        (['--start', '0'], ['--start 0.0', '--end 1.0']),
        (['--iterations', '20'], ['--iterations 20', 'above 20']),
        (['--out', 'lr.docx'], ['--out', 'lr.docx', '.png']),
        (['--out', 'nowhere/lr.png'], ['--out', 'nowhere']),
        (['--load-from', 'nowhere.pth'], ['nowhere.pth']),
        (['--cfg-options', 'optimizer.lr=0'], ['optimizer.lr=0']),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], tokens: list[str], config: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.main(['find-lr', str(config), *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert 'error: ' in error
    assert all(token in error for token in tokens), error


def test_default_folder_is_checked_before_training(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'work_dirs').touch()
    monkeypatch.setattr(Stepper, '__init__', None)  # building the model is an error
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['find-lr', str(config)])
    assert 'work_dirs' in capsys.readouterr().err


def test_config_without_training_data_is_refused(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    loaded = load_config(config)
    loaded.pop('train_dataloader')
    (tmp_path / 'test_only.py').write_text(format_config(loaded))
    with pytest.raises(SystemExit):
        commands.main(['find-lr', str(tmp_path / 'test_only.py')])
    assert re.fullmatch(r'error: .*train_dataloader.*\n', capsys.readouterr().err)


def test_plot_does_not_replace_an_input(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / 'weights.png'
    file.write_text('weights')
    with pytest.raises(SystemExit, match='^2$'):
        commands.main(['find-lr', str(config), '--load-from', str(file), '--out', str(file)])
    assert f'--out {file}' in capsys.readouterr().err
    assert file.read_text() == 'weights'

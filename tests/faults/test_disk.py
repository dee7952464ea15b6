"""Runs on a real disk that becomes full: nothing that was good is lost, and the run says so."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsanet.engine.stopping import RunError
from dsanet.engine.train_step import Stepper
from dsanet.utils.checkpoint_io import read_checkpoint
from tests.engine.test_checkpointing import small_disk  # noqa: F401
from tests.engine.test_trainer import assert_same_run, numbers_of, small_steps, train
from tests.faults.conftest import Record

pytestmark = pytest.mark.faults


def fill(folder: Path) -> Path:
    """Take all that is left of a disk."""
    file = folder / 'others'
    with file.open('wb', buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(2**10))
        except OSError:
            return file


@pytest.fixture
def filling(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # noqa: F811
    """Let others fill the disk before the third iteration of a run, and leave it before the sixth."""
    original = Stepper.backward

    def set_rate(self: Stepper, batches: list, iteration: int) -> dict:
        if iteration == 2 and not (small_disk / 'others').exists():
            fill(small_disk)
        if iteration == 5:
            (small_disk / 'others').unlink(missing_ok=True)
        return original(self, batches, iteration)

    monkeypatch.setattr(Stepper, 'backward', set_rate)
    yield
    monkeypatch.undo()


@pytest.mark.parametrize('on_save_error', ['stop', 'continue'])
def test_full_disk_costs_no_more_than_lines_of_the_curves(
    data: Path,
    small_disk: Path,  # noqa: F811
    filling: None,
    tmp_path: Path,
    on_save_error: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    record_fault: Record,
) -> None:
    config = small_steps(data, on_save_error=on_save_error, log_interval=1)
    work_dir = small_disk / 'run'
    with caplog.at_level(logging.WARNING, 'dsanet'):
        if on_save_error == 'stop':
            with pytest.raises(RunError, match='could not be written: No space left on device; the last good'):
                train(config, work_dir)
            assert read_checkpoint(work_dir / 'epoch_0_iter_2.pth')['iteration'] == 2
            (small_disk / 'others').unlink()
            monkeypatch.undo()
            train(config, work_dir, resume='auto')
        else:
            train(config, work_dir)
            assert caplog.text.count('No space left on device; the last good') >= 3
    train(small_steps(data, log_interval=1), tmp_path / 'undisturbed')
    for name in ('epoch_2.pth', 'best.pth'):
        assert_same_run(*(read_checkpoint(folder / name) for folder in (work_dir, tmp_path / 'undisturbed')))
    lines, expected = numbers_of(work_dir), numbers_of(tmp_path / 'undisturbed')
    assert all(line in expected for line in lines)
    assert lines == expected or on_save_error == 'continue'
    record_fault(f"full disk, on_save_error='{on_save_error}'", 1, f'{len(lines)} of {len(expected)} lines of curves')


def test_run_whose_last_checkpoint_is_missing_ends_with_an_error(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.fsync

    def fail(number: int) -> None:
        if 'epoch_2' in os.readlink(f'/proc/self/fd/{number}'):
            raise OSError(28, 'No space left on device')
        original(number)

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(RunError, match='the training is over, but its last checkpoint could not be written to '):
        train(small_steps(data, on_save_error='continue'), tmp_path)
    assert (tmp_path / 'epoch_1.pth').is_file()

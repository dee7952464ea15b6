"""A run on a real disk that fills up: it stops with an error, and can be resumed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dsanet.engine.stopping import RunError
from dsanet.engine.train_step import Stepper
from dsanet.utils.checkpoint_io import read_checkpoint
from tests.engine.conftest import assert_same_run, read_curves, small_steps, train
from tests.engine.test_checkpointing import small_disk  # noqa: F401

pytestmark = pytest.mark.faults


def fill(folder: Path) -> Path:
    """Fill the rest of a disk."""
    file = folder / 'others'
    with file.open('wb', buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(2**10))
        except OSError:
            return file


@pytest.fixture
def filling(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # noqa: F811
    """Fill the disk in the third iteration of a run, and free it in the sixth."""
    original = Stepper.backward

    def fill_or_free(self: Stepper, batches: list, iteration: int) -> dict:
        if iteration == 2 and not (small_disk / 'others').exists():
            fill(small_disk)
        if iteration == 5:
            (small_disk / 'others').unlink(missing_ok=True)
        return original(self, batches, iteration)

    monkeypatch.setattr(Stepper, 'backward', fill_or_free)
    yield
    monkeypatch.undo()


def test_run_stopped_by_full_disk_resumes_bit_identical(
    data: Path,
    small_disk: Path,  # noqa: F811
    filling: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small_steps(data, log_interval=1)
    work_dir = small_disk / 'run'
    with pytest.raises(RunError, match='No space left on device'):
        train(config, work_dir)
    assert read_checkpoint(work_dir / 'epoch_0_iter_2.pth')['iteration'] == 2
    (small_disk / 'others').unlink()
    monkeypatch.undo()
    train(config, work_dir, resume='auto')
    train(config, tmp_path / 'undisturbed')
    for name in ('epoch_2.pth', 'best.pth'):
        assert_same_run(*(read_checkpoint(folder / name) for folder in (work_dir, tmp_path / 'undisturbed')))
    lines = read_curves(work_dir)
    assert lines == read_curves(tmp_path / 'undisturbed')

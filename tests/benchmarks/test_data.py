"""Each sample is loaded as often as reported, and lists have the requested lines."""

import sys
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from dsanet.benchmarks.data import benchmark_data, benchmark_lists, benchmark_test
from dsanet.datasets import text_lists
from dsanet.datasets.transforms.packing import PackInputs
from tests.benchmarks.conftest import CPU

pytestmark = pytest.mark.usefixtures('short')


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Count the samples that this process makes, by index."""
    counts: Counter = Counter()
    call = PackInputs.__call__
    monkeypatch.setattr(
        PackInputs, '__call__', lambda self, record: counts.update([record['index']]) or call(self, record)
    )
    return counts


def test_data_counts_samples_here_and_in_workers(config: dict, packed: Counter) -> None:
    here, workers = benchmark_data('tiny', config, 2, 1, num_samples=6)
    assert (here.facts['samples'], workers.facts['samples']) == (4, 4), 'whole batches of 4'
    assert sum(packed.values()) == 3 * 4
    assert (here.facts['workers'], workers.facts['workers']) == (0, 1)
    for result in (here, workers):
        assert result.facts['samples_per_s'] == pytest.approx(4 / median(result.wall_s))
        assert result.facts['cpu_s_per_sample'] == pytest.approx(min(result.cpu_s) / 4)
        assert result.facts['cpu_s_per_sample'] > 0
    if sys.platform == 'linux':
        assert 1 < workers.facts['worker_pss_mb'] < workers.facts['worker_peak_mb']


def test_data_without_workers_is_one_result(config: dict) -> None:
    config['train_dataloader']['num_workers'] = 0
    [result] = benchmark_data('tiny', config, 1, 1, num_samples=1)
    assert result.facts['samples'] == 4


def test_each_validation_video_is_scored_once_per_repeat(config: dict, packed: Counter) -> None:
    config['val_dataloader']['num_workers'] = 0
    [result] = benchmark_test('tiny', config, 2, 1, CPU)
    assert packed == dict.fromkeys(range(8), 3)
    assert result.facts['samples'] == 8
    assert result.facts['samples_per_s'] > 0


def test_config_without_validation_is_an_error(config: dict) -> None:
    del config['val_dataloader'], config['test_dataloader']
    with pytest.raises(ValueError, match='val_dataloader'):
        benchmark_test('tiny', config, 1, 1, CPU)


@pytest.mark.parametrize('kind', ['VideoDataset', 'RawFramesDataset'])
def test_list_has_the_requested_lines(config: dict, kind: str) -> None:
    pipeline = config['train_dataloader']['dataset']['pipeline']
    steps = pipeline if kind == 'VideoDataset' else [pipeline[1], {'type': 'DecodeRawFrames'}, *pipeline[3:]]
    config['train_dataloader']['dataset'] = {'type': kind, 'list_file': 'missing.txt', 'pipeline': steps}
    [result] = benchmark_lists('tiny', config, 2, 1, num_lines=123)
    assert result.facts['lines'] == 123
    assert len(result.cpu_s) == 2
    if sys.platform == 'linux':
        assert result.facts['worker_private_mb'] > 0


def test_each_repeat_parses_the_list(config: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = config['train_dataloader']['dataset']['pipeline']
    config['train_dataloader']['dataset'] = {'type': 'VideoDataset', 'list_file': 'missing.txt', 'pipeline': pipeline}
    sizes = []
    read = text_lists.read_columns
    monkeypatch.setattr(text_lists, 'read_columns', lambda text, *rest: sizes.append(len(text)) or read(text, *rest))
    benchmark_lists('tiny', config, 3, 2, num_lines=50)
    assert sizes == [sizes[0]] * (1 + 2 + 3), 'for the memory, then warm-up and repeats'
    assert sizes[0] > 50 * 50


def test_missing_data_is_an_error(config: dict, tmp_path: Path) -> None:
    config['train_dataloader']['dataset']['data_root'] = str(tmp_path / 'none')
    with pytest.raises(FileNotFoundError, match='none'):
        benchmark_data('tiny', config, 1, 1, 4)

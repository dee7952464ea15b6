"""Trackers with small fakes of the packages, which do not have to be installed."""

import logging
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dsanet.config.registry import TRACKERS, build
from dsanet.engine import trackers
from dsanet.engine.trackers import MlflowTracker, Tracker, WandbTracker

CONFIG = {'optimizer': {'type': 'SGD', 'lr': 0.1}, 'metrics': [{'type': 'Accuracy', 'topk': (1, 5)}], 'empty': {}}


class FakeWandb(ModuleType):
    """Keeps runs by their id, with the data that the service would show."""

    def __init__(self) -> None:
        super().__init__('wandb')
        self.runs: dict[str, Any] = {}
        self.given: list[dict] = []

    def init(self, id: str | None, **options: Any) -> Any:
        self.given.append({'id': id, **options})
        run = self.runs.setdefault(id or 'abc', SimpleNamespace(id=id or 'abc', lines=[], metrics={}))
        run.log = run.lines.append
        run.define_metric = lambda name, step_metric=None: run.metrics.update({name: step_metric})
        run.finish = lambda: run.lines.append('finished')
        return run


class FakeMlflow(ModuleType):
    """Keeps experiments, runs, parameters and metrics, with the limits of the real service."""

    def __init__(self) -> None:
        super().__init__('mlflow')
        self.experiments: dict[str, str] = {}
        self.params: dict[str, str] = {}
        self.metrics: list[tuple[str, float, int]] = []
        self.status: list[str] = []
        self.names: list[str] = []
        self.uris: list[str | None] = []
        self.entities = SimpleNamespace(
            Param=lambda key, value: SimpleNamespace(key=key, value=value),
            Metric=lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value, step=step),
        )

    def MlflowClient(self, uri: str | None) -> Any:  # noqa: N802 - mlflow's name
        self.uris.append(uri)
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def create_run(self, number: str, run_name: str) -> Any:
        self.names.append(f'{number}/{run_name}')
        return SimpleNamespace(info=SimpleNamespace(run_id='def'))

    def update_run(self, run_id: str, status: str) -> None:
        if run_id != 'def':
            raise LookupError(f'no run {run_id}\nand more text')
        self.status.append(status)

    def log_batch(self, run_id: str, params: Any = (), metrics: Any = ()) -> None:
        assert run_id == 'def'
        assert len(params) <= 100
        for param in params:
            assert param.key not in self.params
            self.params[param.key] = param.value
        self.metrics += [(metric.key, metric.value, metric.step) for metric in metrics]

    def set_terminated(self, run_id: str) -> None:
        self.status.append('FINISHED')


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    return fake


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, 'mlflow', fake)
    for name in trackers.MLFLOW_REQUEST_LIMITS:
        monkeypatch.setenv(name, '')  # so that the value set by a tracker is undone
        monkeypatch.delenv(name)
    return fake


def run_and_resume(make: Any, work_dir: Path) -> str:
    """Train for 2 iterations with a validation, be killed, and resume for 2 more."""
    tracker = make()
    run_id = tracker.start(CONFIG, work_dir, None)
    for i in (1, 2):
        tracker.log({'train/loss': 1 / i, 'train/lr': 0.1}, i)
    tracker.log({'val/top1': 40.0}, 2)
    tracker = make()
    assert tracker.start({**CONFIG, 'optimizer': {'lr': 9}}, work_dir, run_id) == run_id
    for i in (3, 4):
        tracker.log({'train/loss': 1 / i, 'train/lr': 0.1}, i)
    tracker.finish()
    return run_id


def test_wandb_run_is_resumed(wandb: FakeWandb, tmp_path: Path) -> None:
    make = lambda: WandbTracker('actions', entity='team')  # noqa: E731
    assert run_and_resume(make, tmp_path / 'my_run') == 'abc'
    run = wandb.runs['abc']
    train = [{'train/loss': 1 / i, 'train/lr': 0.1, 'train/iteration': i} for i in range(1, 5)]
    assert run.lines == [*train[:2], {'val/top1': 40.0, 'val/iteration': 2}, *train[2:], 'finished']
    assert run.metrics['train/*'] == 'train/iteration'
    assert run.metrics['val/*'] == 'val/iteration'
    fixed = {'project': 'actions', 'name': 'my_run', 'entity': 'team', 'dir': str(tmp_path / 'my_run')}
    assert wandb.given[0] == {**fixed, 'id': None, 'resume': None, 'config': CONFIG}
    assert (wandb.given[1]['id'], wandb.given[1]['resume']) == ('abc', 'allow')


def test_mlflow_run_is_resumed(mlflow: FakeMlflow, tmp_path: Path) -> None:
    make = lambda: MlflowTracker('actions', 'sqlite:///x.db')  # noqa: E731
    assert run_and_resume(make, tmp_path / 'my_run') == 'def'
    for name, values in (
        ('train/loss', [(1 / i, i) for i in range(1, 5)]),
        ('train/lr', [(0.1, i) for i in range(1, 5)]),
        ('val/top1', [(40.0, 2)]),
    ):
        assert [(value, step) for key, value, step in mlflow.metrics if key == name] == values
    assert mlflow.params == {
        'optimizer.type': 'SGD',
        'optimizer.lr': '0.1',
        'metrics.0.type': 'Accuracy',
        'metrics.0.topk.0': '1',
        'metrics.0.topk.1': '5',
        'empty': '{}',
    }
    assert mlflow.status == ['RUNNING', 'FINISHED']
    assert mlflow.names == ['0/my_run']
    assert mlflow.uris == ['sqlite:///x.db'] * 2


def test_mlflow_accepts_long_configs_and_existing_experiments(mlflow: FakeMlflow, tmp_path: Path) -> None:
    mlflow.create_experiment('other')
    mlflow.create_experiment('actions')
    tracker = MlflowTracker('actions', name='mine')
    tracker.start({'numbers': list(range(250)), 'text': 'x' * 600}, tmp_path, None)
    assert len(mlflow.params) == 251
    assert mlflow.params['text'] == 'x' * 500
    assert mlflow.names == ['1/mine']


def test_mlflow_requests_time_out_early(mlflow: FakeMlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MLFLOW_HTTP_REQUEST_TIMEOUT', '5')
    MlflowTracker('actions')
    assert trackers.os.environ['MLFLOW_HTTP_REQUEST_MAX_RETRIES'] == '1'
    assert trackers.os.environ['MLFLOW_HTTP_REQUEST_TIMEOUT'] == '5'


@pytest.mark.parametrize(
    ('cfg', 'package'),
    [
        ({'type': 'WandbTracker', 'project': 'actions'}, 'wandb'),
        ({'type': 'MlflowTracker', 'experiment': 'actions'}, 'mlflow'),
    ],
)
def test_missing_package_is_reported_with_install_command(
    cfg: dict, package: str, mlflow: FakeMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    text = rf'^runtime.trackers.0 \({cfg["type"]}\): .*pip install {package}$'
    with pytest.raises(ValueError, match=text):
        build(cfg, TRACKERS, 'runtime.trackers.0')


class Unreliable(Tracker):
    """A service that fails while ``is_down``."""

    def __init__(self) -> None:
        super().__init__('json')
        self.is_down = False
        self.received: list[int] = []
        self.num_calls = 0

    def _answer(self) -> None:
        self.num_calls += 1
        if self.is_down:
            raise ConnectionError('no route\nto host')

    def open(self, config: Any, work_dir: Path, run_id: str | None) -> str | None:
        self._answer()
        return 'id'

    def send(self, scalars: Any, iteration: int) -> None:
        self._answer()
        self.received.append(iteration)

    def close(self) -> None:
        self._answer()


def test_failed_service_warns_once_and_is_retried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr(trackers.time, 'monotonic', lambda: now)
    tracker = Unreliable()
    tracker.start({}, Path('x'), None)
    tracker.log({'train/loss': 1}, 1)
    tracker.is_down = True
    for i in (2, 3, 4):
        tracker.log({'train/loss': 1}, i)
    assert tracker.num_calls == 3  # start, 1 and 2; then it waits
    now += trackers.RETRY_INTERVAL_S
    tracker.log({'train/loss': 1}, 5)
    now += trackers.RETRY_INTERVAL_S
    tracker.is_down = False
    tracker.log({'train/loss': 1}, 6)
    assert tracker.received == [1, 6]
    tracker.is_down = True
    tracker.finish()
    assert len(caplog.messages) == 1
    assert re.search('Unreliable .*ConnectionError: no route.*scalars.jsonl', caplog.messages[0])


def test_failed_start_raises_only_for_new_runs(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Unreliable()
    tracker.is_down = True
    with pytest.raises(ValueError, match='^Unreliable .*ConnectionError: no route$'):
        tracker.start({}, Path('x'), None)
    with caplog.at_level(logging.WARNING):
        assert tracker.start({}, Path('x'), 'id') == 'id'
    assert len(caplog.messages) == 1
    tracker.is_down = False
    tracker.log({'train/loss': 1}, 1)
    tracker.finish()
    assert tracker.received == []

"""Experiment trackers: services that collect the curves of many runs. None is needed; ``runtime.trackers`` names them.

The numbers also stand in ``scalars.jsonl`` and TensorBoard, so a service that is away costs nothing but its own curves.
"""

import importlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsanet.config.registry import TRACKERS
from dsanet.utils.files import write_atomically
from dsanet.utils.json_lines import read_lines

LOGGER = logging.getLogger(__name__)

PAUSE = 600.0  # seconds until a service that failed is tried again: each try may wait for it
# MLflow's own settings would hold the training for minutes while its server is away.
PATIENCE = {'MLFLOW_HTTP_REQUEST_MAX_RETRIES': '1', 'MLFLOW_HTTP_REQUEST_TIMEOUT': '30'}
MAX_PARAMS = 100  # of MLflow's log_batch
MAX_VALUE = 500  # characters of a parameter that every version of MLflow takes


class Tracker:
    """Sends scalars to a service, from rank 0 alone.

    Lines that the service has already, because the run was killed and starts again from an earlier checkpoint, are not
    sent again. Lines that it does not take are kept and tried again later.

    Args:
        package: what has to be installed.

    Raises:
        ValueError: the package is missing.
    """

    def __init__(self, package: str) -> None:
        try:
            self.package: Any = importlib.import_module(package)
        except ImportError as error:
            raise ValueError(f'needs {package}: pip install {package}') from error
        self._is_started = False
        self._waiting: list[tuple[int, dict[str, float]]] = []
        self._has_warned = False
        self._not_before = 0.0

    def start(self, config: Mapping[str, Any], work_dir: Path, run_id: str | None) -> str | None:
        """Begin a run of the service, or go on with one.

        Args:
            config: the resolved config, to show beside the curves.
            work_dir: the run's folder; its name is the default name.
            run_id: what the interrupted run got from this method, or None for a new one.

        Returns:
            What to give as ``run_id`` when the run is resumed; None if it is not known.

        Raises:
            ValueError: a new run cannot be begun. A resumed one goes on without the service, with a warning.
        """
        try:
            run_id = self.open(config, work_dir, run_id)
            self._is_started = True
        except Exception as error:
            if run_id is None:
                raise ValueError(f'{type(self).__name__} cannot start: {_describe(error)}') from error
            self._warn(error)
        return run_id

    def log(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Send named numbers, such as ``train/loss``; never raises.

        Args:
            scalars: name to number.
            iteration: iterations done, the x axis.
        """
        self._waiting.append((iteration, dict(scalars)))
        if self._is_started and time.monotonic() >= self._not_before:
            self._try(self._send_waiting)

    def finish(self) -> None:
        """Send what is left and end the run of the service; never raises."""
        if self._is_started:
            self._try(self._send_waiting)
            self._try(self.close)

    def _send_waiting(self) -> None:
        while self._waiting:
            iteration, scalars = self._waiting[0]
            new = {name: value for name, value in scalars.items() if iteration > self.last_iteration(name)}
            if new:
                self.send(new, iteration)
            del self._waiting[0]

    def _try(self, action: Callable[[], None]) -> None:
        """Do something with the service; what goes wrong there must not end a training."""
        try:
            action()
        except Exception as error:
            self._not_before = time.monotonic() + PAUSE
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            text = '%s failed, and the training goes on; what the service misses is in scalars.jsonl: %s'
            LOGGER.warning(text, type(self).__name__, _describe(error))
        self._has_warned = True

    def open(self, config: Mapping[str, Any], work_dir: Path, run_id: str | None) -> str | None:
        """Begin or take up a run of the service; arguments and result of :meth:`start`."""
        raise NotImplementedError(f'{type(self).__name__} has no open')

    def last_iteration(self, name: str) -> int:
        """Return the last iteration for which the service has a scalar from before the resumption, or -1."""
        raise NotImplementedError(f'{type(self).__name__} has no last_iteration')

    def send(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Hand scalars over."""
        raise NotImplementedError(f'{type(self).__name__} has no send')

    def close(self) -> None:
        """End the run of the service."""
        raise NotImplementedError(f'{type(self).__name__} has no close')


@TRACKERS.register_module()
class WandbTracker(Tracker):
    """Weights & Biases. Where it logs in and whether it is online, its own environment variables say.

    Curves of ``train/...`` and ``val/...`` are drawn over ``train/iteration`` and ``val/iteration``. Without a network,
    ``WANDB_MODE=offline`` writes into the work dir for ``wandb sync``; a resumed run then knows nothing of the lines
    that the interrupted one wrote behind its last checkpoint.

    Args:
        project: the project's name.
        name: the run's; None for the name of the work dir.
        entity: user or team; None for the default of the account.

    Raises:
        ValueError: wandb is not installed.
    """

    def __init__(self, project: str, name: str | None = None, entity: str | None = None) -> None:
        super().__init__('wandb')
        self.project = project
        self.name = name
        self.entity = entity
        self._run: Any = None
        self._last: dict[str, int] = {}

    def open(self, config: Mapping[str, Any], work_dir: Path, run_id: str | None) -> str | None:
        self._run = self.package.init(
            project=self.project,
            name=self.name or work_dir.name,
            entity=self.entity,
            id=run_id,
            resume=None if run_id is None else 'allow',
            dir=str(work_dir),
            config=dict(config),
        )
        for part in ('train', 'val'):
            self._run.define_metric(f'{part}/iteration')
            self._run.define_metric(f'{part}/*', step_metric=f'{part}/iteration')
            self._last[part] = self._run.summary.get(f'{part}/iteration', -1)
        return self._run.id

    def last_iteration(self, name: str) -> int:
        return self._last.get(name.partition('/')[0], -1)

    def send(self, scalars: Mapping[str, float], iteration: int) -> None:
        parts = {name.partition('/')[0] for name in scalars}
        self._run.log({**scalars, **{f'{part}/iteration': iteration for part in parts}})

    def close(self) -> None:
        self._run.finish()


@TRACKERS.register_module()
class MlflowTracker(Tracker):
    """MLflow. The config's leaves become the parameters of the run, by their path, such as ``optimizer.lr``.

    Unless ``MLFLOW_HTTP_REQUEST_MAX_RETRIES`` and ``MLFLOW_HTTP_REQUEST_TIMEOUT`` say otherwise, a server that does not
    answer gets one retry of 30 seconds, and is tried again later.

    Args:
        experiment: the experiment's name; it is made if there is none.
        tracking_uri: such as 'http://host:5000' or 'sqlite:////data/mlflow.db'; None for MLflow's own default, which
            ``MLFLOW_TRACKING_URI`` sets.
        name: the run's; None for the name of the work dir.

    Raises:
        ValueError: mlflow is not installed.
    """

    def __init__(self, experiment: str, tracking_uri: str | None = None, name: str | None = None) -> None:
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        super().__init__('mlflow')
        self.experiment = experiment
        self.tracking_uri = tracking_uri
        self.name = name
        self._client: Any = None
        self._run_id = ''
        self._is_resumed = False
        self._last: dict[str, int] = {}

    def open(self, config: Mapping[str, Any], work_dir: Path, run_id: str | None) -> str | None:
        self._client = self.package.MlflowClient(self.tracking_uri)
        if run_id is not None:
            self._run_id, self._is_resumed = run_id, True
            self._client.update_run(run_id, status='RUNNING')
            return run_id
        experiment = self._client.get_experiment_by_name(self.experiment)
        number = self._client.create_experiment(self.experiment) if experiment is None else experiment.experiment_id
        self._run_id = self._client.create_run(number, run_name=self.name or work_dir.name).info.run_id
        entities = self.package.entities
        params = [entities.Param(path, str(value)[:MAX_VALUE]) for path, value in _leaves(config, '')]
        for i in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(self._run_id, params=params[i : i + MAX_PARAMS])
        return self._run_id

    def last_iteration(self, name: str) -> int:
        if not self._is_resumed:
            return -1
        if name not in self._last:
            history = self._client.get_metric_history(self._run_id, name)
            self._last[name] = max((metric.step for metric in history), default=-1)
        return self._last[name]

    def send(self, scalars: Mapping[str, float], iteration: int) -> None:
        now = round(1000 * time.time())
        metrics = [self.package.entities.Metric(name, value, now, iteration) for name, value in scalars.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


def start_trackers(trackers: Sequence[Tracker], config: Mapping[str, Any], work_dir: Path) -> Sequence[Tracker]:
    """Start trackers; those of a work dir that has been trained in go on with their runs.

    Args:
        trackers: from the config, in its order.
        config: the resolved config.
        work_dir: where ``trackers.json`` keeps what the services call their runs.

    Raises:
        ValueError: as :meth:`Tracker.start`.
    """
    if not trackers:
        return trackers
    file = work_dir / 'trackers.json'
    known: dict[str, str | None] = next(iter(read_lines(file)), {})
    for i, tracker in enumerate(trackers):
        name = f'{i} {type(tracker).__name__}'
        known[name] = tracker.start(config, work_dir, known.get(name))
    write_atomically(json.dumps(known).encode(), file)
    return trackers


def _describe(error: Exception) -> str:
    """Return an error's type and the first line of its text."""
    text = str(error).strip().splitlines()
    return f'{type(error).__name__}: {text[0]}' if text else type(error).__name__


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the values in nested dicts and lists by their path."""
    if isinstance(value, Mapping | list | tuple) and value:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _leaves(item, f'{path}.{key}' if path else str(key))
    else:
        yield path, value

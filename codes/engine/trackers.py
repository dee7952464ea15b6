"""Experiment trackers, which send the curves of a run to a service. ``runtime.trackers`` lists them.

All numbers are in ``scalars.jsonl`` and TensorBoard, too, so a failing service never ends a run.
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
from dsanet.utils.json_lines import read_json_lines

LOGGER = logging.getLogger(__name__)

RETRY_INTERVAL_S = 600.0  # after a failure, because each attempt may block training until a timeout
# MLflow's defaults would block training for minutes while the server is down.
MLFLOW_REQUEST_LIMITS = {'MLFLOW_HTTP_REQUEST_MAX_RETRIES': '1', 'MLFLOW_HTTP_REQUEST_TIMEOUT': '30'}
MLFLOW_BATCH_SIZE = 100  # parameters in one call of log_batch
MLFLOW_PARAM_LENGTH = 500  # characters that every version accepts


class Tracker:
    """Send scalars to a service, on rank 0.

    A subclass implements :meth:`open`, :meth:`send` and :meth:`close`, which may raise. After a failure the service is
    tried again every ten minutes; scalars from in between are in ``scalars.jsonl`` only. A run that was killed and
    resumed sends the scalars after its last checkpoint twice.

    Args:
        package: required package.
    """

    def __init__(self, package: str) -> None:
        try:
            self.package: Any = importlib.import_module(package)
        except ImportError as error:
            raise ValueError(f'{package} is not installed; run: pip install {package}') from error
        self._is_started = False
        self._has_warned = False
        self._retry_at = 0.0

    def start(self, config: Mapping[str, Any], work_dir: Path, run_id: str | None) -> str | None:
        """Start or resume a run on the service; only a failure to start a new run raises.

        Args:
            config: the resolved config, shown with the curves.
            work_dir: the work dir; its name is the default run name.
            run_id: return value of this method in the interrupted run, or None for a new run.

        Returns:
            The id for resuming the run, or None if unknown.
        """
        try:
            run_id = self.open(config, work_dir, run_id)
            self._is_started = True
        except Exception as error:
            if run_id is None:
                raise ValueError(f'{type(self).__name__} cannot start: {_first_line(error)}') from error
            self._warn(error)
        return run_id

    def log(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Send scalars; never raises."""
        if time.monotonic() >= self._retry_at:
            self._try(lambda: self.send(scalars, iteration))

    def finish(self) -> None:
        """End the run on the service; never raises."""
        self._try(self.close)

    def _try(self, action: Callable[[], None]) -> None:
        if not self._is_started:
            return
        try:
            action()
        except Exception as error:
            self._retry_at = time.monotonic() + RETRY_INTERVAL_S
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            text = '%s failed: %s. Continuing without it; all scalars are in scalars.jsonl'
            LOGGER.warning(text, type(self).__name__, _first_line(error))
        self._has_warned = True

    def open(self, config: Mapping[str, Any], work_dir: Path, run_id: str | None) -> str | None:
        """Start or resume a run; arguments and return value of :meth:`start`."""
        raise NotImplementedError(f'{type(self).__name__} does not implement open')

    def send(self, scalars: Mapping[str, float], iteration: int) -> None:
        """Send scalars by name, such as ``train/loss``; ``iteration`` is the number of finished iterations."""
        raise NotImplementedError(f'{type(self).__name__} does not implement send')

    def close(self) -> None:
        """End the run."""
        raise NotImplementedError(f'{type(self).__name__} does not implement close')


@TRACKERS.register_module()
class WandbTracker(Tracker):
    """Weights & Biases. Its own environment variables set the account and the mode.

    The x axes of ``train/...`` and ``val/...`` are ``train/iteration`` and ``val/iteration``. Without network access,
    set ``WANDB_MODE=offline``; it writes into the work dir for ``wandb sync``.

    Args:
        project: name of the project.
        name: name of the run; None for the name of the work dir.
        entity: user or team; None for the default of the account.
    """

    def __init__(self, project: str, name: str | None = None, entity: str | None = None) -> None:
        super().__init__('wandb')
        self.project = project
        self.name = name
        self.entity = entity
        self._run: Any = None

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
        for prefix in ('train', 'val'):
            self._run.define_metric(f'{prefix}/iteration')
            self._run.define_metric(f'{prefix}/*', step_metric=f'{prefix}/iteration')
        return self._run.id

    def send(self, scalars: Mapping[str, float], iteration: int) -> None:
        prefixes = {name.partition('/')[0] for name in scalars}
        self._run.log({**scalars, **{f'{prefix}/iteration': iteration for prefix in prefixes}})

    def close(self) -> None:
        self._run.finish()


@TRACKERS.register_module()
class MlflowTracker(Tracker):
    """MLflow. The values of the config become parameters of the run, named by their path, such as ``optimizer.lr``.

    A request times out after 30 seconds and is retried once, unless ``MLFLOW_HTTP_REQUEST_MAX_RETRIES`` and
    ``MLFLOW_HTTP_REQUEST_TIMEOUT`` are set.

    Args:
        experiment: name of the experiment, which is created if it does not exist.
        tracking_uri: such as 'http://host:5000' or 'sqlite:////data/mlflow.db'; None for MLflow's default, which
            ``MLFLOW_TRACKING_URI`` sets.
        name: name of the run; None for the name of the work dir.
    """

    def __init__(self, experiment: str, tracking_uri: str | None = None, name: str | None = None) -> None:
        for variable, value in MLFLOW_REQUEST_LIMITS.items():
            os.environ.setdefault(variable, value)
        super().__init__('mlflow')
        self.experiment = experiment
        self.tracking_uri = tracking_uri
        self.name = name
        self._client: Any = None
        self._run_id = ''

    def open(self, config: Mapping[str, Any], work_dir: Path, run_id: str | None) -> str | None:
        self._client = self.package.MlflowClient(self.tracking_uri)
        if run_id is not None:
            self._run_id = run_id
            self._client.update_run(run_id, status='RUNNING')
            return run_id
        experiment = self._client.get_experiment_by_name(self.experiment)
        number = self._client.create_experiment(self.experiment) if experiment is None else experiment.experiment_id
        self._run_id = self._client.create_run(number, run_name=self.name or work_dir.name).info.run_id
        make = self.package.entities.Param
        params = [make(path, str(value)[:MLFLOW_PARAM_LENGTH]) for path, value in _flatten(config, '')]
        for i in range(0, len(params), MLFLOW_BATCH_SIZE):
            self._client.log_batch(self._run_id, params=params[i : i + MLFLOW_BATCH_SIZE])
        return self._run_id

    def send(self, scalars: Mapping[str, float], iteration: int) -> None:
        now = round(1000 * time.time())
        metrics = [self.package.entities.Metric(name, value, now, iteration) for name, value in scalars.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


def start_trackers(trackers: Sequence[Tracker], config: Mapping[str, Any], work_dir: Path) -> None:
    """Start the trackers, or resume their runs by the ids in ``work_dir/trackers.json``."""
    if not trackers:
        return
    file = work_dir / 'trackers.json'
    run_ids: dict[str, str | None] = next(iter(read_json_lines(file)), {})
    for i, tracker in enumerate(trackers):
        name = f'{i} {type(tracker).__name__}'
        run_ids[name] = tracker.start(config, work_dir, run_ids.get(name))
    write_atomically(json.dumps(run_ids).encode(), file)


def _first_line(error: Exception) -> str:
    """Return the type of an error and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__


def _flatten(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dicts and lists with their paths."""
    if isinstance(value, Mapping | list | tuple) and value:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _flatten(item, f'{path}.{key}' if path else str(key))
    else:
        yield path, value

"""Read the files of training runs, and compare the runs: curves, configs, seeds, results and costs."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dsanet.config.loading import load_config
from dsanet.evaluation.metrics import build_metrics, compute_metrics
from dsanet.evaluation.result_files import SUFFIXES, read_results
from dsanet.evaluation.results import Results, default_metrics
from dsanet.models.summary import find_input_shape, summarize_model
from dsanet.reports.internals import Internals, look_inside
from dsanet.utils.json_lines import read_json_lines

# Names of result files in a work dir; the first one that exists is used.
RESULT_FILES = tuple(f'{name}{suffix}' for name in ('results', 'scores') for suffix in SUFFIXES)

Scalars = list[dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """A training run, as its work dir shows it.

    Args:
        name: short name that no other run of the report has.
        work_dir: its folder.
        config: the resolved config.
        lines: the lines of ``scalars.jsonl``.
        results: results of a test; None if the folder has none.
        costs: ``params``, ``gmacs`` and ``input_shape`` (U, T, H, W); None if the config does not tell the input shape.
        internals: kernels and activation maps; see :func:`add_internals`.
    """

    name: str
    work_dir: Path
    config: dict[str, Any]
    lines: Scalars
    results: Results | None
    costs: dict[str, Any] | None
    internals: Internals = field(default_factory=Internals)


@dataclass(frozen=True)
class Group:
    """Runs whose configs differ only in the seed.

    Args:
        name: of the first run, without the ending ``_seed<number>`` if there are several.
        runs: at least one.
    """

    name: str
    runs: list[Run]


@dataclass(frozen=True)
class Spread:
    """Mean and spread of one number over the runs of a group.

    Args:
        mean: the mean.
        deviation: sample standard deviation; None for one run.
        number: number of runs.
    """

    mean: float
    deviation: float | None
    number: int


def read_scalars(work_dir: Path) -> Scalars:
    """Return the curves of a run, the lines of its ``scalars.jsonl``.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return read_json_lines(find_scalars(work_dir), {'iteration': int})


def find_scalars(work_dir: Path) -> Path:
    """Return the file of the curves of a run.

    Raises:
        FileNotFoundError: there is no such file.
    """
    file = work_dir / 'scalars.jsonl'
    if not file.is_file():
        raise FileNotFoundError(f'no scalars.jsonl in {work_dir}; expected a work dir of dsanet train')
    return file


def scalar_points(lines: Scalars, name: str) -> list[tuple[int, float | None]]:
    """Return iteration and value of a scalar; None where the value is not a finite number."""
    return [(line['iteration'], _finite(line[name])) for line in lines if name in line]


def _finite(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def scalar_names(runs: Iterable[Scalars]) -> list[str]:
    """Return the names of all scalars of some runs, sorted."""
    return sorted({name for lines in runs for line in lines for name in line})


def find_results(work_dir: Path, names: Sequence[str] = RESULT_FILES) -> Path | None:
    """Return the first result file in a work dir; None if there is none."""
    return next((work_dir / name for name in names if (work_dir / name).is_file()), None)


def read_runs(work_dirs: Sequence[Path], result_files: Sequence[str] = RESULT_FILES) -> list[Run]:
    """Read the work dirs of runs, without their internals.

    Args:
        work_dirs: the folders.
        result_files: names of result files; the first one that exists is used.

    Raises:
        FileNotFoundError: a folder has no config or no curves.
        KeyError, TypeError: an error in a config.
        ValueError: a folder is given twice, or a file is damaged.
    """
    if len({folder.resolve() for folder in work_dirs}) < len(work_dirs):
        raise ValueError(f'a work dir is given twice: {", ".join(map(str, work_dirs))}; name each one once')
    short = [folder.resolve().name for folder in work_dirs]
    names = short if len(set(short)) == len(short) else [str(folder) for folder in work_dirs]
    return [_read_run(folder, name, result_files) for folder, name in zip(work_dirs, names, strict=True)]


def _read_run(folder: Path, name: str, result_files: Sequence[str]) -> Run:
    lines = read_scalars(folder)
    if not lines:
        raise ValueError(f'{folder / "scalars.jsonl"} has no values; has the run logged an iteration?')
    if not (folder / 'config.py').is_file():
        raise FileNotFoundError(f'no config.py in {folder}; expected a work dir of dsanet train')
    config = load_config(folder / 'config.py')
    file = find_results(folder, result_files)
    results = read_results(file) if file else None
    return Run(name, folder, config, lines, results, _measure_costs(config))


def add_internals(runs: Iterable[Run], is_last_epoch: bool = False) -> list[Run]:
    """Return the runs with kernels and activation maps, which are computed from a checkpoint.

    Args:
        runs: the runs.
        is_last_epoch: whether the results are those of the last epoch instead of ``best.pth``.
    """
    found = []
    for run in runs:
        names = class_names(run.results) if run.results else []
        found.append(replace(run, internals=look_inside(run.work_dir, run.results, names, is_last_epoch)))
    return found


def _measure_costs(config: dict[str, Any]) -> dict[str, Any] | None:
    """Return ``params``, ``gmacs`` and ``input_shape`` (U, T, H, W) of a config; None if it does not tell the shape."""
    try:
        shape = find_input_shape(config)
    except (KeyError, ValueError):  # an unusual pipeline; the page says that the costs are unknown
        return None
    summary = summarize_model(config['model'], shape)
    return {'params': summary['params'], 'gmacs': summary['gmacs'], 'input_shape': shape}


def flatten(value: Any, path: str = '') -> dict[str, str]:
    """Return the values of a nested config as texts by their paths, such as 'optimizer.lr'."""
    if isinstance(value, Mapping) and value:
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(entry, Mapping) for entry in value):
        items = enumerate(value)
    else:
        return {path: repr(value)}
    return {k: v for key, entry in items for k, v in flatten(entry, f'{path}.{key}' if path else str(key)).items()}


def compare_configs(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[str | None]]:
    """Return the settings that differ: path, then the value in each config as text, None where it is not set."""
    flat = [flatten(config) for config in configs]
    paths = dict.fromkeys(path for settings in flat for path in settings)
    rows = {path: [settings.get(path) for settings in flat] for path in paths}
    return {path: values for path, values in rows.items() if len(set(values)) > 1}


def group_seeds(runs: Iterable[Run]) -> list[Group]:
    """Group the runs whose configs differ only in ``runtime.seed``, in the order of their first runs."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        settings = {path: value for path, value in flatten(run.config).items() if path != 'runtime.seed'}
        groups.setdefault(json.dumps(settings, sort_keys=True), []).append(run)
    return [Group(_group_name(members), members) for members in groups.values()]


def _group_name(runs: Sequence[Run]) -> str:
    name, marker, number = runs[0].name.rpartition('_seed')
    return name if len(runs) > 1 and marker and number.isdigit() else runs[0].name


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return the mean and the spread of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))


def format_spread(value: Spread | None, digits: int = 2) -> str:
    """Return mean and standard deviation as text, a dash for None."""
    if value is None:
        return '–'
    if value.deviation is None:
        return f'{value.mean:.{digits}f}'
    return f'{value.mean:.{digits}f} ± {value.deviation:.{digits}f}'


def mean_curve(group: Group, name: str) -> list[tuple[int, Spread]]:
    """Return the mean and spread of a scalar over the runs of a group, where at least one run has a value."""
    values: dict[int, list[float | None]] = {}
    for run in group.runs:
        for iteration, value in dict(scalar_points(run.lines, name)).items():
            values.setdefault(iteration, []).append(value)
    rows = ((iteration, spread(values[iteration])) for iteration in sorted(values))
    return [(iteration, row) for iteration, row in rows if row is not None]


def last_value(run: Run, name: str) -> float | None:
    """Return the last value of a scalar; None if there is none."""
    values = [value for _, value in scalar_points(run.lines, name) if value is not None]
    return values[-1] if values else None


def median_value(run: Run, name: str) -> float | None:
    """Return the median of a scalar, which single slow iterations do not change; None if there is none."""
    values = [value for _, value in scalar_points(run.lines, name) if value is not None]
    return statistics.median(values) if values else None


def best_value(run: Run, name: str) -> float | None:
    """Return the best value of a scalar: the lowest of losses, otherwise the highest; None if there is none."""
    values = [value for _, value in scalar_points(run.lines, name) if value is not None]
    return (min if 'loss' in name else max)(values, default=None)


def metrics_of(results: Results) -> dict[str, float]:
    """Return the metrics of ``dsanet score``; no top-5 accuracy for five classes or fewer, where it is always 100%."""
    metrics = compute_metrics(build_metrics(default_metrics(results)), results.scores, results.labels)
    return {name: value for name, value in metrics.items() if name != 'top5' or results.scores.shape[1] > 5}


def class_names(results: Results) -> list[str]:
    """Return the class names of results, or the class numbers."""
    return results.class_names or [str(k) for k in range(results.scores.shape[1])]

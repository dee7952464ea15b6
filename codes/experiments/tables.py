"""The tables of an experiment, in Markdown: results, classes, order of the snippets, and costs."""

import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsanet.evaluation.comparison import compare
from dsanet.evaluation.metrics import majority_baseline
from dsanet.evaluation.results import Results, class_table
from dsanet.experiments.plan import Plan, Trial, Variant
from dsanet.experiments.running import ORDER, RESULTS
from dsanet.reports.run_data import Run, class_names, format_spread, median_value, metrics_of, read_runs, spread
from dsanet.utils.json_lines import read_json
from dsanet.utils.markdown import markdown_table

LOGGER = logging.getLogger(__name__)

# Titles of the metrics of a test.
METRICS = {
    'top1': 'top-1 %',
    'top5': 'top-5 %',
    'mean_class_accuracy': 'mean class accuracy %',
    'mAP': 'mAP %',
}


@dataclass(frozen=True)
class Outcome:
    """What a tested trial has measured.

    Args:
        trial: variant and seed.
        run: its work dir.
        order: accuracy in percent by arrangement of the snippets and frames, of :mod:`dsanet.explain.order`; empty if
            the order test is not finished or not possible.
    """

    trial: Trial
    run: Run
    order: dict[str, float]

    @property
    def results(self) -> Results:
        """Of the test."""
        assert self.run.results is not None, 'the trial is tested'
        return self.run.results


def read_outcomes(plan: Plan, out: Path) -> list[Outcome]:
    """Read the tested trials of an experiment.

    Raises:
        FileNotFoundError, KeyError, TypeError: see :func:`~dsanet.reports.run_data.read_runs`.
        ValueError: none is tested, or a file is damaged.
    """
    tested = [trial for trial in plan.trials if (out / trial.folder / RESULTS).is_file()]
    if not tested:
        raise ValueError(f'{out} has no tested trial of this experiment')
    runs = read_runs([out / trial.folder for trial in tested], [RESULTS])
    return [Outcome(trial, run, _read_order(run.work_dir)) for trial, run in zip(tested, runs, strict=True)]


def _read_order(work_dir: Path) -> dict[str, float]:
    file = work_dir / ORDER
    arrangements = read_json(file)['model']['arrangements'] if file.is_file() else {}
    return {name: row['top1'] for name, row in arrangements.items()}


def format_tables(plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """Return the tables of the finished trials.

    Args:
        plan: the experiment; its first variant is compared with the others.
        outcomes: at least one.
    """
    groups = {variant: [one for one in outcomes if one.trial.variant == variant] for variant in plan.variants}
    groups = {variant: members for variant, members in groups.items() if members}
    videos = _same_videos(outcomes)
    notes = ['Last epoch; mean and sample standard deviation over the seeds.']
    if videos is None:
        numbers = ', '.join(f'{_name(one.trial)} {len(one.results.paths)}' for one in outcomes)
        notes.insert(0, f'**The trials were tested on different videos**, so do not compare them: {numbers}.')
    else:
        notes.insert(0, f'{len(videos.paths)} test videos, {videos.scores.shape[1]} classes.')
    found = {one.trial for one in outcomes}
    if missing := [_name(trial) for trial in plan.trials if trial not in found]:
        notes.append(f'**Not finished**: {", ".join(missing)}.')
    parts = [
        ' '.join(notes),
        _result_table(groups, videos),
        _seed_table(plan, groups),
        f'{_metric_title(outcomes, "Average precision", "Accuracy")} of each class in percent, mean over the seeds:',
        _class_table(groups),
    ]
    if any(one.order for one in outcomes):
        title = 'Top-1 accuracy in percent with other orders of snippets and frames, mean over the seeds:'
        parts += [title, _order_table(groups)]
    return '\n\n'.join(parts) + '\n'


def _name(trial: Trial) -> str:
    return f'{trial.variant.name} seed {trial.seed}'


_Groups = dict[Variant, list[Outcome]]


def _same_videos(outcomes: Sequence[Outcome]) -> Results | None:
    """Return results with the test videos of all trials; None if these differ."""
    first, *others = (one.results for one in outcomes)
    labels = dict(zip(first.paths, first.labels.tolist(), strict=True))
    same = all(dict(zip(one.paths, one.labels.tolist(), strict=True)) == labels for one in others)
    return first if same else None


def _result_table(groups: _Groups, videos: Results | None) -> str:
    metrics = {variant: [metrics_of(one.results) for one in members] for variant, members in groups.items()}
    names = list(dict.fromkeys(name for rows in metrics.values() for row in rows for name in row))
    titles = ['variant', 'seeds', *(METRICS.get(name, name) for name in names), 'parameters', 'GMACs/view', 'ms/step']
    rows = []
    for variant, members in groups.items():
        costs = members[0].run.costs
        # Seconds; trials that run at the same time slow each other down.
        steps = [s for one in members if (s := median_value(one.run, 'train/time')) is not None]
        measured = [[row[name] for row in metrics[variant] if name in row] for name in names]
        rows.append(
            [
                variant.name,
                str(len(members)),
                *(format_spread(spread(values), 1) if values else '-' for values in measured),
                f'{costs["params"]:,}' if costs else '-',
                f'{costs["gmacs"]:.3f}' if costs else '-',
                f'{1000 * statistics.median(steps):.0f}' if steps else '-',
            ]
        )
    baseline = {} if videos is None else majority_baseline(videos.labels)
    if baseline.keys() & set(names):
        cells = [f'{baseline[name]:.1f}' if name in baseline else '-' for name in names]
        rows.append(['most frequent class', '-', *cells, '-', '-', '-'])
    return markdown_table(titles, rows)


def _seed_table(plan: Plan, groups: _Groups) -> str:
    """Return the accuracy of each trial, with the p-value of McNemar's test against the first variant."""
    reference = {one.trial.seed: one.results for one in groups.get(plan.variants[0], [])}
    rows = []
    for variant, members in groups.items():
        found = {one.trial.seed: one.results for one in members}
        cells = [_seed_cell(found.get(seed), reference.get(seed)) for seed in plan.seeds]
        rows.append([variant.name, *cells])
    every = [one for members in groups.values() for one in members]
    text = f'{_metric_title(every, "mAP", "Top-1 accuracy")} in percent of each seed'
    if any('(p = ' in cell for row in rows for cell in row[1:]):
        text += f'; p of the exact McNemar test against {plan.variants[0].name} with the same seed'
    return f'{text}:\n\n{markdown_table(["variant", *(f"seed {seed}" for seed in plan.seeds)], rows)}'


def _metric_title(outcomes: Sequence[Outcome], several: str, single: str) -> str:
    """Return the title for results with several labels or a single one per video, or both, joined by 'or'."""
    names = {one.results.is_multi_hot: several if one.results.is_multi_hot else single for one in outcomes}
    return ' or '.join(names.values())


def _seed_cell(results: Results | None, reference: Results | None) -> str:
    if results is None:
        return '-'
    metrics = metrics_of(results)
    text = f'{metrics.get("top1", next(iter(metrics.values()))):.1f}'
    if reference is None or reference is results or results.is_multi_hot:
        return text
    try:
        return f'{text} (p = {compare(reference, results).p_value:.2g})'
    except ValueError as error:  # the variants have test data of their own
        LOGGER.warning('No McNemar test: %s', error)
        return text


def _class_table(groups: _Groups) -> str:
    """Return the accuracies by class; a variant with other classes has - in the rows of those that it lacks."""
    cells: dict[tuple[int, str], dict[Variant, str]] = {}
    counts: dict[tuple[int, str], int] = {}
    for variant, members in groups.items():
        values: dict[tuple[int, str], list[float]] = {}
        for one in members:
            for row in class_table(one.results, class_names(one.results)):
                of_class = row['class'], row['name']
                counts.setdefault(of_class, row['videos'])
                value = row['average_precision' if 'average_precision' in row else 'accuracy']
                values.setdefault(of_class, []).append(value)
        for of_class, numbers in values.items():
            cells.setdefault(of_class, {})[variant] = f'{statistics.fmean(numbers):.1f}'
    titles = ['class', 'videos', *(variant.name for variant in groups)]
    rows = [
        [of_class[1], str(counts[of_class]), *(row.get(variant, '-') for variant in groups)]
        for of_class, row in cells.items()
    ]
    return markdown_table(titles, rows)


def _order_table(groups: _Groups) -> str:
    names = list(dict.fromkeys(name for members in groups.values() for one in members for name in one.order))
    rows = []
    for variant, members in groups.items():
        values = [[one.order[name] for one in members if name in one.order] for name in names]
        rows.append([variant.name, *(f'{statistics.fmean(row):.1f}' if row else '-' for row in values)])
    return markdown_table(['variant', *names], rows)

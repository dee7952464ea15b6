"""One HTML page about one run or several: configs, curves, seeds, classes, mistakes, kernels and costs.

The page needs no network and no script. Text from files is escaped.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from dsanet.evaluation.metrics import majority_baseline
from dsanet.evaluation.results import class_table, confident_mistakes, confusion_matrix
from dsanet.reports.confusion import class_shares
from dsanet.reports.html_parts import html_name, html_table, html_text, jpeg_uri
from dsanet.reports.internals_sections import write_kernels, write_maps
from dsanet.reports.mistake_sheets import read_sheet
from dsanet.reports.page_style import STYLE
from dsanet.reports.run_data import (
    Group,
    Run,
    best_value,
    class_names,
    compare_configs,
    flatten,
    format_spread,
    group_seeds,
    last_value,
    mean_curve,
    median_value,
    metrics_of,
    scalar_names,
    scalar_points,
    spread,
)
from dsanet.reports.svg_charts import NUM_STYLES, Line, draw_lines, draw_matrix

MAX_SIZE = 5_000_000  # bytes of a page
MAX_SHEETS = 72  # contact sheets of a page
MAX_NAMES = 12  # classes whose names are unfolded below a confusion matrix
MAX_CELLS = 8000  # cells of all confusion matrices of a page
JPEG_QUALITY = 80
MAX_MISTAKES = 12  # per run

# Scalars in the order of the page; the others are folded.
MAIN_SCALARS = {
    'train/loss': 'Training loss',
    'val/loss': 'Validation loss',
    'train/top1': 'Training accuracy (%)',
    'val/top1': 'Validation accuracy (%)',
    'val/mean_class_accuracy': 'Validation mean class accuracy (%)',
    'val/mAP': 'Validation mean average precision (%)',
    'train/lr': 'Learning rate',
    'train/data_time': 'Waiting for data (seconds per iteration)',
}


def build_page(runs: Sequence[Run]) -> str:
    """Return the page about some runs.

    Raises:
        ValueError: the page is larger than ``MAX_SIZE``.
    """
    groups = group_seeds(runs)
    bodies = {title: write(groups) for title, write in SECTIONS.items()}
    links = ''.join(f'<li><a href="#{_anchor(title)}">{title}</a></li>' for title in bodies)
    parts = [f'<section id="{_anchor(t)}"><h2>{t}</h2>{body}</section>' for t, body in bodies.items()]
    title = f'Report: {html_text(", ".join(group.name for group in groups))}'
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f'<body><header><h1>{title}</h1><nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main>'
        + '\n'.join(parts)
        + '</main></body></html>\n'
    )
    size = len(page.encode())
    if size > MAX_SIZE:
        raise ValueError(f'the report of {len(runs)} runs has {size} bytes, more than {MAX_SIZE}; compare fewer runs')
    return page


def _anchor(title: str) -> str:
    return title.lower().replace(' ', '-')


def _runs(groups: Sequence[Group]) -> list[Run]:
    return [run for group in groups for run in group.runs]


def _monitored(runs: Sequence[Run]) -> str:
    """Return the validation scalar that the first run selects its best checkpoint by, or its first one."""
    known = scalar_names(run.lines for run in runs)
    wanted = f'val/{runs[0].config.get("runtime", {}).get("save_best") or "top1"}'
    others = [name for name in known if name.startswith('val/') and name != 'val/loss']
    return wanted if wanted in known or not others else others[0]


def _write_overview(groups: Sequence[Group]) -> str:
    metric = _monitored(_runs(groups))
    tests = [[metrics_of(run.results) if run.results else {} for run in group.runs] for group in groups]
    names = list(dict.fromkeys(name for test in tests for numbers in test for name in numbers))
    rows = []
    for group, test in zip(groups, tests, strict=True):
        row = [html_text(group.name), str(len(group.runs))]
        row.append(str(max(line.get('epoch', 0) for run in group.runs for line in run.lines)))
        row.append(format_spread(spread([last_value(run, 'train/loss') for run in group.runs]), 4))
        row.append(format_spread(spread([best_value(run, metric) for run in group.runs])))
        row.append(format_spread(spread([last_value(run, metric) for run in group.runs])))
        row += [format_spread(spread([numbers.get(name) for numbers in test])) for name in names]
        rows.append(row)
    baselines = _baseline_rows(_runs(groups), names, len(rows[0]))
    rows += baselines
    shown = html_text(metric)
    header = ['Run', 'Seeds', 'Epochs', 'Last train/loss', f'Best {shown}', f'Last {shown}']
    header += [f'Test {html_text(name)}' for name in names]
    note = 'Runs whose configs differ only in the seed are one row: mean ± standard deviation over the seeds.'
    if baselines:
        note += ' The baseline always predicts the most frequent class of the test videos.'
    if not names:
        note += ' No test results were found; the commands below write them.'
    parts = [html_table('Results', header, rows, range(1, len(header))), f'<p class="note">{note}</p>']
    for group, test in zip(groups, tests, strict=True):
        if len(group.runs) > 1:
            rows = [
                [
                    html_text(run.name),
                    html_text(run.config.get('runtime', {}).get('seed')),
                    format_spread(spread([best_value(run, metric)])),
                    *(format_spread(spread([numbers.get(name)])) for name in names),
                ]
                for run, numbers in zip(group.runs, test, strict=True)
            ]
            head = ['Run', 'Seed', f'Best {shown}', *(f'Test {html_text(name)}' for name in names)]
            table = html_table('Results of each seed', head, rows, range(1, len(head)))
            parts.append(f'<details><summary>Seeds of {html_text(group.name)}</summary>{table}</details>')
    return ''.join(parts)


def _baseline_rows(runs: Sequence[Run], names: Sequence[str], num_columns: int) -> list[list[str]]:
    """Return the row of the most frequent class, or one for each baseline if the runs have different test videos."""
    found: dict[tuple[float | None, ...], str] = {}
    for run in runs:
        baseline = majority_baseline(run.results.labels) if run.results else {}
        if baseline:
            found.setdefault(tuple(baseline.get(name) for name in names), run.name)
    rows = []
    for values, name in found.items():
        title = 'Most frequent class' if len(found) == 1 else f'Most frequent class (test of {html_text(name)})'
        cells = [format_spread(spread([value])) for value in values]
        rows.append([title, *['–'] * (num_columns - 1 - len(cells)), *cells])
    return rows


def _write_configs(groups: Sequence[Group]) -> str:
    parts = []
    if len(groups) > 1:
        differences = compare_configs([group.runs[0].config for group in groups])
        seeds = [', '.join(flatten(run.config).get('runtime.seed', '–') for run in group.runs) for group in groups]
        differences.pop('runtime.seed', None)
        if len(set(seeds)) > 1:  # of all runs, not only of the first ones
            differences['runtime.seed'] = list(seeds)
        rows = [
            [
                f'<code>{html_text(path)}</code>',
                *('not set' if v is None else f'<code>{html_text(v)}</code>' for v in values),
            ]
            for path, values in differences.items()
        ]
        parts.append(
            html_table('Settings that differ', ['Setting', *(html_text(group.name) for group in groups)], rows)
        )
    else:
        parts.append('<p>There is one config, so nothing differs.</p>')
    for group in groups:
        settings = flatten(group.runs[0].config).items()
        rows = [[f'<code>{html_text(path)}</code>', f'<code>{html_text(value)}</code>'] for path, value in settings]
        table = html_table(f'Settings of {html_text(group.name)}', ['Setting', 'Value'], rows)
        parts.append(f'<details><summary>All settings of {html_text(group.name)}</summary>{table}</details>')
    return ''.join(parts)


def _write_curves(groups: Sequence[Group]) -> str:
    keys = ''.join(
        f'<li><svg viewBox="0 0 38 12" aria-hidden="true"><path class="line s{i % NUM_STYLES}" d="M0 6H38"/></svg>'
        f'{html_text(group.name)}{f" (mean of {len(group.runs)} seeds)" if len(group.runs) > 1 else ""}</li>'
        for i, group in enumerate(groups)
    )
    known = [name for name in scalar_names(run.lines for run in _runs(groups)) if '/' in name]
    main = {name: title for name, title in MAIN_SCALARS.items() if name in known}
    charts = ''.join(_chart(groups, name, title) for name, title in main.items())
    others = ''.join(_chart(groups, name, name) for name in known if name not in main)
    note = 'Areas show the mean plus and minus one standard deviation over the seeds.'
    return (
        f'<ul class="legend">{keys}</ul>'
        + (f'<p class="note">{note}</p>' if any(len(group.runs) > 1 for group in groups) else '')
        + f'<div class="grid-of">{charts}</div>'
        + (f'<details><summary>Other values</summary><div class="grid-of">{others}</div></details>' if others else '')
    )


def _chart(groups: Sequence[Group], name: str, title: str) -> str:
    lines = []
    for i, group in enumerate(groups):
        rows = mean_curve(group, name)
        band = [(x, s.mean - s.deviation, s.mean + s.deviation) for x, s in rows if s.deviation is not None]
        lines.append(Line(group.name, i, [(x, s.mean) for x, s in rows], band))
    if not any(line.points for line in lines):
        return ''
    note = ''
    gaps = sum(value is None for run in _runs(groups) for _, value in scalar_points(run.lines, name))
    if gaps:
        note = f'<p>{gaps} values are not finite and are left out.</p>'
    chart = draw_lines(lines, title, 'iteration')
    return f'<figure><figcaption>{html_text(title)} <code>{html_text(name)}</code></figcaption>{chart}{note}</figure>'


def _without_results(run: Run) -> str:
    """Return what to do to see the results of a run."""
    command = f'dsanet test {run.work_dir / "best.pth"} --out {run.work_dir / "results.json"}'
    return f'<p>No test results. Run <code>{html_text(command)}</code>, then write the report again.</p>'


def _each_run(groups: Sequence[Group], write: Callable[[Run], str]) -> str:
    parts = []
    for run in _runs(groups):
        if run.results is None:
            body = _without_results(run)
        elif run.results.is_multi_hot and write is not _classes_of:
            body = '<p>Videos have several labels; this part requires one label per video.</p>'
        else:
            body = write(run)
        parts.append(f'<article><h3>{html_text(run.name)}</h3>{body}</article>')
    return ''.join(parts)


def _write_confusion(groups: Sequence[Group]) -> str:
    budget = MAX_CELLS // len(_runs(groups))

    def write(run: Run) -> str:
        assert run.results is not None, run.name
        matrix, names = confusion_matrix(run.results), class_names(run.results)
        legend = ''.join(f'<li>{k}: {html_name(name)}</li>' for k, name in enumerate(names))
        unfolded = ' open' if len(names) <= MAX_NAMES else ''
        legend = f'<details{unfolded}><summary>Names of the {len(names)} classes</summary><ul>{legend}</ul></details>'
        left_out = (matrix > 0).sum() - budget
        note = f'<p class="note">{left_out} cells with the fewest videos are left out.</p>' if left_out > 0 else ''
        return draw_matrix(matrix, class_shares(matrix), names, budget) + note + legend

    note = (
        'Rows are the labels, columns the predictions, both by class number. Green is right, red is wrong; the darker, '
        'the larger the share of the videos of the row.'
    )
    return f'<p class="note">{note}</p><div class="grid-of">{_each_run(groups, write)}</div>'


def _classes_of(run: Run) -> str:
    assert run.results is not None, run.name
    key = 'average_precision' if run.results.is_multi_hot else 'accuracy'
    table = class_table(run.results, class_names(run.results))
    rows = [
        [
            f'{row["class"]}: {html_name(row["name"])}',
            f'{row["videos"]}',
            f'{row[key]:.1f}',
            f'<span class="track" aria-hidden="true"><span class="bar" style="width:{row[key]:.0f}%"></span></span>',
            f'{html_name(row["confused_with"])} ({row["confused"]})' if row.get('confused_with') else '–',
        ]
        for row in sorted(table, key=lambda row: (row[key], -row['videos']))
    ]
    header = ['Class', 'Videos', f'{key.replace("_", " ").capitalize()} (%)', '', 'Most often taken for (videos)']
    body = html_table(f'Classes of {html_text(run.name)}, the lowest first', header, rows, (1, 2))
    if len(rows) > 20:
        return f'<details><summary>{len(rows)} classes</summary>{body}</details>'
    return body


def _write_classes(groups: Sequence[Group]) -> str:
    return _each_run(groups, _classes_of)


def _write_mistakes(groups: Sequence[Group]) -> str:
    number = max(1, min(MAX_MISTAKES, MAX_SHEETS // len(_runs(groups))))

    def write(run: Run) -> str:
        assert run.results is not None, run.name
        mistakes = confident_mistakes(run.results, class_names(run.results), number)
        if not mistakes:
            return f'<p>No mistakes in {len(run.results.paths)} videos.</p>'
        figures, missing = [], 0
        for mistake in mistakes:
            image = read_sheet(mistake['path'])
            missing += image is None
            picture = ''
            if image is not None:
                picture = f'<img alt="Frames of {html_text(mistake["path"])}" src="{jpeg_uri(image, JPEG_QUALITY)}">'
            figures.append(
                f'<figure><figcaption>Predicted: {html_name(mistake["predicted"])} '
                f'({mistake["probability"]:.1%})</figcaption>{picture}'
                f'<p>Label: {html_name(mistake["label"])} ({mistake["label_probability"]:.1%})</p>'
                f'<p class="path">{html_text(mistake["path"])}</p></figure>'
            )
        note = ''
        if missing:
            note = (
                f'<p>{missing} of these videos cannot be read from {html_text(Path.cwd())}. '
                'Run <code>dsanet report</code> in the folder in which the model was tested.</p>'
            )
        return f'{note}<div class="grid-of">{"".join(figures)}</div>'

    note = (
        'Wrong predictions with the highest probabilities: difficult videos or wrong labels. Four frames, evenly '
        'spaced from the first to the last. Percentages are the probabilities of the classes.'
    )
    return f'<p class="note">{note}</p>{_each_run(groups, write)}'


def _write_costs(groups: Sequence[Group]) -> str:
    rows = []
    for group in groups:
        costs = group.runs[0].costs
        row = ['unknown'] * 3
        if costs is not None:
            shape = ' × '.join(map(str, costs['input_shape']))
            row = [f'{costs["params"]:,}', f'{costs["gmacs"]:.3f}', shape]
        seconds = format_spread(spread([median_value(run, 'train/time') for run in group.runs]), 3)
        memory = format_spread(spread([last_value(run, 'train/memory') for run in group.runs]), 0)
        rows.append([html_text(group.name), *row, seconds, memory])
    header = ['Run', 'Parameters', 'GMACs per view', 'Input (U × T × H × W)', 'Seconds per iteration', 'Memory (MiB)']
    note = (
        'GMACs are 10<sup>9</sup> multiply-adds for one view of one video, as <code>dsanet summary</code> counts them; '
        'FLOPs are twice as many. Seconds are the median of the logged ones, memory is the last one.'
    )
    return html_table('Costs', header, rows, range(1, 6)) + f'<p class="note">{note}</p>'


# The sections by title, each a function from the groups of runs to HTML.
SECTIONS: dict[str, Callable[[Sequence[Group]], str]] = {
    'Overview': _write_overview,
    'Differences in the configs': _write_configs,
    'Curves': _write_curves,
    'Confusion matrix': _write_confusion,
    'Accuracy of each class': _write_classes,
    'Most confident mistakes': _write_mistakes,
    'Activation maps': lambda groups: write_maps(_runs(groups)),
    'DSA kernels': lambda groups: write_kernels(_runs(groups)),
    'Costs': _write_costs,
}

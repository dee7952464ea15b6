"""Results as a Markdown table and as JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from dsanet.benchmarks.measuring import Result, spread
from dsanet.utils.markdown import markdown_table
from dsanet.utils.text import count_noun

# Of Result.facts: heading and format.
_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    'x_plain': ('x plain', '{:.2f}'.format),
    'dsanet_x': ('DSANet / this', '{:.2f}'.format),
    'x_clone': ('x clone', '{:.2f}'.format),
    'grouped_x': ('grouped / this', '{:.2f}'.format),
    'gflops': ('GFLOP/s', '{:.0f}'.format),
    'share_of_matmul': ('of matmul', '{:.0%}'.format),
    'gb_per_s': ('GB/s', '{:.1f}'.format),
    'samples': ('samples', str),
    'samples_per_s': ('samples/s', '{:.1f}'.format),
    'cpu_s_per_sample': ('CPU ms/sample', lambda value: f'{1000 * value:.1f}'),
    'worker_pss_mb': ('worker PSS MB', '{:.0f}'.format),
    'worker_peak_mb': ('worker peak MB', '{:.0f}'.format),
    'lines': ('lines', str),
    'list_mb': ('list MB', '{:.0f}'.format),
    'worker_private_mb': ('worker private MB', '{:.0f}'.format),
    'modules': ('modules', str),
}

LEGEND = {
    'CPU ms': 'user and system time of all threads, minimum of the repeats, then their median',
    'spread': 'largest minus smallest CPU time, relative to the median',
    'wall ms': 'median',
    'peak MB': 'largest resident memory of the process in a call, in 10^6 bytes; on a GPU, allocated on it',
    'added MB': 'the same, above the memory before the call',
    'x plain': 'time relative to the same step without checkpointing and with all modules',
    'DSANet / this': 'time of the same work of CONFIG, the first rows, relative to this',
    'x clone': 'time relative to a clone of the same features',
    'grouped / this': 'time of the grouped convolution relative to this',
    'GFLOP/s': '2 x multiply-adds per second; a step counts as three forward passes',
    'of matmul': 'GFLOP/s relative to the matrix product of the same precision',
    'GB/s': 'bytes copied per second',
    'samples/s': 'samples of a repeat per second of wall time, median',
    'CPU ms/sample': 'of this process and the data workers',
    'worker PSS MB': 'largest proportional set size of a data worker: shared memory is divided by its users',
    'worker peak MB': 'largest resident memory of a data worker',
    'list MB': 'memory that the dataset adds to the process',
    'worker private MB': 'memory that a forked data worker does not share after it has read all records',
    'modules': 'imported Python modules',
}


def format_legend(table: str) -> str:
    """Return an explanation of the columns that a table has."""
    headings = {cell.strip() for cell in table.partition('\n')[0].split('|')}
    lines = [f'- {heading}: {text}' for heading, text in LEGEND.items() if heading in headings]
    return '\n'.join([*lines, '- ratios and rates use the smallest CPU time, on a GPU the smallest wall time'])


def format_table(results: Sequence[Result]) -> str:
    """Return a Markdown table, with the columns for which any result has a value."""
    columns: dict[str, list[str]] = {
        'what': [result.name for result in results],
        'CPU ms': [_milliseconds(min(result.cpu_s)) for result in results],
        'median': [_milliseconds(median(result.cpu_s)) for result in results],
        'spread': [f'{spread(result.cpu_s):.0%}' for result in results],
        'wall ms': [_milliseconds(median(result.wall_s)) for result in results],
    }
    for heading, values in (
        ('peak MB', [result.peak_mb for result in results]),
        ('added MB', [result.added_mb for result in results]),
    ):
        if any(value is not None for value in values):
            columns[heading] = ['-' if value is None else f'{value:.0f}' for value in values]
    for key, (heading, to_text) in _COLUMNS.items():
        found = [result.facts.get(key) for result in results]
        if any(value is not None for value in found):
            columns[heading] = ['-' if value is None else to_text(value) for value in found]
    return markdown_table(list(columns), list(zip(*columns.values(), strict=True)))


def _milliseconds(value: float) -> str:
    """Return seconds as milliseconds with about three digits."""
    value *= 1000
    return f'{value:.0f}' if value >= 100 else f'{value:.1f}' if value >= 10 else f'{value:.2f}'


def describe(machine: Mapping[str, Any], load_at_end: float) -> str:
    """Return one line about the machine."""
    name = machine['gpu'] or machine['processor']
    return (
        f'{name}, {count_noun(machine["cores"], "core")}, {count_noun(machine["threads"], "thread")}, load average '
        f'{machine["load_average"][0]:.1f} at the start and {load_at_end:.1f} at the end, torch {machine["torch"]}, '
        f'Python {machine["python"]}'
    )


def to_json(kind: str, machine: Mapping[str, Any], results: Sequence[Result], **more: Any) -> bytes:
    """Return the results as JSON: ``benchmark``, ``machine``, ``results``, and ``more``."""
    content = {'benchmark': kind, 'machine': machine, **more, 'results': [result.as_dict() for result in results]}
    return json.dumps(content, indent=2).encode() + b'\n'

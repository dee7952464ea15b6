import json

from dsanet.benchmarks.measuring import Result
from dsanet.benchmarks.tables import describe, format_legend, format_table, to_json

MACHINE = {'gpu': None, 'processor': 'CPU', 'cores': 2, 'threads': 1, 'load_average': [3.0, 1, 1]}
VERSIONS = {'torch': '2.6', 'python': '3.10'}


def test_table_has_only_used_columns() -> None:
    results = [
        Result('a', [0.5, 0.5, 0.5], [0.01, 0.02, 0.03], 100.4, 1.6, {'gflops': 12.3}),
        Result('b', [0.5], [0.2], facts={'share_of_matmul': 0.456}),
    ]
    header, rule, first, second = ([c.strip() for c in r.split('|')[1:-1]] for r in format_table(results).splitlines())
    assert header == ['what', 'CPU ms', 'median', 'spread', 'wall ms', 'peak MB', 'added MB', 'GFLOP/s', 'of matmul']
    assert set(''.join(rule)) == {'-', ':'}
    assert first == ['a', '10.0', '20.0', '100%', '500', '100', '2', '12', '-']
    assert second == ['b', '200', '200', '0%', '500', '-', '-', '-', '46%']


def test_legend_explains_the_columns_of_the_table() -> None:
    legend = format_legend(format_table([Result('a', [1.0], [1.0], facts={'x_clone': 2.0})]))
    explained = [line.split(':')[0] for line in legend.splitlines()]
    assert explained[:4] == ['- CPU ms', '- spread', '- wall ms', '- x clone']


def test_machine_line_and_json_name_load_and_threads() -> None:
    line = describe({**MACHINE, **VERSIONS}, 4.0)
    assert '2 cores, 1 thread, load average 3.0 at the start and 4.0' in line
    content = json.loads(to_json('model', MACHINE, [Result('a', [1.0], [1.0])], repeats=1))
    assert list(content) == ['benchmark', 'machine', 'repeats', 'results']
    assert content['results'][0]['cpu_s'] == [1.0]

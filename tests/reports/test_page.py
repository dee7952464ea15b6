import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from dsanet.reports.page import SECTIONS, build_page
from dsanet.reports.run_data import read_runs
from dsanet.reports.svg_charts import ticks
from tests.reports.run_dirs import write_run


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)


def test_page_escapes_names_and_loads_nothing(tmp_path: Path) -> None:
    page = build_page(read_runs([write_run(tmp_path / '<i>x', 0), write_run(tmp_path / 'y', 0, rate=0.1)]))
    tags = _Tags()
    tags.feed(page)
    assert not tags.names & {'script', 'b', 'i', 'link', 'iframe'}
    assert not re.search(r'(?:src|href)="(?!data:|#)|url\(|@import', page)
    assert page.count('<section ') == len(SECTIONS)
    assert '&lt;b&gt;run&lt;/b&gt;' in page


def test_page_shows_counts_and_confident_mistakes(tmp_path: Path) -> None:
    page = build_page(read_runs([write_run(tmp_path / 'x', 0)]))
    assert page.index('d.mp4') < page.index('&lt;script&gt;.mp4'), 'the most confident mistake is first'
    assert re.search(r'→ walk &amp; &quot;sit&quot;: 1</title>', page)
    assert '346,923' in page, 'parameters of the model: 347,568 with 8 classes, less 5 * (128 + 1)'


def test_run_without_results_names_the_command(tmp_path: Path) -> None:
    page = build_page(read_runs([write_run(tmp_path / 'x', 0, with_results=False)]))
    assert f'dsanet test {tmp_path}/x/best.pth --out {tmp_path}/x/results.json' in page


def test_ticks_are_round() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(20, 960) == [200, 400, 600, 800]


def test_seeds_of_all_runs_are_compared(tmp_path: Path) -> None:
    settings = [('a_seed0', 0, 0.1), ('a_seed1', 1, 0.1), ('b', 0, 0.2)]
    page = build_page(read_runs([write_run(tmp_path / name, seed, rate) for name, seed, rate in settings]))
    assert re.search(r'<code>runtime.seed</code></th><td[^>]*><code>0, 1</code></td><td[^>]*><code>0</code>', page)


def baseline_rows(page: str) -> list[list[str]]:
    rows = re.findall(r'<tr>(.*?)</tr>', page, re.S)
    return [re.findall(r'>([^<>]+)<', row) for row in rows if 'Most frequent class' in row]


def test_most_frequent_class_is_one_row(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / 'a', 0), write_run(tmp_path / 'b', 0, rate=0.2)])
    labels = runs[0].results.labels
    share = 100 * np.bincount(labels).max() / len(labels)
    (row,) = baseline_rows(build_page(runs))
    assert row[-2:] == [f'{share:.2f}', f'{100 / len(set(labels.tolist())):.2f}']
    other = replace(runs[1].results, labels=np.zeros_like(labels))
    rows = baseline_rows(build_page([runs[0], replace(runs[1], results=other)]))
    assert [row[-2:] for row in rows] == [row[-2:], ['100.00', '100.00']]
    assert ['test of' in row[0] for row in rows] == [True, True]

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from dsanet.reports.svg_charts import MAX_POINTS, Line, draw_lines, draw_matrix, thin_out, ticks


@pytest.mark.parametrize(
    ('low', 'high', 'expected'),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-0.4, 1.2, [0, 0.5, 1]),
        (3, 4.1, [3, 3.25, 3.5, 3.75, 4]),
        (100, 100_100, [20_000, 40_000, 60_000, 80_000, 100_000]),
    ],
)
def test_ticks_are_round_values(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_thinned_points_keep_both_ends() -> None:
    points = [(float(i), 0.0) for i in range(1000)]
    thin = thin_out(points)
    assert len(thin) == MAX_POINTS
    assert (thin[0], thin[-1]) == (points[0], points[-1])
    assert thin == sorted(set(thin))
    assert thin_out(points[:7]) == points[:7]


def test_lines_are_to_scale_and_escaped() -> None:
    lines = [Line('<a>', 0, [(0, 0), (5, 1), (10, 2)]), Line('b', 9, [(5, 1)])]
    root = ET.fromstring(draw_lines(lines, 'loss & more', 'iteration'))
    assert root.get('aria-label') == 'loss & more'
    line, dot = root.find("path[@class='line s0']"), root.find("circle[@class='dot s1']")
    assert line is not None
    assert dot is not None
    assert line.findtext('title') == '<a>'
    corners = [tuple(map(float, corner.split())) for corner in str(line.get('d')).lstrip('M').split('L')]
    steps = np.diff(np.array(corners), axis=0)
    assert steps[0] == pytest.approx(steps[1], abs=0.11)  # numbers have one digit
    assert steps[0][0] > 0 > steps[0][1]  # up is a smaller y
    assert (float(str(dot.get('cx'))), float(str(dot.get('cy')))) == pytest.approx(corners[1], abs=0.11)


def test_matrix_shows_the_largest_cells() -> None:
    matrix = np.array([[8, 2], [0, 5]])
    shares = matrix / matrix.sum(axis=1, keepdims=True)
    root = ET.fromstring(draw_matrix(matrix, shares, ['a', '<b>'], max_cells=2))
    cells = [
        (c.get('class'), c.findtext('title'), c.get('fill-opacity'))
        for c in root.iter('rect')
        if c.find('title') is not None
    ]
    assert cells == [('right', 'a → a: 8', '0.89'), ('right', '<b> → <b>: 5', '1.00')]
    root = ET.fromstring(draw_matrix(matrix, shares, ['a', '<b>'], max_cells=9))
    assert [c.get('fill-opacity') for c in root.iter('rect') if c.get('class') == 'wrong'] == ['0.45']

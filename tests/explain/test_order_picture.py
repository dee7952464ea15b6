import re

import numpy as np

from dsanet.explain.order import OrderResult
from dsanet.explain.order_picture import draw_order


def test_picture_shows_accuracies_of_both_models(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__('matplotlib').rcParams, 'svg.fonttype', 'none')  # text stays text
    scores = np.eye(4, dtype=np.float32)[[[0, 1, 1], [0, 0, 1]]]
    results = {name: OrderResult(('in order', 'reversed'), scores, np.array([0, 1, 1])) for name in ('model', 'other')}
    draw_order(results, tmp_path / 'o.svg', 'a $ 日 title')
    text = (tmp_path / 'o.svg').read_text()
    shown = re.findall(r'>([^<>\n]+)</text>', text)
    assert (shown.count('100.0'), shown.count('66.7')) == (2, 2)
    assert {'model', 'other', 'in order', 'reversed'} <= set(shown)

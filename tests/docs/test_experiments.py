"""The hours of docs/experiments.md against `dsanet scaling`."""

import math
import re

import pytest

from dsanet.config.shipped import find_plan
from dsanet.engine.scaling import Parts, estimate
from dsanet.experiments.plan import read_plan
from tests.docs.pages import PAGES

ROWS = re.findall(
    r'^\| ([\d.]+) \| (\d+) h \| ([\d,]+) h \| (\d+) \| ([\d,]+) MB/s \|$', PAGES['docs/experiments.md'], re.M
)
KINETICS_400 = 246_245
GRADIENTS = 4 * 32_454_456  # parameters of the reference config
OPTIONS = {'--batch-size': 12, '--decode': 0.12, '--video-mb': 1.5, '--network': 25, '--link': 200, '--storage': 2000}


def test_hours_follow_from_the_formulas() -> None:
    assert len(ROWS) == 3
    (num_runs,) = re.findall(r'`experiments/kinetics`, (\d+) runs', PAGES['docs/experiments.md'])
    assert int(num_runs) == len(read_plan(find_plan('experiments/kinetics')).trials)
    for step, one, every, cores, reads in ROWS:
        parts = Parts(float(step), 12, 0.12, 1.5e6, GRADIENTS, 25e9, 200e9, 2e9)
        run = estimate(parts, gpus=8)
        hours = 100 * run.epoch_s(KINETICS_400) / 3600
        assert float(one) == pytest.approx(hours, abs=0.5)
        assert float(every.replace(',', '')) == pytest.approx(int(num_runs) * hours, abs=0.5)
        assert int(cores) == math.ceil(run.cores_needed)
        assert float(reads.replace(',', '')) == pytest.approx(run.read_bytes_s / 1e6, abs=0.5)


@pytest.mark.parametrize(('option', 'value'), OPTIONS.items())
def test_page_has_the_options_of_the_hours(option: str, value: float) -> None:
    assert f'{option} {value:g}' in PAGES['docs/experiments.md'].replace('\n', ' ')

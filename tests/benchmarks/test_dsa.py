"""The grouped convolution computes DSA, and each shape of a model is measured once."""

import pytest
import torch

from dsanet.benchmarks.dsa import GroupedDSA, benchmark_dsa, find_dsa
from dsanet.models.modules_maker.DSA import DSA
from tests.benchmarks.conftest import CPU

pytestmark = pytest.mark.usefixtures('short')


@pytest.mark.parametrize(('ratio', 'length', 'residual'), [(1, 3, False), (0.5, 5, True)])
def test_grouped_convolution_equals_dsa(ratio: float, length: int, residual: bool) -> None:
    dsa = DSA(6, num_snippets=4, kernel_size=length, channel_ratio=ratio, residual=residual).eval()
    x = torch.randn(8, 6, 2, 3, 5)
    torch.testing.assert_close(GroupedDSA(dsa)(x), dsa(x))


def test_shapes_are_those_inside_the_model(config: dict) -> None:
    config['model']['module_cfg']['blocks'] = (0, 1, 1, 0)
    config['model']['backbone']['depth'] = 18
    config['model']['module_cfg']['blocks'] = (0, (1, 1), (0, 1), 0)
    found = find_dsa(config, (2, 2, 32, 32))
    assert list(found) == [(2, 8, 2, 4, 4), (2, 16, 2, 2, 2)], 'two modules share a shape'
    assert all(next(module.parameters()).device == CPU for module in found.values())


def test_ratios_are_relative_to_clone_and_convolution(config: dict) -> None:
    results = benchmark_dsa({'tiny': config}, 2, 1, CPU, batch_size=3)
    assert len(results) == 6
    for first in (0, 3):
        dsa, grouped, clone = results[first : first + 3]
        assert dsa.name.endswith('DSA')
        assert (clone.facts['x_clone'], grouped.facts['grouped_x']) == (1, 1)
        assert dsa.facts['x_clone'] == pytest.approx(min(dsa.cpu_s) / min(clone.cpu_s))
        assert dsa.facts['grouped_x'] == pytest.approx(min(grouped.cpu_s) / min(dsa.cpu_s))
        assert dsa.facts['shape'] == [6, 8, 2, 2, 2]
    assert [result.facts['order'] for result in results[::3]] == ['contiguous', 'channels-last']


def test_compiled_module_is_measured_on_request(config: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, 'compile', lambda module: module)  # compiling takes a minute
    results = benchmark_dsa({'tiny': config}, 1, 1, CPU, batch_size=2, with_compiled=True)
    assert [result.name.partition(': ')[2] for result in results] == 2 * [
        'DSA', 'grouped conv3d', 'clone', 'DSA compiled',
    ]  # fmt: skip


def test_model_without_dsa_is_an_error(config: dict) -> None:
    config['model']['module_cfg'] = None
    with pytest.raises(ValueError, match='DSA'):
        find_dsa(config, (2, 2, 16, 16))

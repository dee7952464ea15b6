"""Networks of other libraries: torchvision's is always there; the others are replaced by stand-ins."""

import pytest
import torch
from torch import Tensor, nn

from dsanet.benchmarks import peers
from dsanet.benchmarks.peers import Peer, benchmark_peers, count_gmacs
from dsanet.models.summary import summarize_model
from tests.benchmarks.conftest import CPU

pytestmark = pytest.mark.usefixtures('short')
SHAPE = (2, 4, 16, 16)


class Linear(nn.Module):
    """Pools clips, and records their memory format and the modes of its calls."""

    def __init__(self, _shape: tuple) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 8)
        self.calls: list[tuple] = []

    def forward(self, clips: Tensor) -> Tensor:
        is_last = clips.is_contiguous(memory_format=torch.channels_last_3d)
        self.calls.append((len(clips), self.training, is_last))
        return self.layer(clips.mean(dim=(2, 3, 4)))


def fail(_shape: tuple) -> nn.Module:
    raise AttributeError('no such class')


def test_peers_do_the_same_work(config: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = [Linear(SHAPE), Linear(SHAPE)]
    monkeypatch.setattr(
        peers,
        'PEERS',
        {
            'a': Peer('torch', lambda _: networks[0], ''),
            'b': Peer('torch', lambda _: networks[1], '', torch.channels_last_3d),
            'broken': Peer('torch', fail, 'pip install broken'),
            'absent': Peer('no_such_library', Linear, 'pip install absent'),
        },
    )
    results, missing = benchmark_peers('tiny', config, 1, 1, CPU, batch_size=3, shape=SHAPE)
    works = ['forward fp32', 'forward bf16', 'step fp32']
    names = [f'{name} {work}' for name in ('tiny', 'a', 'b') for work in works]
    assert [result.name for result in results[3:]] == names
    assert [result.facts['dsanet_x'] for result in results[3:6]] == [1, 1, 1]
    assert all(result.facts['dsanet_x'] == pytest.approx(min(one.cpu_s) / min(result.cpu_s))
               for one, result in zip(results[3:6], results[6:9], strict=True))  # fmt: skip
    own = 3 * summarize_model(config['model'], SHAPE)['gmacs']
    assert [result.facts['gmacs'] for result in results[3:6]] == pytest.approx([own, own, 3 * own])
    counting, *work = networks[0].calls
    assert counting == (1, False, False)
    # 3 videos of 2 snippets, in the warm-up and in one repeat.
    assert work == [(6, training, False) for _ in range(2) for training in (False, False, True)]
    assert all(is_last for *_, is_last in networks[1].calls[1:])
    assert set(missing) == {'broken', 'absent'}
    assert missing['absent'].endswith('pip install absent')
    assert 'no such class' in missing['broken']


def test_torchvision_is_built_and_counted() -> None:
    with torch.device('meta'):
        network = peers.PEERS['torchvision R3D-18'].build(SHAPE).eval()
        clips = torch.zeros(2, 3, *SHAPE[1:])
    assert network(clips).shape == (2, 400)
    # More than its first convolution, with 64 x 3 x 3 x 7 x 7 weights at 4 x 8 x 8 positions.
    assert count_gmacs(network, clips) > 2 * 64 * 3 * 3 * 49 * 4 * 64 / 1e9
    assert count_gmacs(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), torch.zeros(4, 12)) == pytest.approx(240e-9)

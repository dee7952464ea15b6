"""Video networks of other libraries, on the same clips, in the same run.

Networks with equal arithmetic are compared by time; the others by their rate, multiply-adds per second.
"""

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dsanet.benchmarks.measuring import Result, add_rates, measure, reference_functions, seconds
from dsanet.benchmarks.models import (
    PRECISIONS,
    make_forward,
    make_step,
    optimized_copy,
    random_batch,
    training_variants,
    without_weight_files,
)
from dsanet.config.registry import MODELS, build
from dsanet.engine.evaluator import autocast
from dsanet.engine.preparation import place_model
from dsanet.models.summary import find_input_shape, summarize_model

Config = dict[str, Any]
Shape = tuple[int, ...]
NUM_CLASSES = 400


def _build_mmaction2(_shape: Shape) -> nn.Module:
    """SlowOnly-R50, the network of DSANet-R50 without DSA."""
    import mmcv

    # mmaction2 1.2.0 refuses mmcv 2.2, and its wheel lacks a package that mmaction.models imports. Neither is used by
    # SlowOnly, so the version check sees an older one, and the packages in between are not executed.
    version, mmcv.__version__ = mmcv.__version__, '2.1.0'
    try:
        root = Path(importlib.import_module('mmaction').__path__[0])
    finally:
        mmcv.__version__ = version
    for name in ('models', 'models.backbones', 'models.heads'):
        package = types.ModuleType(f'mmaction.{name}')
        package.__path__ = [str(root.joinpath(*name.split('.')))]
        sys.modules.setdefault(package.__name__, package)
    importlib.import_module('mmaction.models.losses')  # registers the loss of the head
    backbone = importlib.import_module('mmaction.models.backbones.resnet3d_slowonly')
    head = importlib.import_module('mmaction.models.heads.i3d_head')
    return nn.Sequential(
        backbone.ResNet3dSlowOnly(depth=50, pretrained=None, norm_eval=False), head.I3DHead(NUM_CLASSES, 2048)
    )


def _build_pytorchvideo(shape: Shape) -> nn.Module:
    """Slow-R50, whose pooling is for clips of at least 4 frames and 7 x 7 features."""
    resnet = importlib.import_module('pytorchvideo.models.resnet')
    size = (shape[1], -(-shape[2] // 32), -(-shape[3] // 32))
    return resnet.create_resnet(model_depth=50, model_num_class=NUM_CLASSES, head_pool_kernel_size=size)


def _build_torchvision(_shape: Shape) -> nn.Module:
    """R3D-18."""
    return importlib.import_module('torchvision.models.video').r3d_18(num_classes=NUM_CLASSES)


class _VideoMae(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        library = importlib.import_module('transformers')
        config = library.VideoMAEConfig(num_frames=shape[1], image_size=shape[2], num_labels=NUM_CLASSES)
        self.net = library.VideoMAEForVideoClassification(config)

    def forward(self, clips: Tensor) -> Tensor:
        return self.net(clips.transpose(1, 2)).logits  # (N, K), from (N, T, C, H, W)


@dataclass(frozen=True)
class Peer:
    """A network of another library.

    Args:
        module: the library's module.
        build: builds the network for U, T, H, W.
        install: the tested way to install the library.
        memory_format: of the clips.
    """

    module: str
    build: Callable[[Shape], nn.Module]
    install: str
    memory_format: torch.memory_format = torch.contiguous_format


_INSTALL_MMACTION2 = 'pip install --no-deps mmaction2 && pip install einops'
PEERS = {
    'mmaction2 SlowOnly-R50': Peer('mmaction', _build_mmaction2, _INSTALL_MMACTION2),
    # Not the order of mmaction2's own pipelines, but faster on many machines.
    'mmaction2 SlowOnly-R50, channels-last': Peer(
        'mmaction', _build_mmaction2, _INSTALL_MMACTION2, torch.channels_last_3d
    ),
    'PyTorchVideo Slow-R50': Peer(
        'pytorchvideo',
        _build_pytorchvideo,
        'pip install --no-deps pytorchvideo && pip install fvcore iopath parameterized',
    ),
    'torchvision R3D-18': Peer('torchvision', _build_torchvision, 'pip install torchvision'),
    'transformers VideoMAE-B': Peer('transformers', _VideoMae, 'pip install transformers'),
}


def benchmark_peers(
    name: str,
    config: Config,
    repeats: int,
    warmup: int,
    device: torch.device,
    batch_size: int = 1,
    shape: Shape | None = None,
) -> tuple[list[Result], dict[str, str]]:
    """Measure the forward pass in fp32 and bf16 and the fp32 training step of a config's model and of the peers.

    The config's model works as in ``dsanet test`` and ``dsanet train``, and its time includes the normalization of its
    uint8 frames. Peers see the U snippets of a video as a batch of normalized clips, in the order that their own
    pipelines give; a step is the forward and backward pass with cross-entropy and an update by SGD with momentum.

    Args:
        name: of the config.
        config: a checked config.
        repeats, warmup: as for ``measure``.
        device: where to run.
        batch_size: videos, of U clips.
        shape: U, T, H, W; None for that of the training samples.

    Returns:
        The references and the results, with ``gmacs``, ``share_of_matmul`` and ``dsanet_x``, the time of the config's
        model relative to this one; and for each peer that was not measured, the reason and how to install it.
    """
    shape = shape or find_input_shape(config)
    functions = reference_functions(device)
    facts: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    model = build(without_weight_files(config)['model'], MODELS, 'model')
    place_model(model, device)
    inputs, _ = random_batch(batch_size, shape, model.num_classes, device)
    gmacs = batch_size * summarize_model(config['model'], shape)['gmacs']
    clips = model.data_preprocessor(inputs).flatten(0, 2)  # (N*V*U, C, T, H, W)
    clip_label = torch.zeros(len(clips), dtype=torch.int64, device=device)
    work_of = {
        name: {
            'forward fp32': make_forward(optimized_copy(model, config, 'fp32'), inputs, 'fp32', device),
            'forward bf16': make_forward(optimized_copy(model, config, 'bf16'), inputs, 'bf16', device),
            'step fp32': make_step(training_variants(config)[''], None, batch_size, shape, device),
        }
    }
    costs = {name: gmacs}
    for title, peer in PEERS.items():
        if importlib.util.find_spec(peer.module) is None:
            missing[title] = f'not installed: {peer.install}'
            continue
        data = clips.contiguous(memory_format=peer.memory_format)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # deprecations inside of the libraries
                network = peer.build(shape).to(device)
                cost = count_gmacs(network, data)
        except Exception as error:  # any other library, in any version
            reason = f'{type(error).__name__}: {str(error).strip()[:200]}'
            missing[title] = f'failed ({reason}); tested with: {peer.install}'
            continue
        work_of[title], costs[title] = _make_work(network, data, clip_label, device), cost
    for title, works in work_of.items():
        for work, function in works.items():
            functions[f'{title} {work}'] = function
            precision, factor = ('bf16' if work.endswith('bf16') else 'fp32', 3 if work.startswith('step') else 1)
            facts[f'{title} {work}'] = {'precision': precision, 'gmacs': factor * costs[title], 'work': work}
    results = measure(functions, repeats, warmup, device)
    times = {result.name: seconds(result, device) for result in results}
    for result in results:
        result.facts.update(facts.get(result.name, {}))
        if 'work' in result.facts:
            result.facts['dsanet_x'] = times[f'{name} {result.facts["work"]}'] / times[result.name]
    add_rates(results, device)
    return results, missing


def count_gmacs(network: nn.Module, clips: Tensor) -> float:
    """Return the multiply-adds of a forward pass for clips (N, C, T, H, W), counted by torch for one of them."""
    network.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(clips[:1])
    return len(clips) * counter.get_total_flops() / 2 / 1e9


def _make_work(network: Any, data: Tensor, label: Tensor, device: torch.device) -> dict[str, Callable[[], None]]:
    optimizer: list[Any] = []  # made in the first step, because its memory is large

    def forward(precision: str) -> None:
        network.eval()
        with torch.inference_mode(), autocast(device, PRECISIONS[precision]):
            network(data)

    def step() -> None:
        if not optimizer:
            optimizer.append(torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, fused=True))
        network.train()
        optimizer[0].zero_grad()
        nn.functional.cross_entropy(network(data), label).backward()
        optimizer[0].step()

    return {'forward fp32': lambda: forward('fp32'), 'forward bf16': lambda: forward('bf16'), 'step fp32': step}

"""The DSA modules of a config, against a grouped convolution and a plain copy of the same features."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dsanet.benchmarks.measuring import Result, measure, seconds
from dsanet.benchmarks.models import without_weight_files
from dsanet.config.registry import MODELS, build
from dsanet.models.modules_maker.DSA import DSA
from dsanet.models.summary import find_input_shape

Config = dict[str, Any]
ORDERS = {'contiguous': torch.contiguous_format, 'channels-last': torch.channels_last_3d}
EAGER, GROUPED, CLONE, COMPILED = 'DSA', 'grouped conv3d', 'clone', 'DSA compiled'


class GroupedDSA(nn.Module):
    """DSA with the aggregation written as a grouped convolution, with one group per view and channel.

    Args:
        dsa: the module to repeat, whose parameters are used.
    """

    def __init__(self, dsa: DSA) -> None:
        super().__init__()
        self.dsa = dsa

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of DSA for features (N*V*U, C, T, H, W)."""
        dsa = self.dsa
        active, passive = x[:, : dsa.channels], x[:, dsa.channels :]
        snippets = active.unflatten(0, (-1, dsa.num_snippets))  # (N*V, U, C1, T, H, W)
        kernel = dsa.make_kernel(snippets)  # (N*V, C1, L)
        views, length, channels, frames, height, width = snippets.shape
        folded = snippets.transpose(1, 2).reshape(1, views * channels, length, -1, width)  # (1, N*V*C1, U, T*H, W)
        weight = kernel.reshape(views * channels, 1, dsa.kernel_size, 1, 1)  # (N*V*C1, 1, L, 1, 1)
        padding = (dsa.kernel_size // 2, 0, 0)
        mixed = nn.functional.conv3d(folded, weight, padding=padding, groups=views * channels)
        mixed = mixed.reshape(views, channels, length, frames, height, width).transpose(1, 2)  # (N*V, U, C1, T, H, W)
        mixed = mixed.flatten(0, 1)  # (N*V*U, C1, T, H, W)
        if dsa.residual:
            mixed = mixed + active
        return torch.cat([mixed, passive], dim=1) if passive.shape[1] else mixed


def find_dsa(config: Config, shape: tuple[int, ...]) -> dict[tuple[int, ...], DSA]:
    """Return the DSA modules of a config by the shape of their input for one video; one module for each shape.

    Args:
        config: a checked config.
        shape: U, T, H, W of a view.

    Raises:
        ValueError: the model has no DSA.
    """
    model_cfg = without_weight_files(config)['model']
    model = build(model_cfg, MODELS, 'model')
    modules = {name: module for name, module in model.named_modules() if isinstance(module, DSA)}
    if not modules:
        raise ValueError("the model has no DSA; use a config with model.module_cfg.type='DSA'")
    shapes: dict[str, tuple[int, ...]] = {}
    num_snippets, frames, height, width = shape
    with torch.device('meta'), torch.no_grad():
        shadow = build(model_cfg, MODELS, 'model').eval()
        for name in modules:
            shadow.get_submodule(name).register_forward_pre_hook(partial(_record_shape, shapes, name))
        shadow(torch.zeros(1, 1, num_snippets, 3, frames, height, width, dtype=torch.uint8))
    found: dict[tuple[int, ...], DSA] = {}
    for name, size in shapes.items():
        found.setdefault(size, modules[name])
    return found


def _record_shape(shapes: dict[str, tuple[int, ...]], name: str, _module: nn.Module, args: tuple[Tensor]) -> None:
    shapes[name] = tuple(args[0].shape)


def benchmark_dsa(
    configs: Mapping[str, Config],
    repeats: int,
    warmup: int,
    device: torch.device,
    batch_size: int = 1,
    shape: tuple[int, ...] | None = None,
    with_compiled: bool = False,
) -> list[Result]:
    """Measure forward and backward passes of DSA at each shape where the configs' models have it.

    What is measured is ``f(x).square().mean().backward()``, for f DSA, the same as a grouped convolution, and a clone,
    with x contiguous and channels-last.

    Args:
        configs: checked configs by name.
        repeats, warmup: as for ``measure``.
        device: where to run.
        batch_size: videos.
        shape: U, T, H, W of a view; None for that of each config's training samples.
        with_compiled: also measure DSA after ``torch.compile``, which takes a minute for each shape.

    Returns:
        Results with ``shape``, ``x_clone``, the time relative to the clone, and ``grouped_x``, the time of the grouped
        convolution relative to this one.

    Raises:
        ValueError: a model has no DSA.
    """
    results = []
    for name, config in configs.items():
        for size, module in find_dsa(config, shape or find_input_shape(config)).items():
            module = module.to(device).train()
            for order, memory_format in ORDERS.items():
                x = torch.randn(batch_size * size[0], *size[1:], device=device)  # (N*V*U, C, T, H, W)
                x = x.to(memory_format=memory_format).requires_grad_()
                variants: dict[str, Callable[[Tensor], Tensor]] = {
                    EAGER: module,
                    GROUPED: GroupedDSA(module),
                    CLONE: torch.clone,
                }
                if with_compiled:
                    torch.compiler.reset()  # otherwise it gives up after several shapes
                    variants[COMPILED] = torch.compile(module)
                part = measure({key: _make_pass(f, x) for key, f in variants.items()}, repeats, warmup, device)
                _add_ratios(part, device)
                for result in part:
                    channels = 'x'.join(map(str, x.shape))
                    result.name = f'{name} {channels} {order}: {result.name}'
                    result.facts |= {'shape': list(x.shape), 'order': order, 'channels': module.channels}
                results += part
    return results


def _make_pass(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    def forward_and_backward() -> None:
        function(x).square().mean().backward()

    return forward_and_backward


def _add_ratios(results: list[Result], device: torch.device) -> None:
    times = {result.name: seconds(result, device) for result in results}
    for result in results:
        result.facts['x_clone'] = times[result.name] / times[CLONE]
        result.facts['grouped_x'] = times[GROUPED] / times[result.name]

"""Costs of a model: parameters, multiply-adds and output shapes of the stages. Needs no data and no weights.

GMACs count convolutions, matrix products and DSA's weighted sums for one view of one video, but not norms, activations
and pooling.
"""

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dsanet.config.registry import MODELS, build
from dsanet.models.backbones.feature_layout import first_tensor


def find_input_shape(config: dict[str, Any]) -> tuple[int, ...]:
    """Return (U, T, H, W) of a training sample from the training pipeline."""
    dataset = config.get('train_dataloader', config['test_dataloader'])['dataset']
    pipeline = dataset.get('datasets', [dataset])[0]['pipeline']  # all parts of a MixedDataset have one shape
    sample = next((step for step in pipeline if step['type'] in ('SampleSnippets', 'SampleSegments')), None)
    sizes = [step['size'] for step in pipeline if 'size' in step]
    if sample is None or not sizes:
        raise ValueError(
            'input shape not found: the pipeline has no SampleSnippets or SampleSegments, or no step with a size; set '
            '--input-shape U T H W'
        )
    height, width = (sizes[-1], sizes[-1]) if isinstance(sizes[-1], int) else sizes[-1]
    return sample['num_snippets'], sample['frames_per_snippet'], height, width


def count_macs(model: nn.Module, inputs: torch.Tensor) -> int:
    """Return the multiply-adds of one forward pass, counted by torch."""
    declared: dict[str, int] = {}  # of modules with num_macs, which replaces torch's count, by name

    def record(name: str, module: Any) -> Any:
        return module.register_forward_pre_hook(lambda _, args: declared.update({name: module.num_macs(*args)}))

    hooks = [record(name, module) for name, module in model.named_modules() if hasattr(module, 'num_macs')]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    flops = {name: sum(count.values()) for name, count in counter.get_flop_counts().items()}
    total = flops.get('Global', 0) // 2  # no entry if there are no products
    for name, macs in declared.items():
        total += macs - flops.get(f'{type(model).__name__}.{name}', 0) // 2
    return total


def _find_parts(module: nn.Module, name: str) -> dict[str, nn.Module]:
    """Return the children by name; instead of a container, which is never called itself, its children."""
    parts: dict[str, nn.Module] = {}
    for child, part in module.named_children():
        if type(part).forward is nn.Module.forward:
            parts.update(_find_parts(part, f'{name}.{child}'))
        elif not isinstance(part, nn.ReLU):
            parts[f'{name}.{child}'] = part
    return parts


def summarize_model(model_cfg: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return ``params``, ``gmacs`` and ``stages`` of a model for one view (U, T, H, W), on the meta device."""
    num_snippets, frames, height, width = shape
    with torch.device('meta'):
        # Without gradients, because torch's counter fails if a module gets a view of a parameter, as in AttentiveHead.
        model = build(model_cfg, MODELS, 'model').eval().requires_grad_(False)
        inputs = torch.zeros(1, 1, num_snippets, 3, frames, height, width, dtype=torch.uint8)
    stages = []

    def record(name: str, module: nn.Module) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            params = sum(p.numel() for p in module.parameters())
            features = first_tensor(output)
            assert features is not None, f'{name} returns features'
            stages.append({'name': name, 'shape': list(features.shape), 'params': params})

        return module.register_forward_hook(hook)

    backbone, name = model.backbone, 'backbone'
    if hasattr(backbone, 'net'):  # a wrapper: show the parts of the wrapped network
        backbone, name = backbone.net, 'backbone.net'
    parts = {**_find_parts(backbone, name), 'cls_head': model.cls_head}
    hooks = [record(name, part) for name, part in parts.items()]
    macs = count_macs(model, inputs)
    for hook in hooks:
        hook.remove()
    return {
        'params': sum(p.numel() for p in model.parameters()),
        'gmacs': macs / 1e9,
        'input_shape': [1, 1, num_snippets, 3, frames, height, width],
        'stages': stages,
    }

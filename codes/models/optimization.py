"""Make a trained model faster for inference, with the same scores except for rounding."""

import copy
import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dsanet.models.backbones.base import Backbone
from dsanet.models.modules_maker.block_maker import to_meta

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def fold_batch_norms(backbone: Backbone) -> int:
    """Multiply the weights of convolutions by the scales of the batch norms that follow them, and remove these.

    In evaluation a batch norm is a scale and an offset per channel, which a convolution can include. A batch norm is
    removed only if its input is the output of a convolution that nothing else uses, and whose weights are neither
    shared nor computed from others, as by weight norm.

    Args:
        backbone: in eval mode; changed in place. Removed norms become ``nn.Identity``.

    Returns:
        The number of removed batch norms.
    """
    modules = dict(backbone.named_modules())
    number = 0
    for conv_name, norm_name in _find_pairs(backbone):
        conv: Any = modules[conv_name]
        norm: Any = modules[norm_name]
        weight, bias = fuse_conv_bn_weights(
            conv.weight.double(),
            None if conv.bias is None else conv.bias.double(),
            norm.running_mean.double(),
            norm.running_var.double(),
            norm.eps,
            None if norm.weight is None else norm.weight.double(),
            None if norm.bias is None else norm.bias.double(),
        )
        is_plain = type(conv) in CONVOLUTIONS and 'weight' in conv._parameters
        if not is_plain and not _is_equal(conv, norm, weight, bias):
            continue
        conv.weight.data = weight.data.to(conv.weight.dtype)
        conv.bias = nn.Parameter(bias.data.to(conv.weight.dtype))
        parent, _, name = norm_name.rpartition('.')
        setattr(backbone.get_submodule(parent), name, nn.Identity())
        number += 1
    return number


@torch.no_grad()
def _is_equal(conv: Any, norm: nn.Module, weight: Tensor, bias: Tensor) -> bool:
    """Return whether a convolution, which may be of a subclass, computes the same with new weights as with a norm."""
    conv, norm = copy.deepcopy(conv).double(), copy.deepcopy(norm).double()
    size = (dilation * (length - 1) + 1 for dilation, length in zip(conv.dilation, conv.kernel_size, strict=True))
    x = torch.randn(2, conv.in_channels, *size, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    x = x.to(weight.device)
    expected = norm(conv(x))
    conv.weight.data, conv.bias = weight.data, nn.Parameter(bias.data)
    return torch.allclose(conv(x), expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def _find_pairs(backbone: Backbone) -> list[tuple[str, str]]:
    """Return the names of convolutions and of the batch norms that alone use their outputs."""
    copied = to_meta(backbone)
    outputs: dict[int, tuple[str, Tensor]] = {}  # with the tensors, so that no other one gets the same id
    pairs: list[tuple[str, str, int]] = []
    calls: dict[str, int] = {}

    def note_output(name: str, output: Tensor) -> None:
        calls[name] = calls.get(name, 0) + 1
        outputs[id(output)] = name, output

    def note_input(name: str, value: Tensor) -> None:
        calls[name] = calls.get(name, 0) + 1
        if id(value) in outputs:
            pairs.append((outputs[id(value)][0], name, id(value)))

    owners = Counter(id(parameter) for module in copied.modules() for parameter in module._parameters.values())
    for name, module in copied.named_modules():
        if any(owners[id(p)] > 1 for p in module._parameters.values() if p is not None):
            continue
        if isinstance(module, CONVOLUTIONS):
            module.register_forward_hook(lambda _module, _inputs, output, name=name: note_output(name, output))
        # Subclasses may do more: those of timm include the activation.
        elif type(module) in NORMS and module.running_mean is not None:
            module.register_forward_pre_hook(lambda _module, inputs, name=name: note_input(name, inputs[0]))
    num_snippets = math.lcm(*{getattr(module, 'num_snippets', 1) for module in backbone.modules()})
    channels, *clip = backbone.probe_shape[1:]
    for module in backbone.modules():  # TAM works with one length only
        clip[0] = getattr(module, 'frames_per_snippet', clip[0])
    dtype = next(backbone.parameters()).dtype
    frames = torch.zeros(num_snippets, channels, *clip, dtype=dtype, device='meta')
    try:
        with _Uses() as uses:
            copied(frames)
    except RuntimeError:  # some operators do not work on the meta device; later ones could use any output
        return []
    return [(conv, norm) for conv, norm, tensor in pairs if uses.count[tensor] == 1 and calls[conv] == calls[norm] == 1]


class _Uses(TorchDispatchMode):
    """Counts the operations that use each tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no other tensor gets the same id

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        self._kept += tensors
        for key in {id(value) for value in tensors}:
            self.count[key] = self.count.get(key, 0) + 1
        return function(*args, **(kwargs or {}))

"""Insert modules such as DSA into a backbone.

Residual blocks have named places for insertion and apply the modules there in their forward pass. Pretrained keys,
activation checkpointing and frozen stages are not affected. In networks without such blocks, or elsewhere, a module is
inserted after a submodule, by its name (``after``).

=============  ====================================  ==================
place          position in the block                 2021 release
=============  ====================================  ==================
before_block   before the branch and the shortcut
before_conv1   start of the residual branch          res, res_1
before_conv2   after conv1, its norm and ReLU        res_2
before_conv3   after conv2, its norm and ReLU        res_3
before_add     after the last norm of the branch     res_4 (R18: res_3)
after_block    after the ReLU after the addition     bottom
=============  ====================================  ==================
"""

import copy
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dsanet.config.arguments import check_arguments, nearest
from dsanet.config.registry import MODELS, build, get_class
from dsanet.models.backbones.base import Backbone
from dsanet.models.backbones.feature_layout import first_tensor, replace_first
from dsanet.models.heads.base import ClsHead
from dsanet.utils.text import count_noun

LOGGER = logging.getLogger(__name__)

# The keys of a module's config for its position; the others are arguments of the module.
PLACEMENT_KEYS = ('place', 'blocks', 'after')

# Constructor arguments of a module that are set when it is inserted; not allowed in a config.
_GIVEN = ('in_channels',)


class InsertableBlock(nn.Module):
    """A residual block with named places for insertion.

    A subclass sets ``place_channels`` and calls ``self.apply_inserted(place, x)`` at each place of its forward.

    Attributes:
        place_channels: number of channels at each place.
    """

    place_channels: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self.inserted: dict[str, list[str]] = {}

    def insert(self, place: str, module: nn.Module) -> str:
        """Insert a module at a place, after those that are already there.

        Args:
            place: one of ``place_channels``.
            module: its input and output have the channels of the place.

        Returns:
            The attribute name of the module, its class name in lower case; ``dsa``, then ``dsa_2``.
        """
        name = base = type(module).__name__.lower()
        number = 2
        while hasattr(self, name):
            name, number = f'{base}_{number}', number + 1
        self.add_module(name, module)
        self.inserted.setdefault(place, []).append(name)
        return name

    def apply_inserted(self, place: str, x: Tensor) -> Tensor:
        """Apply the modules inserted at a place to features (N*V*U, C, T, H, W)."""
        for name in self.inserted.get(place, ()):
            x = getattr(self, name)(x)
        return x


def insert_modules(backbone: Backbone, module_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> None:
    """Insert one or several modules in order.

    Args:
        backbone: the network; changed in place.
        module_cfg: None, a dict or a list of dicts with ``type``, the module's arguments without ``in_channels``, and
            its position. The position is either ``place`` (see the table above; default ``before_conv2``) and
            ``blocks``, one entry per stage, each 0, 1 or a flag per block, as in
            ``(0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), 0)``; or ``after``, the dotted name of a submodule of the backbone
            with features that have positions in time and space, such as ``'net.layer2'``, or several names. The
            module gets them as (B, C, T, H, W), in any layout (``Backbone.feature_layout``).
    """
    if module_cfg is None:
        return
    check_module_cfg(module_cfg, 'module_cfg')
    cfgs = [module_cfg] if isinstance(module_cfg, Mapping) else module_cfg
    # Before the insertion, because a module may require a certain number of snippets or frames.
    channels = probe_channels(backbone, [name for cfg in cfgs for name in _names(cfg)])
    for cfg in cfgs:
        if 'after' in cfg:
            _insert_after(backbone, cfg, channels)
        else:
            _insert_into_blocks(backbone, cfg)


def check_module_cfg(module_cfg: Any, path: str) -> None:
    """Check the keys and types of ``module_cfg``: None, a dict, or a list of dicts (see :func:`insert_modules`)."""
    if module_cfg is None:
        return
    is_list = isinstance(module_cfg, (list, tuple))
    for i, cfg in enumerate(module_cfg if is_list else [module_cfg]):
        where = f'{path}.{i}' if is_list else path
        cls = get_class(cfg, MODELS, where, 'module for insertion into a backbone', is_insertable)
        after = cfg.get('after', ())
        if not isinstance(after, str | list | tuple) or not all(isinstance(name, str) for name in after):
            raise ValueError(f'{where}.after={after!r} must be the name of a submodule or a list of names')
        check_arguments(cls, cfg, where, given=_GIVEN, extra=PLACEMENT_KEYS)


def is_insertable(cls: Any) -> bool:
    """Return whether ``module_cfg`` accepts a registered class."""
    takes_channels = set(_GIVEN) <= inspect.signature(cls).parameters.keys()
    return takes_channels and not (isinstance(cls, type) and issubclass(cls, ClsHead))


def _names(cfg: Mapping[str, Any]) -> list[str]:
    after = cfg.get('after', [])
    return [after] if isinstance(after, str) else list(after)


def _build_module(cfg: Mapping[str, Any], in_channels: int, residual: bool) -> nn.Module:
    """Build a module; ``residual`` is the default of its option with that name, if it has one."""
    arguments = {key: value for key, value in cfg.items() if key not in PLACEMENT_KEYS}
    given: dict[str, Any] = {'in_channels': in_channels}
    takes_residual = 'residual' in inspect.signature(MODELS.module_dict[cfg['type']]).parameters
    if residual and takes_residual and 'residual' not in cfg:
        given['residual'] = True
    return build(arguments, MODELS, 'module_cfg', **given)


def _insert_into_blocks(backbone: Backbone, cfg: Mapping[str, Any]) -> None:
    place = cfg.get('place', 'before_conv2')
    if 'blocks' not in cfg:
        raise KeyError(
            f'module_cfg.blocks is missing: set the blocks of each stage that get {cfg["type"]}, or set '
            'module_cfg.after to the name of a submodule'
        )
    if not backbone.stages:
        raise ValueError(
            f'{type(backbone).__name__} has no blocks with places for insertion; instead of place and blocks, set '
            f'module_cfg.after to the name of the submodule before {cfg["type"]}'
        )
    stages: list[Any] = backbone.stages
    chosen = expand_flags(cfg['blocks'], [len(stage) for stage in stages], 'module_cfg.blocks')
    where = []
    for i, (stage, flags) in enumerate(zip(stages, chosen, strict=True)):
        for j, (block, flag) in enumerate(zip(stage, flags, strict=True)):
            if not flag:
                continue
            if place not in block.place_channels:
                places = list(block.place_channels)
                raise ValueError(
                    f'module_cfg.place={place!r} is not a place of {type(block).__name__}.{nearest(place, places)} '
                    f'Allowed: {", ".join(places)}'
                )
            # As in the 2021 release: the input is added only outside of a residual branch.
            module = _build_module(cfg, block.place_channels[place], residual=place == 'after_block')
            block.insert(place, module)
            where.append(f'layer{i + 1}.{j}')
    if not where:
        raise ValueError(
            f'module_cfg.blocks={cfg["blocks"]!r} selects no block; to insert no module, set module_cfg=None'
        )
    LOGGER.info('Inserted %s %s in %s: %s', cfg['type'], place, count_noun(len(where), 'block'), ', '.join(where))


def _insert_after(backbone: Backbone, cfg: Mapping[str, Any], channels: Mapping[str, int]) -> None:
    for key in ('place', 'blocks'):
        if key in cfg:
            raise ValueError(
                f'module_cfg.{key} and module_cfg.after are mutually exclusive. If one comes from a base config, add '
                '_delete_=True to module_cfg'
            )
    names = _names(cfg)
    if not names:
        raise ValueError('module_cfg.after is empty; to insert no module, set module_cfg=None')
    for name in names:
        module = _build_module(cfg, channels[name], residual=True)
        key = f'{type(module).__name__.lower()}_after_{name.replace(".", "_")}'
        if hasattr(backbone, key):
            raise ValueError(f'module_cfg.after: {cfg["type"]} is already inserted after {name!r}')
        backbone.add_module(key, module)
        backbone.get_submodule(name).register_forward_hook(_InsertAfterHook(module, backbone, name))
    LOGGER.info('Inserted %s after %s', cfg['type'], ', '.join(names))


class _InsertAfterHook:
    """A forward hook that applies a module to a submodule's output.

    Not a closure, because copy.deepcopy of the backbone (for averaged weights) must also copy the module.
    """

    def __init__(self, module: nn.Module, backbone: Backbone, name: str) -> None:
        self.module = module
        self.backbone = backbone
        self.name = name

    def __call__(self, _submodule: nn.Module, _args: Any, output: Any) -> Any:
        features = first_tensor(output)
        layout = None if features is None else self.backbone.feature_layout(self.name, features.shape)
        if features is None or layout is None:
            raise _output_error(self.name, output)
        return replace_first(output, layout.pack(self.module(layout.unpack(features)), features))


def _output_error(name: str, output: Any) -> ValueError:
    first = first_tensor(output)
    found = type(output).__name__ if first is None else f'{tuple(first.shape)}'
    return ValueError(
        f'module_cfg.after={name!r} has the output {found} instead of features with axes of snippets, channels and '
        'positions in time and space, as (B, C, T, H, W); choose a whole block or stage'
    )


def modules_inserted_after(backbone: Backbone) -> dict[str, str]:
    """Return the names of the modules that were inserted with ``after``, and of the submodules before them."""
    names = {id(module): name for name, module in backbone.named_children()}
    hooks = [hook for module in backbone.modules() for hook in module._forward_hooks.values()]
    return {names[id(hook.module)]: hook.name for hook in hooks if isinstance(hook, _InsertAfterHook)}


def modules_in_forward(block: nn.Module) -> Iterator[nn.Module]:
    """Yield all modules in a block's forward pass, including those inserted after its submodules."""
    for module in block.modules():
        yield module
        if module is not block:
            for hook in module._forward_hooks.values():
                if isinstance(hook, _InsertAfterHook):
                    yield from hook.module.modules()


@torch.no_grad()
def to_meta(backbone: Backbone) -> Backbone:
    """Return a copy in eval mode on the meta device, where a forward pass computes shapes only."""
    memo: dict[int, Any] = {id(tensor): tensor.to('meta') for tensor in (*backbone.parameters(), *backbone.buffers())}
    return copy.deepcopy(backbone, memo).eval()


@torch.no_grad()
def probe_channels(backbone: Backbone, names: Sequence[str]) -> dict[str, int]:
    """Return the output channels of submodules, from one forward pass on the meta device.

    Args:
        backbone: without inserted modules.
        names: dotted names of submodules with features that have positions in time and space.
    """
    if not names:
        return {}
    submodules = dict(backbone.named_modules())
    for name in names:
        if name not in submodules or not name:
            raise ValueError(f'module_cfg.after={name!r} is not a submodule of the network.{nearest(name, submodules)}')
    copied = to_meta(backbone)
    outputs: dict[str, list[Any]] = {name: [] for name in names}

    def record(name: str) -> Any:
        return lambda _module, _args, output: outputs[name].append(output)

    for name in dict.fromkeys(names):
        copied.get_submodule(name).register_forward_hook(record(name))
    copied(torch.zeros(backbone.probe_shape, device='meta'))
    channels = {}
    for name in names:
        if len(outputs[name]) > 1:
            raise ValueError(f'module_cfg.after={name!r} runs {len(outputs[name])} times per forward pass, not once')
        if not outputs[name]:
            raise ValueError(f'module_cfg.after={name!r} has no output, because it is not called in a forward pass')
        features = first_tensor(outputs[name][0])
        layout = None if features is None else copied.feature_layout(name, features.shape)
        # Windows of an attention are in the batch axis.
        unpacked = None if features is None or layout is None else layout.unpack(features)
        if unpacked is None or len(unpacked) != backbone.probe_shape[0]:
            raise _output_error(name, outputs[name][0])
        channels[name] = unpacked.shape[1]
    return channels


def expand_flags(pattern: Any, sizes: Sequence[int], name: str) -> list[list[bool]]:
    """Expand a pattern with one entry per stage, each 0, 1 or a flag per block, to a flag for every block.

    Args:
        pattern: such as ``(0, (0, 1, 0, 1), 1, 0)``.
        sizes: number of blocks of each stage.
        name: key of the pattern in the config.
    """
    if not isinstance(pattern, Sequence) or len(pattern) != len(sizes):
        raise ValueError(f'{name}={pattern!r} must have {len(sizes)} entries, for stages of {list(sizes)} blocks')
    expanded = []
    for i, (flags, size) in enumerate(zip(pattern, sizes, strict=True)):
        flags = list(flags) if isinstance(flags, Sequence) else [flags] * size
        if len(flags) != size or any(flag not in (0, 1) for flag in flags):
            raise ValueError(f'{name}[{i}]={pattern[i]!r} must be 0, 1 or {size} flags, one per block')
        expanded.append([bool(flag) for flag in flags])
    return expanded

"""Puts modules such as DSA into the residual blocks of a backbone.

A residual block names the places where something may be inserted, and passes its features through whatever stands
there. No forward is written twice, so pretrained keys, activation checkpointing and frozen stages go on working.
A network without such blocks, or any other spot, is reached by the name of a submodule (``after``).

=============  ====================================  ==================
place          where in the block                    2021 release
=============  ====================================  ==================
before_block   before the branch and the shortcut
before_conv1   start of the residual branch          res, res_1
before_conv2   behind conv1, its norm and ReLU       res_2
before_conv3   behind conv2, its norm and ReLU       res_3
before_add     behind the last norm of the branch    res_4 (R18: res_3)
after_block    behind the ReLU after the addition    bottom
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
from dsanet.config.registry import MODELS, build, find_class
from dsanet.models.backbones.base import Backbone
from dsanet.models.heads.base import ClsHead

LOGGER = logging.getLogger(__name__)

# The keys of a module's config that say where it goes; the others are arguments of the module.
PLACEMENT_KEYS = ('place', 'blocks', 'after')

# Constructor arguments that are handed over when a module is built; a config must not give them.
_HANDED_OVER = {'in_channels': 'the channels where the module is inserted'}


class InsertableBlock(nn.Module):
    """A residual block with named places.

    A subclass fills ``place_channels`` and calls ``self.apply_inserted(place, x)`` at each place of its forward.

    Attributes:
        place_channels: the channels of the features at each place.
    """

    place_channels: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self.inserted: dict[str, list[str]] = {}

    def insert(self, place: str, module: nn.Module) -> str:
        """Put a module at a place, behind those that stand there already.

        Args:
            place: one of ``place_channels``.
            module: takes and returns features of the channels there. Its keys in the state dict begin with its class
                name in lower case, ``dsa``; a second one of the class in this block gets ``dsa_2``.

        Returns:
            The name that the module has in the block.
        """
        name = base = type(module).__name__.lower()
        number = 2
        while hasattr(self, name):
            name, number = f'{base}_{number}', number + 1
        self.add_module(name, module)
        self.inserted.setdefault(place, []).append(name)
        return name

    def apply_inserted(self, place: str, x: Tensor) -> Tensor:
        """Pass features of shape (N*V*U, C, T, H, W) through what stands at a place; without anything, unchanged."""
        for name in self.inserted.get(place, ()):
            x = getattr(self, name)(x)
        return x


def insert_modules(backbone: Backbone, module_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> None:
    """Insert one module or several in order.

    Args:
        backbone: where to.
        module_cfg: None, a dict or a list of dicts: ``type`` and the module's arguments without ``in_channels``, and
            where it goes, in one of two ways. ``place`` (see the table above; default ``before_conv2``) and ``blocks``,
            one entry a stage, each 0, 1 or a flag for every block of the stage: ``(0, (0, 1, 0, 1), (0, 1, 0, 1, 0, 1),
            0)``. Or ``after``: the dotted name of a submodule of the backbone that yields (B, C, T, H, W), such as
            ``'net.layer2'``, or several.

    Raises:
        KeyError: an unknown module or argument.
        ValueError: a place or a submodule that the backbone does not have, or ``blocks`` that do not fit it.
    """
    if module_cfg is None:
        return
    check_module_cfg(module_cfg, 'module_cfg')
    cfgs = [module_cfg] if isinstance(module_cfg, Mapping) else module_cfg
    # Before anything stands in the way: a module may accept its own number of snippets or frames only.
    channels = probe_channels(backbone, [name for cfg in cfgs for name in _names(cfg)])
    for cfg in cfgs:
        if 'after' in cfg:
            _insert_after(backbone, cfg, channels)
        else:
            _insert_into_blocks(backbone, cfg)


def check_module_cfg(module_cfg: Any, path: str) -> None:
    """Check ``module_cfg``: None, a dict, or a list of dicts, each a module and where it goes.

    Raises:
        KeyError: as :func:`check`; the keys that say where a module goes are explained at ``insert_modules``.
        ValueError: a class that is no such module, or a wrong value for where it goes.
    """
    if module_cfg is None:
        return
    is_list = isinstance(module_cfg, (list, tuple))
    for i, cfg in enumerate(module_cfg if is_list else [module_cfg]):
        where = f'{path}.{i}' if is_list else path
        cls = find_class(cfg, MODELS, where, 'module that goes into a backbone', _is_insertable)
        check_placement(cfg, where)
        check_arguments(cls, cfg, where, given=_HANDED_OVER, extra=PLACEMENT_KEYS)


def _is_insertable(cls: Any) -> bool:
    takes_channels = _HANDED_OVER.keys() <= inspect.signature(cls).parameters.keys()
    return takes_channels and not (isinstance(cls, type) and issubclass(cls, ClsHead))


def check_placement(cfg: Mapping[str, Any], path: str) -> None:
    """Check the types of what says where a module goes; whether the backbone has it, ``insert_modules`` tells.

    Args:
        cfg: a module's config.
        path: where it stands in the whole config.

    Raises:
        ValueError: by the key's full path.
    """
    if not isinstance(cfg.get('place', ''), str):
        raise ValueError(f'{path}.place={cfg["place"]!r} must be the name of a place')
    after = cfg.get('after', ())
    if not isinstance(after, str) and not (
        isinstance(after, list | tuple) and all(isinstance(name, str) for name in after)
    ):
        raise ValueError(f'{path}.after={after!r} must be the name of a submodule, or several')
    blocks = cfg.get('blocks', ())
    if not isinstance(blocks, list | tuple) or not all(isinstance(flags, int | list | tuple) for flags in blocks):
        raise ValueError(f'{path}.blocks={blocks!r} must have one entry a stage, each 0, 1 or a flag for every block')


def _module_arguments(cfg: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in cfg.items() if k not in PLACEMENT_KEYS}


def _names(cfg: Mapping[str, Any]) -> list[str]:
    after = cfg.get('after', [])
    return [after] if isinstance(after, str) else list(after)


def _insert_into_blocks(backbone: Backbone, cfg: Mapping[str, Any]) -> None:
    arguments = _module_arguments(cfg)
    place = cfg.get('place', 'before_conv2')
    if 'blocks' not in cfg:
        raise KeyError(
            f'module_cfg.blocks is missing; it says which blocks of each stage get {cfg["type"]}. '
            'Or name submodules with module_cfg.after'
        )
    if not backbone.stages:
        raise ValueError(
            f'{type(backbone).__name__} has no residual blocks with places; say with module_cfg.after, instead of '
            f'place and blocks, behind which submodule {cfg["type"]} goes'
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
                    f'module_cfg.place={place!r} is no place of {type(block).__name__}.{nearest(place, places)} '
                    f'Places: {", ".join(places)}'
                )
            given = {'in_channels': block.place_channels[place]}
            # The 2021 release adds the input only where the module is not inside a residual branch already.
            if place == 'after_block' and 'residual' in _argument_names(arguments['type']) - arguments.keys():
                given['residual'] = True
            block.insert(place, build(arguments, MODELS, 'module_cfg', **given))
            where.append(f'layer{i + 1}.{j}')
    if not where:
        raise ValueError(f'module_cfg.blocks={cfg["blocks"]!r} selects no block; leave module_cfg out instead')
    LOGGER.info('%s inserted %s of %d blocks: %s', cfg['type'], place, len(where), ', '.join(where))


def _insert_after(backbone: Backbone, cfg: Mapping[str, Any], channels: Mapping[str, int]) -> None:
    for key in ('place', 'blocks'):
        if key in cfg:
            raise ValueError(
                f'module_cfg.{key} and module_cfg.after are two ways to say where; give one. If a base of the config '
                'gives the other, _delete_=True in module_cfg drops what the base has there'
            )
    arguments = _module_arguments(cfg)
    names = _names(cfg)
    if not names:
        raise ValueError('module_cfg.after names no submodule; leave module_cfg out instead')
    for name in names:
        given: dict[str, Any] = {'in_channels': channels[name]}
        # As behind a whole block: not inside a residual branch, so the input is added.
        if 'residual' in _argument_names(arguments['type']) - arguments.keys():
            given['residual'] = True
        module = build(arguments, MODELS, 'module_cfg', **given)
        key = f'{type(module).__name__.lower()}_after_{name.replace(".", "_")}'
        if hasattr(backbone, key):
            raise ValueError(f'module_cfg.after: {cfg["type"]} stands behind {name!r} already')
        backbone.add_module(key, module)
        backbone.get_submodule(name).register_forward_hook(_InsertAfterHook(module, backbone.is_channels_last(name)))
    LOGGER.info('%s inserted after %s', cfg['type'], ', '.join(names))


class _InsertAfterHook:
    """A forward hook that passes a submodule's output on through a module.

    An object and no closure: copy.deepcopy of the backbone, as for an average of weights, must copy the module that
    the hook calls too.
    """

    def __init__(self, module: nn.Module, channels_last: bool) -> None:
        self.module = module
        self.channels_last = channels_last

    def __call__(self, _submodule: nn.Module, _args: Any, output: Tensor) -> Tensor:
        if self.channels_last:
            return self.module(output.movedim(-1, 1)).movedim(1, -1)  # (B, T, H, W, C)
        return self.module(output)


def modules_in_forward(block: nn.Module) -> Iterator[nn.Module]:
    """Yield every module that a block's forward runs, those included that were inserted after its submodules."""
    for module in block.modules():
        yield module
        if module is not block:
            for hook in module._forward_hooks.values():
                if isinstance(hook, _InsertAfterHook):
                    yield from hook.module.modules()


@torch.no_grad()
def to_meta(backbone: Backbone) -> Backbone:
    """Return a copy in eval mode on torch's meta device, where a forward pass finds shapes and computes nothing."""
    memo: dict[int, Any] = {id(tensor): tensor.to('meta') for tensor in (*backbone.parameters(), *backbone.buffers())}
    return copy.deepcopy(backbone, memo).eval()


@torch.no_grad()
def probe_channels(backbone: Backbone, names: Sequence[str]) -> dict[str, int]:
    """Return how many channels submodules yield, found with one forward pass of a copy without numbers.

    Args:
        backbone: without inserted modules.
        names: dotted names of submodules.

    Raises:
        ValueError: a name that the backbone does not have, or a submodule that yields no (B, C, T, H, W).
    """
    if not names:
        return {}
    submodules = dict(backbone.named_modules())
    for name in names:
        if name not in submodules or not name:
            raise ValueError(f'module_cfg.after={name!r} is no submodule of the backbone.{nearest(name, submodules)}')
    copied = to_meta(backbone)
    outputs: dict[str, list[Any]] = {name: [] for name in names}

    def remember(name: str) -> Any:
        return lambda _module, _args, output: outputs[name].append(output)

    for name in dict.fromkeys(names):
        copied.get_submodule(name).register_forward_hook(remember(name))
    copied(torch.zeros(backbone.probe_shape, device='meta'))
    channels = {}
    for name in names:
        if len(outputs[name]) > 1:
            raise ValueError(f'module_cfg.after={name!r} runs {len(outputs[name])} times in one forward pass, not once')
        output = outputs[name][0] if outputs[name] else None
        if not isinstance(output, Tensor) or output.dim() != 5:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f'module_cfg.after={name!r} yields {found}, not features (B, C, T, H, W)')
        channels[name] = output.shape[-1 if backbone.is_channels_last(name) else 1]
    return channels


def _argument_names(module_type: str) -> set[str]:
    return set(inspect.signature(MODELS.module_dict[module_type]).parameters)


def expand_flags(pattern: Any, sizes: Sequence[int], name: str) -> list[list[bool]]:
    """Turn a pattern with one entry a stage, each 0, 1 or a flag for every block, into a flag for every block.

    Args:
        pattern: such as ``(0, (0, 1, 0, 1), 1, 0)``.
        sizes: the number of blocks of each stage.
        name: what the pattern is called in the config.

    Raises:
        ValueError: the pattern does not fit the stages, or has an entry other than 0 and 1.
    """
    if not isinstance(pattern, Sequence) or len(pattern) != len(sizes):
        raise ValueError(f'{name}={pattern!r} must have {len(sizes)} entries, for stages of {list(sizes)} blocks')
    expanded = []
    for i, (flags, size) in enumerate(zip(pattern, sizes, strict=True)):
        flags = [flags] * size if isinstance(flags, int) else list(flags)
        if len(flags) != size or any(flag not in (0, 1) for flag in flags):
            raise ValueError(f'{name}[{i}]={pattern[i]!r} must be 0, 1 or {size} of them, one a block')
        expanded.append([bool(flag) for flag in flags])
    return expanded

"""Weights of video transformers: VideoMAE's and V-JEPA 2's own files, and those of transformers and mmaction2.

Our names are ``backbone.patch_embed``, ``backbone.blocks.0.norm1``, ``.attn.qkv``, ``.attn.q_bias``, ``.attn.proj``,
``.norm2``, ``.mlp.fc1`` and ``.mlp.fc2``; ``backbone.norm`` or ``backbone.fc_norm``; and ``backbone.pooler``. Decoders
and predictors of the pretraining are not used.
"""

import re
from collections.abc import Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dsanet.models.weights.renaming import BACKBONE, State
from dsanet.utils.json_lines import read_json

_UNUSED = re.compile(r'^(decoder|predictor|encoder_to_decoder|mask_token|position_embeddings)(\.|$)')

_ORIGINAL = (
    (r'^encoder\.', ''),
    (r'^patch_embed\.(proj|projection)\.', 'patch_embed.'),
    (r'\.mlp\.layers\.0\.0\.', '.mlp.fc1.'),  # mmaction2
    (r'\.mlp\.layers\.1\.', '.mlp.fc2.'),
    (r'^head\.', 'cls_head.fc_cls.'),
)
_TRANSFORMERS = (
    (r'^(encoder\.)?embeddings\.patch_embeddings\.(projection|proj)\.', 'patch_embed.'),
    (r'^encoder\.layer\.', 'blocks.'),
    (r'^(encoder\.)?layernorm\.', 'norm.'),
    (r'\.attention\.attention\.([qv])_bias$', r'.attn.\1.bias'),  # transformers before version 5
    (r'\.attention\.(attention\.)?query\.', '.attn.q.'),
    (r'\.attention\.(attention\.)?key\.', '.attn.k.'),
    (r'\.attention\.(attention\.)?value\.', '.attn.v.'),
    (r'\.attention\.(output\.dense|proj)\.', '.attn.proj.'),
    (r'\.intermediate\.dense\.', '.mlp.fc1.'),
    (r'\.output\.dense\.', '.mlp.fc2.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'^pooler\.query_tokens$', 'pooler.query'),
    (r'^pooler\.cross_attention_layer\.', 'pooler.cross.'),
    (r'^pooler\.self_attention_layers\.', 'pooler.blocks.'),
    (r'\.cross_attn\.([qkv])_proj\.', r'.\1.'),
    (r'\.self_attn\.([qkv])_proj\.', r'.attn.\1.'),
    (r'\.self_attn\.out_proj\.', '.attn.proj.'),
    (r'\.layer_norm(\d)\.', r'.norm\1.'),
    (r'^classifier\.', 'cls_head.fc_cls.'),
)


def _has_clip_filter(state: State, pattern: str) -> bool:
    return any(value.dim() == 5 and re.search(pattern, key) for key, value in state.items())


def is_videomae(state: State) -> bool:
    """Recognize the files of VideoMAE and VideoMAE V2, and mmaction2's: no biases of keys."""
    return _has_clip_filter(state, r'^(encoder\.)?patch_embed\.(proj|projection)\.weight$') and any(
        re.search(r'^(encoder\.)?blocks\.0\.attn\.q_bias$', key) for key in state
    )


def is_vjepa2(state: State) -> bool:
    """Recognize the encoders of Meta's V-JEPA 2; those of MViT have pooling in their attention."""
    has_names = 'blocks.0.attn.qkv.bias' in state and _has_clip_filter(state, r'^patch_embed\.proj\.weight$')
    return has_names and not any('.attn.pool_' in key or '.attn.rel_pos' in key for key in state)


def is_transformers_videomae(state: State) -> bool:
    """Recognize VideoMAE in transformers, with or without a head."""
    return _has_clip_filter(state, r'^(videomae\.)?embeddings\.patch_embeddings\.projection\.weight$')


def is_transformers_vjepa2(state: State) -> bool:
    """Recognize V-JEPA 2 in transformers, with or without a classifier."""
    return _has_clip_filter(state, r'^(vjepa2\.)?encoder\.embeddings\.patch_embeddings\.proj\.weight$')


def from_original(state: State, target: Set[str]) -> dict[str, Tensor]:
    """Translate VideoMAE's, Meta's and mmaction2's weights."""
    return _translate(state, target, _ORIGINAL)


def from_transformers(state: State, target: Set[str]) -> dict[str, Tensor]:
    """Translate weights of transformers, whose queries, keys and values have separate layers."""
    bare = {re.sub(r'^(videomae|vjepa2)\.', '', key): value for key, value in state.items()}
    renamed = _translate(bare, target, _TRANSFORMERS)
    return _fuse(_fuse(renamed, '.attn', 'qkv'), '.cross', 'kv')


def _translate(state: State, target: Set[str], patterns: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        key = key.removeprefix(BACKBONE)
        if _UNUSED.search(key):
            continue
        for pattern, replacement in patterns:
            key = re.sub(pattern, replacement, key)
        new = key if key.startswith('cls_head.') else BACKBONE + key
        # Fixed positions, and those that V-JEPA 2 stores besides its rotary ones.
        if key != 'pos_embed' or target & {new, key}:
            renamed[new] = value
    return renamed


def _fuse(state: dict[str, Tensor], layer: str, letters: str) -> dict[str, Tensor]:
    """Concatenate linear layers such as ``.attn.q``, ``.attn.k`` and ``.attn.v`` to ``.attn.qkv``.

    Without a bias of the keys, those of queries and values become ``.attn.q_bias`` and ``.attn.v_bias``.
    """
    fused = dict(state)
    starts = [key.removesuffix('.k.weight') for key in state if key.endswith(f'{layer}.k.weight')]
    for start in starts:
        fused[f'{start}.{letters}.weight'] = torch.cat([fused.pop(f'{start}.{x}.weight') for x in letters])
        if f'{start}.k.bias' in state:
            fused[f'{start}.{letters}.bias'] = torch.cat([fused.pop(f'{start}.{x}.bias') for x in letters])
        else:
            fused |= {f'{start}.{x}_bias': fused.pop(f'{start}.{x}.bias') for x in 'qv' if f'{start}.{x}.bias' in state}
    return fused


def check_config_of_transformers(model: nn.Module, file: str | Path) -> list[str]:
    """Compare a model with the ``config.json`` of transformers beside its weights, if there is one.

    The shapes of the weights do not show these settings, so a wrong model would load without an error.

    Args:
        model: a recognizer or a backbone.
        file: the weights.

    Returns:
        One text per difference.
    """
    config = Path(file).with_name('config.json')
    backbone: Any = getattr(model, 'backbone', model)
    if not hasattr(backbone, 'num_heads') or not config.is_file():
        return []
    found = read_json(config)
    kind = found.get('model_type') if isinstance(found, dict) else None
    if kind not in ('videomae', 'vjepa2'):
        return []
    frames, size = ('num_frames', 'image_size') if kind == 'videomae' else ('frames_per_clip', 'crop_size')
    wanted = {'num_heads': found.get('num_attention_heads')}
    if backbone.positions != 'rotary' and isinstance(found.get(size), int):
        wanted['input_size'] = (found.get(frames), found[size], found[size])
    has = {'num_heads': backbone.num_heads, 'input_size': backbone.probe_shape[2:]}
    return [
        f'trained with backbone.{name}={value}, but this model has {has[name]}'
        for name, value in wanted.items()
        if value is not None and value != has[name]
    ]

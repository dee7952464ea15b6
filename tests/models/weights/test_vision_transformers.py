"""Weights of video transformers with the names of other projects, made from those of a small model of ours."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dsanet.config.registry import MODELS, build
from dsanet.models.backbones.vision_transformer import VisionTransformer
from dsanet.models.weights.layouts import find_layout
from dsanet.models.weights.loading import load_weights, read_weights

State = dict[str, Tensor]
SIZES = {'embed_dim': 24, 'depth': 2, 'num_heads': 2, 'mlp_ratio': 2, 'patch_size': 8, 'input_size': (4, 16, 16)}
VJEPA2 = {'positions': 'rotary', 'qkv_bias': 'qkv'}


def make_model(**backbone: Any) -> nn.Module:
    """A recognizer for which every weight is different."""
    model = build(
        {
            'type': 'Recognizer3D',
            'backbone': {'type': 'VisionTransformer', **SIZES, **backbone},
            'cls_head': {'type': 'TSNHead', 'num_classes': 3, 'in_channels': 24},
        },
        MODELS,
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def renamed(model: nn.Module, *patterns: tuple[str, str]) -> State:
    state: State = {}
    for key, value in model.state_dict().items():
        for pattern, replacement in patterns:
            key = re.sub(pattern, replacement, key)
        state[key] = value
    return state


def with_separate_layers(state: State) -> State:
    """Split fused layers, as in transformers."""
    split: State = {}
    for key, value in state.items():
        match = re.search(r'(.*\.)(qkv|kv)\.(weight|bias)$', key)
        if match is None:
            split[key] = value
            continue
        for letter, part in zip(match[2], value.chunk(len(match[2])), strict=True):
            split[f'{match[1]}{letter}.{match[3]}'] = part.clone()
    return split


HEAD = (r'^cls_head\.fc_cls\.', 'head.')


def videomae(model: nn.Module) -> State:
    return renamed(model, (r'^backbone\.', ''), (r'^patch_embed\.', 'patch_embed.proj.'), HEAD)


def videomae_pretraining(model: nn.Module) -> State:
    encoder = renamed(model.backbone, (r'^patch_embed\.', 'patch_embed.proj.'))
    decoder = {'decoder.blocks.0.attn.qkv.weight': torch.zeros(36, 12), 'mask_token': torch.zeros(1, 1, 12)}
    return {
        **{f'encoder.{key}': value for key, value in encoder.items()},
        **decoder,
        'encoder_to_decoder.weight': torch.zeros(12, 24),
    }


def mmaction2(model: nn.Module) -> State:
    state = renamed(
        model,
        (r'\.patch_embed\.', '.patch_embed.projection.'),
        (r'\.mlp\.fc1\.', '.mlp.layers.0.0.'),
        (r'\.mlp\.fc2\.', '.mlp.layers.1.'),
    )
    return {**state, 'backbone.pos_embed': torch.zeros(1, 8, 24)}


def transformers_videomae(model: nn.Module) -> State:
    state = with_separate_layers(model.state_dict())
    patterns = (
        (r'^backbone\.fc_norm', 'fc_norm'),
        (r'^backbone\.patch_embed\.', 'videomae.embeddings.patch_embeddings.projection.'),
        (r'^backbone\.blocks\.', 'videomae.encoder.layer.'),
        (r'\.attn\.proj\.', '.attention.output.dense.'),
        (r'\.attn\.([qv]_bias)$', r'.attention.attention.\1'),
        (r'\.attn\.q\.', '.attention.attention.query.'),
        (r'\.attn\.k\.', '.attention.attention.key.'),
        (r'\.attn\.v\.', '.attention.attention.value.'),
        (r'\.mlp\.fc1\.', '.intermediate.dense.'),
        (r'\.mlp\.fc2\.', '.output.dense.'),
        (r'\.norm1\.', '.layernorm_before.'),
        (r'\.norm2\.', '.layernorm_after.'),
        (r'^cls_head\.fc_cls\.', 'classifier.'),
    )
    for pattern, replacement in patterns:
        state = {re.sub(pattern, replacement, key): value for key, value in state.items()}
    return state


def transformers_videomae_5(model: nn.Module) -> State:
    """Transformers 5 renamed the biases."""
    names = {'q_bias': 'query.bias', 'v_bias': 'value.bias'}
    return {re.sub(r'[qv]_bias$', lambda m: names[m[0]], k): v for k, v in transformers_videomae(model).items()}


def transformers_vjepa2(model: nn.Module) -> State:
    state = with_separate_layers(model.state_dict())
    patterns = (
        (r'^backbone\.pooler\.query$', 'pooler.query_tokens'),
        (r'^backbone\.pooler\.cross\.([qkv])\.', r'pooler.cross_attention_layer.cross_attn.\1_proj.'),
        (r'^backbone\.pooler\.cross\.', 'pooler.cross_attention_layer.'),
        (r'^backbone\.pooler\.blocks\.(\d)\.attn\.([qkv])\.', r'pooler.self_attention_layers.\1.self_attn.\2_proj.'),
        (r'^backbone\.pooler\.blocks\.(\d)\.attn\.proj', r'pooler.self_attention_layers.\1.self_attn.out_proj'),
        (r'^backbone\.pooler\.blocks\.', 'pooler.self_attention_layers.'),
        (r'^(pooler.*)\.norm(\d)\.', r'\1.layer_norm\2.'),
        (r'^backbone\.patch_embed\.', 'vjepa2.encoder.embeddings.patch_embeddings.proj.'),
        (r'^backbone\.norm\.', 'vjepa2.encoder.layernorm.'),
        (r'^backbone\.blocks\.', 'vjepa2.encoder.layer.'),
        (r'^(vjepa2.*)\.attn\.q\.', r'\1.attention.query.'),
        (r'^(vjepa2.*)\.attn\.k\.', r'\1.attention.key.'),
        (r'^(vjepa2.*)\.attn\.v\.', r'\1.attention.value.'),
        (r'^(vjepa2.*)\.attn\.proj\.', r'\1.attention.proj.'),
        (r'^cls_head\.fc_cls\.', 'classifier.'),
    )
    for pattern, replacement in patterns:
        state = {re.sub(pattern, replacement, key): value for key, value in state.items()}
    return {**state, 'vjepa2.predictor.layer.0.norm1.weight': torch.zeros(24)}


CLASSIFIERS: dict[str, tuple[Callable[[nn.Module], State], dict[str, Any], str]] = {
    'videomae': (videomae, {}, 'VideoMAE'),
    'mmaction2': (mmaction2, {}, 'VideoMAE'),
    'transformers_videomae': (transformers_videomae, {}, 'VideoMAE in transformers'),
    'transformers_videomae_5': (transformers_videomae_5, {}, 'VideoMAE in transformers'),
    'transformers_vjepa2': (transformers_vjepa2, {**VJEPA2, 'pooling': 'attentive'}, 'V-JEPA 2 in transformers'),
    'ours': (lambda model: model.state_dict(), {}, 'DSANet'),
}


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_classifiers_load_completely(name: str, tmp_path: Path) -> None:
    rename, options, layout = CLASSIFIERS[name]
    source, target = make_model(**options), make_model(**options)
    state = rename(source)
    assert find_layout(state).name == layout
    torch.save({'module': state}, tmp_path / 'weights.pth')
    report = load_weights(target, tmp_path / 'weights.pth', strict=True)
    assert len(report.matched) == len(target.state_dict())
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key


def test_encoder_of_a_pretraining_loads_without_its_decoder(tmp_path: Path) -> None:
    source, target = make_model(pooling=None), make_model(pooling=None)
    torch.save({'model': videomae_pretraining(source)}, tmp_path / 'checkpoint.pth')
    report = load_weights(target, tmp_path / 'checkpoint.pth')
    assert report.missing == ['cls_head.fc_cls.weight', 'cls_head.fc_cls.bias']
    assert not report.unexpected
    for key, value in source.backbone.state_dict().items():
        assert torch.equal(target.backbone.state_dict()[key], value), key


def test_norm_of_a_pretraining_is_reported(tmp_path: Path) -> None:
    torch.save({'model': videomae_pretraining(make_model(pooling=None))}, tmp_path / 'checkpoint.pth')
    report = load_weights(VisionTransformer(**SIZES), tmp_path / 'checkpoint.pth')
    assert report.missing == ['fc_norm.weight', 'fc_norm.bias']
    assert report.unexpected == ['norm.weight', 'norm.bias']


def meta_checkpoint(encoder: nn.Module, target_encoder: nn.Module) -> dict[str, Any]:
    def wrap(backbone: nn.Module) -> State:
        state = renamed(backbone, (r'^patch_embed\.', 'patch_embed.proj.'))
        return {f'module.backbone.{k}': v for k, v in {**state, 'pos_embed': torch.zeros(1, 8, 24)}.items()}

    return {
        'encoder': wrap(encoder),
        'predictor': {'module.backbone.predictor_embed.weight': torch.zeros(12, 24)},
        'target_encoder': wrap(target_encoder),
        'opt': {'state': {0: {'exp_avg': torch.zeros(2)}}, 'param_groups': []},
        'epoch': 3,
    }


def test_target_encoder_of_vjepa2_is_used(tmp_path: Path) -> None:
    encoder, average, ours = (VisionTransformer(**SIZES, **VJEPA2, pooling='attentive') for _ in range(3))
    for backbone in (encoder, average):
        del backbone.pooler
    for parameter in average.parameters():
        nn.init.normal_(parameter)
    torch.save(meta_checkpoint(encoder, average), tmp_path / 'vitl.pt')
    weights = read_weights(tmp_path / 'vitl.pt', ours.state_dict().keys())
    assert (weights.name, weights.is_average, weights.layout.name) == ('target_encoder', True, 'V-JEPA 2')
    report = load_weights(ours, tmp_path / 'vitl.pt')
    assert {key.partition('.')[0] for key in report.missing} == {'pooler'}
    assert not report.unexpected
    for key, value in average.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key


def test_mvit_is_not_taken_for_vjepa2() -> None:
    state = meta_checkpoint(*(VisionTransformer(**SIZES, **VJEPA2, pooling=None) for _ in range(2)))['encoder']
    bare = {key.removeprefix('module.backbone.'): value for key, value in state.items()}
    assert find_layout(bare).name == 'V-JEPA 2'
    assert find_layout({**bare, 'blocks.0.attn.pool_q.weight': torch.zeros(1)}).name == 'unknown'


@pytest.mark.parametrize(
    ('config', 'texts'),
    [
        ({'num_attention_heads': 2, 'num_frames': 4, 'image_size': 16}, []),
        ({'num_attention_heads': 4, 'num_frames': 4, 'image_size': 16}, ['backbone.num_heads=4, .* 2']),
        (
            {'num_attention_heads': 2, 'num_frames': 8, 'image_size': 32},
            [r'backbone.input_size=\(8, 32, 32\), .*\(4, 16, 16\)'],
        ),
        ({'model_type': 'vit', 'num_attention_heads': 4}, []),
    ],
)
def test_settings_without_weights_are_compared(
    config: dict, texts: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model()
    save_file(with_unique_memory(transformers_videomae(model)), tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'videomae', **config}))
    with caplog.at_level(logging.WARNING, 'dsanet'):
        load_weights(model, tmp_path / 'model.safetensors', strict=True)
    assert len(caplog.messages) == len(texts)
    for message, text in zip(caplog.messages, texts, strict=True):
        assert re.search(text, message)


def with_unique_memory(state: State) -> State:
    return {key: value.clone() for key, value in state.items()}

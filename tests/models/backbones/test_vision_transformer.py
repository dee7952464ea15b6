import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS, build
from dsanet.models.backbones.feature_layout import FeatureLayout
from dsanet.models.backbones.vision_transformer import VisionTransformer, sine_table
from dsanet.models.modules_maker.block_maker import insert_modules
from dsanet.models.summary import count_macs
from dsanet.models.weights.loading import load_weights

TINY = {'embed_dim': 32, 'depth': 3, 'num_heads': 2, 'mlp_ratio': 2, 'patch_size': 8, 'input_size': (8, 32, 32)}
ROTARY = {'positions': 'rotary', 'qkv_bias': 'qkv'}
VJEPA2 = {**ROTARY, 'pooling': 'attentive'}
CLASS_TOKEN = {'positions': 'learned', 'qkv_bias': 'qkv', 'pooling': 'class_token'}
VARIANTS = {
    'videomae': {},
    'vjepa2': VJEPA2,
    'class_token': CLASS_TOKEN,
    'features': {**ROTARY, 'pooling': None},
    'learned': {'positions': 'learned'},
}


def tiny(**options: Any) -> VisionTransformer:
    """A small network with weights of a size that makes every part count."""
    backbone = VisionTransformer(**{**TINY, **options})
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.3 if parameter.dim() < 2 else parameter[0].numel() ** -0.5)
    return backbone.eval()


def make_recognizer(backbone: Mapping[str, Any], num_classes: int, **options: Any) -> nn.Module:
    head = {'type': 'TSNHead', 'num_classes': num_classes, 'in_channels': backbone['embed_dim'], 'dropout': 0.0}
    model = {'type': 'Recognizer3D', 'backbone': {'type': 'VisionTransformer', **backbone}, 'cls_head': head}
    return build({**model, **options}, MODELS)


@pytest.mark.parametrize('name', VARIANTS)
@torch.no_grad()
def test_features_have_the_documented_shapes(name: str) -> None:
    backbone = tiny(**VARIANTS[name])
    is_map = name == 'features'
    assert backbone.is_pooled is not is_map
    for frames, height, width in ((8, 32, 32), (4, 16, 40)):
        features = backbone(torch.randn(3, 3, frames, height, width))
        grid = (frames // 2, height // 8, width // 8) if is_map else (1, 1, 1)
        assert features.shape == (3, 32, *grid)
        assert features.std() > 0.1


@torch.no_grad()
def test_poolings_are_means_of_the_tokens() -> None:
    backbone = tiny()
    x = torch.randn(2, 3, 8, 32, 32)
    tokens = []
    backbone.blocks.register_forward_hook(lambda _module, _args, output: tokens.append(output))
    features = backbone(x)
    mean = torch.stack([clip.reshape(-1, 32).mean(dim=0) for clip in tokens[0]])  # (2, 32)
    torch.testing.assert_close(features.flatten(1), backbone.fc_norm(mean))


def test_sine_table_equals_the_formula() -> None:
    table = sine_table(5, 6)
    for position in range(5):
        for j in range(6):
            angle = position / 10000 ** (2 * (j // 2) / 6)
            assert table[position, j] == pytest.approx(math.sin(angle) if j % 2 == 0 else math.cos(angle), abs=1e-6)


@pytest.mark.parametrize('options', [{}, {'positions': 'learned'}, CLASS_TOKEN])
@torch.no_grad()
def test_added_positions_are_interpolated_for_other_clips(options: dict) -> None:
    backbone = tiny(**options, input_size=(4, 16, 8))  # a grid of 2 x 2 x 1
    table = backbone.pos_embed[0, -4:]
    given = backbone._interpolated_positions((2, 2, 1))
    assert torch.equal(given.flatten(0, 3), table)
    longer = backbone._interpolated_positions((4, 2, 1))
    first, second = table.view(2, 2, 1, 32)
    expected = torch.stack([first, first * 0.75 + second * 0.25, first * 0.25 + second * 0.75, second])
    torch.testing.assert_close(longer[0], expected)


@torch.no_grad()
def test_rotary_positions_do_not_depend_on_input_size() -> None:
    one = tiny(**VJEPA2)
    other = VisionTransformer(**{**TINY, **VJEPA2, 'input_size': (64, 16, 16)}).eval()
    other.load_state_dict(one.state_dict())
    x = torch.randn(1, 3, 4, 24, 32)
    assert torch.equal(one(x), other(x))


MODULES = [
    {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 1.0},
    {'type': 'TAM', 'frames_per_snippet': 4},
    {'type': 'MVF'},
    {'type': 'V4D', 'num_snippets': 2},
]


@pytest.mark.parametrize('module_cfg', MODULES, ids=lambda cfg: cfg['type'])
@pytest.mark.parametrize('name', ['videomae', 'class_token'])
def test_modules_go_behind_any_block(name: str, module_cfg: dict) -> None:
    x = torch.randn(4, 3, 8, 32, 32)
    for flags in ((1, 0, 0), (0, 1, 0), (1, 1, 1)):
        backbone = tiny(**VARIANTS[name])
        before = backbone(x)
        insert_modules(backbone, {**module_cfg, 'place': 'after_block', 'blocks': (flags,)})
        added = [key for key in backbone.state_dict() if f'.{module_cfg["type"].lower()}.' in key]
        assert {int(key.split('.')[1]) for key in added} == {i for i, flag in enumerate(flags) if flag}
        for key, parameter in backbone.named_parameters():
            if '.v4d.' in key:  # starts at zero
                nn.init.normal_(parameter, std=0.1)
        after = backbone.train()(x)
        assert after.shape == before.shape
        assert not torch.allclose(after, before, atol=1e-3)
        after.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


@torch.no_grad()
def test_dsa_in_blocks_equals_dsa_after_them() -> None:
    dsa = {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5}
    inside, after = tiny(), tiny()
    insert_modules(inside, {**dsa, 'place': 'after_block', 'blocks': ((0, 1, 0),)})
    insert_modules(after, {**dsa, 'after': 'blocks.1'})
    names = {key: key.replace('blocks.1.dsa', 'dsa_after_blocks_1') for key in inside.state_dict()}
    after.load_state_dict({names[key]: value for key, value in inside.state_dict().items()})
    x = torch.randn(4, 3, 8, 32, 32)
    assert torch.equal(inside.eval()(x), after.eval()(x))


def test_frozen_blocks_do_not_train() -> None:
    for frozen, options in ((0, {}), (2, {}), (3, VJEPA2), (3, {}), (1, CLASS_TOKEN)):
        backbone = VisionTransformer(**TINY, **options, frozen_blocks=frozen, stochastic_depth=0.5).train()
        found = {name for name, p in backbone.named_parameters() if not p.requires_grad}
        parts = ('patch_embed.', 'pos_embed', 'cls_token', *(f'blocks.{i}.' for i in range(frozen)))
        parts = (*parts, 'norm.') if options is VJEPA2 else parts
        assert found == {name for name, _ in backbone.named_parameters() if name.startswith(parts)}
        assert [block.training for block in backbone.blocks] == [i >= frozen for i in range(3)]
        backbone(torch.randn(1, 3, 8, 32, 32)).sum().backward()
    assert all(p.requires_grad for p in VisionTransformer(**TINY).train().parameters())


def test_stochastic_depth_increases_to_the_last_block() -> None:
    blocks = VisionTransformer(**TINY, stochastic_depth=0.4).blocks
    assert blocks[0].stochastic_depth is None
    assert [block.stochastic_depth.p for block in blocks[1:]] == [0.2, 0.4]


@pytest.mark.parametrize('options', [{}, VJEPA2])
def test_checkpointing_keeps_keys_and_gradients(options: dict) -> None:
    stored = tiny(**options).train()
    recomputed = VisionTransformer(**TINY, **options, activation_checkpointing=True).train()
    recomputed.load_state_dict(stored.state_dict())
    x = torch.randn(2, 3, 8, 32, 32)
    for backbone in (stored, recomputed):
        backbone(x).square().sum().backward()
    for a, b in zip(stored.parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize('name', VARIANTS)
@torch.no_grad()
def test_layouts_of_submodules_match_their_outputs(name: str) -> None:
    backbone = tiny(**VARIANTS[name])
    insert_modules(backbone, {**MODULES[0], 'place': 'after_block', 'blocks': ((0, 1, 0),)})
    outputs: dict[str, Tensor] = {}
    for part, module in backbone.named_modules():
        module.register_forward_hook(lambda _module, _args, output, part=part: outputs.update({part: output}))
    backbone.eval()(torch.randn(2, 3, 8, 32, 16))
    found = {part: output.shape for part, output in outputs.items() if output.dim() == 5 and part}
    for part, shape in found.items():
        layout = backbone.feature_layout(part, shape)
        assert layout is not None
        assert layout.unpack(outputs[part]).shape[2:] == (4, 4, 2), part
    assert {'patch_embed', 'blocks.1.dsa'} <= found.keys()
    maps = outputs[backbone.cam_layer]
    if name == 'class_token':
        backbone(torch.randn(2, 3, 8, 32, 32))
        tokens = outputs[backbone.cam_layer]
        layout = backbone.feature_layout(backbone.cam_layer, tokens.shape)
        assert layout == FeatureLayout('BMC', (4, 4, 4), 1)
        assert layout.unpack(tokens).shape == (2, 32, 4, 4, 4)
        assert backbone.feature_layout(backbone.cam_layer, (2, 8, 32)) is None
    else:
        assert maps.shape == found['blocks.2'] == (2, 4, 4, 2, 32)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'embed_dim': 0}, 'embed_dim=0 .*at least 1'),
        ({'depth': 0}, 'depth=0 .*at least 1'),
        ({'patch_size': 0}, 'patch_size=0 .*at least 1'),
        ({'tubelet_size': 0}, 'tubelet_size=0 .*at least 1'),
        ({'mlp_ratio': -1.0}, r'mlp_ratio=-1\.0 '),
        ({'num_heads': 3}, 'num_heads=3 .*embed_dim=32'),
        ({'positions': 'rope'}, "positions='rope' .*'rotary'"),
        ({'qkv_bias': True}, "qkv_bias=True .*'qv'"),
        ({'pooling': 'max'}, "pooling='max' .*None"),
        ({'pooling': 'class_token'}, "positions='learned'.*'sine'"),
        ({'num_heads': 8, 'positions': 'rotary'}, 'num_heads=8'),
        ({'stochastic_depth': 1.0}, 'stochastic_depth=1.0'),
        ({'frozen_blocks': 4}, 'frozen_blocks=4 .*depth=3'),
        ({'input_size': (8, 32)}, r'input_size=\(8, 32\)'),
        ({'input_size': (8, 36, 32)}, r'\(8, 36, 32\).*\(2, 8, 8\)'),
        ({'input_size': (0, 32, 32)}, r'\(0, 32, 32\)'),
    ],
)
def test_invalid_options_raise(options: dict, text: str) -> None:
    with torch.device('meta'), pytest.raises(ValueError, match=text):
        VisionTransformer(**{**TINY, **options})


def test_clips_that_are_no_multiples_raise() -> None:
    with pytest.raises(ValueError, match=r'\(7, 32, 32\).*\(2, 8, 8\)'):
        tiny()(torch.zeros(1, 3, 7, 32, 32))


def test_modules_at_other_places_raise() -> None:
    with pytest.raises(ValueError, match='before_conv2.*before_block, before_attn, before_mlp, after_block'):
        insert_modules(tiny(), {**MODULES[0], 'blocks': ((1, 0, 0),)})


# embed_dim, depth, num_heads, mlp_ratio, patch_size; parameters and multiply-adds with a classifier of 400 classes, as
# counted for transformers 5.24 (without its predictor) for 16 x 224 x 224, and 16 x 256 x 256 for V-JEPA 2.
FULL_SIZES = {
    'VideoMAE S': ((384, 12, 6, 4, 16), 22_033_936, 56_878_061_568),
    'VideoMAE B': ((768, 12, 12, 4, 16), 86_534_800, 180_344_893_440),
    'VideoMAE L': ((1024, 24, 16, 4, 16), 304_270_736, 596_833_091_584),
    'VideoMAE H': ((1280, 32, 16, 4, 16), 632_119_440, 1_190_994_104_320),
    'VideoMAE V2 g': ((1408, 40, 16, 48 / 11, 14), 1_012_174_352, 2_542_791_071_744),
    'V-JEPA 2 L': ((1024, 24, 16, 4, 16), 353_631_632, 935_243_169_792),
    'V-JEPA 2 H': ((1280, 32, 16, 4, 16), 709_231_760, 1_795_853_701_120),
    'V-JEPA 2 g': ((1408, 40, 22, 48 / 11, 16), 1_105_986_576, 2_733_569_529_856),
}


@pytest.mark.sweep
@pytest.mark.parametrize('name', FULL_SIZES)
def test_costs_of_full_sizes_equal_transformers(name: str) -> None:
    (embed_dim, depth, num_heads, mlp_ratio, patch_size), params, macs = FULL_SIZES[name]
    size = (16, 256, 256) if name.startswith('V-JEPA') else (16, 224, 224)
    backbone = {'embed_dim': embed_dim, 'depth': depth, 'num_heads': num_heads, 'mlp_ratio': mlp_ratio}
    options = VJEPA2 if name.startswith('V-JEPA') else {}
    with torch.device('meta'):
        model = make_recognizer({**backbone, 'patch_size': patch_size, 'input_size': size, **options}, 400)
        inputs = torch.zeros(1, 1, 1, 3, *size, dtype=torch.uint8)
    assert sum(p.numel() for p in model.parameters()) == params
    assert count_macs(model.eval().requires_grad_(False), inputs) == macs


REASON = 'compares with transformers, which needs Python 3.11 or later'
SIZES = [(32, 2, 2, 8), (48, 3, 4, 4), (60, 1, 3, 16)]  # embed_dim, depth, num_heads, patch_size


def randomize(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3 if parameter.dim() < 2 else parameter[0].numel() ** -0.5)
    return model.eval()


def backbone_cfg(embed_dim: int, depth: int, num_heads: int, patch_size: int, **options: Any) -> dict[str, Any]:
    sizes = {'embed_dim': embed_dim, 'depth': depth, 'num_heads': num_heads, 'patch_size': patch_size}
    return {**sizes, 'mlp_ratio': 2, 'input_size': (8, 32, 32), **options}


def check_parity(theirs: nn.Module, cfg: Mapping[str, Any], folder: Path) -> None:
    """Load the saved weights of a classifier, and compare costs and scores for a batch of two clips."""
    theirs.save_pretrained(folder)
    ours = make_recognizer(cfg, 5)
    load_weights(ours, folder / 'model.safetensors', strict=True)
    ours.eval()
    x = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        wanted, scores = theirs(x.transpose(1, 2)).logits, ours._score(x[:, None])
    assert wanted.std() > 0.1
    torch.testing.assert_close(scores, wanted, rtol=0, atol=1e-5)
    wanted_params = sum(p.numel() for name, p in theirs.named_parameters() if '.predictor.' not in name)
    assert sum(p.numel() for p in ours.parameters()) == wanted_params


@pytest.mark.sweep
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('qkv_bias', ['qv', 'none'])
def test_videomae_equals_transformers(size: tuple[int, ...], qkv_bias: str, tmp_path: Path) -> None:
    """The epsilons are VideoMAE's; transformers has 1e-12 in the blocks and 1e-5 in the last norm."""
    transformers = pytest.importorskip('transformers', reason=REASON)
    torch.manual_seed(size[0])
    cfg = backbone_cfg(*size, qkv_bias=qkv_bias)
    theirs = transformers.VideoMAEForVideoClassification(
        transformers.VideoMAEConfig(
            image_size=32,
            num_frames=8,
            hidden_size=size[0],
            num_hidden_layers=size[1],
            num_attention_heads=size[2],
            patch_size=size[3],
            intermediate_size=2 * size[0],
            qv_bias=qkv_bias == 'qv',
            layer_norm_eps=1e-6,
            num_labels=5,
        )
    )
    theirs.fc_norm.eps = 1e-6
    check_parity(randomize(theirs), cfg, tmp_path)


@pytest.mark.sweep
@pytest.mark.parametrize('size', SIZES)
def test_videomae_features_equal_transformers(size: tuple[int, ...], tmp_path: Path) -> None:
    """Without mean pooling there is a norm after the blocks instead of one after the mean; the decoder is not used."""
    transformers = pytest.importorskip('transformers', reason=REASON)
    torch.manual_seed(size[0])
    theirs = transformers.VideoMAEForPreTraining(
        transformers.VideoMAEConfig(
            image_size=32,
            num_frames=8,
            hidden_size=size[0],
            num_hidden_layers=size[1],
            num_attention_heads=size[2],
            patch_size=size[3],
            intermediate_size=2 * size[0],
            layer_norm_eps=1e-6,
            use_mean_pooling=False,
            decoder_hidden_size=12,
            decoder_num_attention_heads=2,
            decoder_num_hidden_layers=1,
        )
    )
    randomize(theirs).save_pretrained(tmp_path)
    ours = VisionTransformer(**backbone_cfg(*size, pooling=None)).eval()
    report = load_weights(ours, tmp_path / 'model.safetensors', strict=True)
    assert not report.unexpected
    x = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        wanted = theirs.videomae(x.transpose(1, 2)).last_hidden_state
        torch.testing.assert_close(ours(x).flatten(2).mT, wanted, rtol=0, atol=1e-5)


@pytest.mark.sweep
@pytest.mark.parametrize('size', SIZES)
def test_vjepa2_equals_transformers(size: tuple[int, ...], tmp_path: Path) -> None:
    transformers = pytest.importorskip('transformers', reason=REASON)
    torch.manual_seed(size[0])
    theirs = transformers.VJEPA2ForVideoClassification(
        transformers.VJEPA2Config(
            crop_size=32,
            frames_per_clip=8,
            hidden_size=size[0],
            num_hidden_layers=size[1],
            num_attention_heads=size[2],
            patch_size=size[3],
            mlp_ratio=2,
            pred_hidden_size=24,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
            num_labels=5,
        )
    )
    check_parity(randomize(theirs), backbone_cfg(*size, **VJEPA2), tmp_path)


@pytest.mark.sweep
@pytest.mark.parametrize('size', SIZES)
def test_class_token_equals_vivit_of_transformers(size: tuple[int, ...]) -> None:
    """ViViT has learned positions and a class token; its weights are not loaded by us, because its GELU differs."""
    transformers = pytest.importorskip('transformers', reason=REASON)
    torch.manual_seed(size[0])
    theirs = randomize(
        transformers.VivitModel(
            transformers.VivitConfig(
                image_size=32,
                num_frames=8,
                hidden_size=size[0],
                num_hidden_layers=size[1],
                num_attention_heads=size[2],
                tubelet_size=(2, size[3], size[3]),
                intermediate_size=2 * size[0],
                hidden_act='gelu',
                layer_norm_eps=1e-6,
            ),
            add_pooling_layer=False,
        )
    )
    state = {}
    for key, value in theirs.state_dict().items():
        key = re.sub(r'^layers\.', 'blocks.', key.removeprefix('embeddings.'))
        for old, new in (('position_embeddings', 'pos_embed'), ('patch_embeddings.projection', 'patch_embed')):
            key = key.replace(old, new)
        for old, new in (('.layernorm_before', '.norm1'), ('.layernorm_after', '.norm2'), ('layernorm', 'norm')):
            key = key.replace(old, new)
        state[key.replace('.attention.o_proj', '.attn.proj')] = value
    for i in range(size[1]):
        for kind in ('weight', 'bias'):
            parts = [state.pop(f'blocks.{i}.attention.{letter}_proj.{kind}') for letter in 'qkv']
            state[f'blocks.{i}.attn.qkv.{kind}'] = torch.cat(parts)
    ours = VisionTransformer(**backbone_cfg(*size, **CLASS_TOKEN)).eval()
    ours.load_state_dict(state)
    x = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        wanted = theirs(x.transpose(1, 2)).last_hidden_state[:, 0]
        torch.testing.assert_close(ours(x).flatten(1), wanted, rtol=0, atol=1e-5)

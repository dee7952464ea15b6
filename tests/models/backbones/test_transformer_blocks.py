import copy
import math

import pytest
import torch
from torch import Tensor, nn

from dsanet.models.backbones.transformer_blocks import (
    Attention,
    AttentivePooler,
    TransformerBlock,
    rotary_tables,
    rotate,
)
from dsanet.models.modules_maker.DSA import DSA

CPU = torch.device('cpu')


def randomize(module: nn.Module) -> nn.Module:
    """Draw all weights, so that every one has an effect."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.eval()


def normalize(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return (x - x.mean()) / (x.var(correction=0) + norm.eps).sqrt() * norm.weight + norm.bias


def attend(queries: Tensor, keys: Tensor, values: Tensor, num_heads: int) -> Tensor:
    """Attention of tokens (L, C), head by head and query by query."""
    out = torch.zeros(len(queries), queries.shape[1])
    size = queries.shape[1] // num_heads
    for head in range(num_heads):
        channels = slice(head * size, (head + 1) * size)
        for i, query in enumerate(queries):
            logits = torch.stack([(query[channels] * key[channels]).sum() / math.sqrt(size) for key in keys])
            weights = logits.exp() / logits.exp().sum()
            out[i, channels] = (weights[:, None] * values[:, channels]).sum(dim=0)
    return out


@pytest.mark.parametrize('qkv_bias', ['qkv', 'qv', 'none'])
@torch.no_grad()
def test_attention_equals_a_loop_over_queries(qkv_bias: str) -> None:
    torch.manual_seed(0)
    attention = randomize(Attention(8, 2, qkv_bias))
    names = {'qkv': {'qkv.bias'}, 'qv': {'q_bias', 'v_bias'}, 'none': set()}[qkv_bias]
    assert attention.state_dict().keys() == {'qkv.weight', 'proj.weight', 'proj.bias', *names}
    x = torch.randn(2, 5, 8)
    biases = attention.qkv.bias.split(8) if qkv_bias == 'qkv' else [torch.zeros(8)] * 3
    if qkv_bias == 'qv':
        biases = [attention.q_bias, torch.zeros(8), attention.v_bias]
    expected = []
    for tokens in x:
        q, k, v = (tokens @ w.T + b for w, b in zip(attention.qkv.weight.split(8), biases, strict=True))
        expected.append(attention.proj(attend(q, k, v, 2)))
    torch.testing.assert_close(attention(x), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_rotation_equals_a_loop_over_positions() -> None:
    torch.manual_seed(0)
    grid, dim = (2, 3, 2), 20  # 6 channels for each axis, and 2 that are not rotated
    x = torch.randn(1, 1, 12, dim)
    expected = x[0, 0].clone()
    for t in range(2):
        for h in range(3):
            for w in range(2):
                token = (t * 3 + h) * 2 + w
                for axis, position in enumerate((t, h, w)):
                    for j in range(6):
                        channel = 6 * axis + j
                        angle = position * 10000 ** -(j % 3 / 3)
                        partner = -x[0, 0, token, channel + 1] if j % 2 == 0 else x[0, 0, token, channel - 1]
                        expected[token, channel] = x[0, 0, token, channel] * math.cos(angle) + partner * math.sin(angle)
    torch.testing.assert_close(rotate(x, rotary_tables(grid, dim, CPU))[0, 0], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_block_equals_its_definition() -> None:
    torch.manual_seed(0)
    block = randomize(TransformerBlock(8, 2, mlp_ratio=1.5))
    assert block.mlp.fc1.weight.shape == (12, 8)
    x = torch.randn(2, 2, 1, 2, 8)
    expected = []
    for clip in x.flatten(1, 3):
        normed = torch.stack([normalize(token, block.norm1) for token in clip])
        tokens = clip + block.attn(normed[None])[0]
        for i, token in enumerate(tokens):
            hidden = block.mlp.fc1.weight @ normalize(token, block.norm2) + block.mlp.fc1.bias
            hidden = hidden * 0.5 * (1 + (hidden / math.sqrt(2)).erf())
            tokens[i] = token + block.mlp.fc2.weight @ hidden + block.mlp.fc2.bias
        expected.append(tokens.view(2, 1, 2, 8))
    torch.testing.assert_close(block(x), torch.stack(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block(x.flatten(1, 3)).view_as(x), block(x))


@torch.no_grad()
def test_pooler_equals_its_definition() -> None:
    torch.manual_seed(0)
    pooler = randomize(AttentivePooler(8, 2))
    tokens = torch.randn(2, 5, 8)
    cross = pooler.cross
    expected = []
    for clip in pooler.blocks(tokens):
        normed = torch.stack([normalize(token, cross.norm1) for token in clip])
        key_w, value_w = cross.kv.weight.split(8)
        key_b, value_b = cross.kv.bias.split(8)
        query = cross.q(pooler.query[0])
        y = pooler.query[0, 0] + attend(query, normed @ key_w.T + key_b, normed @ value_w.T + value_b, 2)[0]
        expected.append(y + cross.mlp(normalize(y, cross.norm2)))
    torch.testing.assert_close(pooler(tokens), torch.stack(expected), rtol=1e-4, atol=1e-5)


class Recorder(nn.Module):
    """Keeps its input and adds 1 to it."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x + 1


@pytest.mark.parametrize('place', ['before_block', 'before_attn', 'before_mlp', 'after_block'])
@torch.no_grad()
def test_inserted_modules_get_features_without_class_token(place: str) -> None:
    torch.manual_seed(0)
    block = randomize(TransformerBlock(8, 2))
    changed = copy.deepcopy(block)
    assert changed.insert(place, Recorder()) == 'recorder'

    def write_out(tokens: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """The block without a module, and what the module gets."""
        steps = {name: step if name == place else 0 for name in block.place_channels}
        seen = {'before_block': tokens}
        tokens = tokens + steps['before_block']
        seen['before_attn'] = block.norm1(tokens)
        tokens = tokens + block.attn(seen['before_attn'] + steps['before_attn'])
        seen['before_mlp'] = block.norm2(tokens)
        tokens = tokens + block.mlp(seen['before_mlp'] + steps['before_mlp'])
        seen['after_block'] = tokens
        return tokens + steps['after_block'], seen[place]

    tokens = torch.randn(3, 24, 8)
    expected, seen = write_out(tokens, torch.ones(3, 24, 8))
    torch.testing.assert_close(changed(tokens.view(3, 2, 3, 4, 8)).flatten(1, 3), expected)
    torch.testing.assert_close(changed.recorder.seen, seen.view(3, 2, 3, 4, 8).movedim(-1, 1))
    tokens = torch.randn(3, 25, 8)
    expected, seen = write_out(tokens, torch.cat([torch.zeros(3, 1, 8), torch.ones(3, 24, 8)], dim=1))
    torch.testing.assert_close(changed(tokens, (2, 3, 4)), expected)
    torch.testing.assert_close(changed.recorder.seen, seen[:, 1:].view(3, 2, 3, 4, 8).movedim(-1, 1))


def test_checkpointing_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    stored = TransformerBlock(8, 2, stochastic_depth=0.5)
    stored.insert('after_block', DSA(8, num_snippets=2, channel_ratio=1.0, residual=True))
    recomputed = copy.deepcopy(stored)
    recomputed.activation_checkpointing = True
    results = []
    x = torch.randn(4, 2, 2, 2, 8)
    for block in (stored, recomputed):
        torch.manual_seed(1)
        inputs = x.clone().requires_grad_()
        block(inputs, (2, 2, 2)).square().sum().backward()
        results.append([inputs.grad, *(p.grad for p in block.parameters()), *block.buffers()])
    assert len(results[0]) > 15
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_stochastic_depth_drops_branches_of_snippets_in_training() -> None:
    torch.manual_seed(0)
    block = TransformerBlock(8, 2, stochastic_depth=0.999999)
    x = torch.randn(4, 1, 2, 2, 8)
    assert torch.equal(block(x), x)
    block.eval()
    assert not torch.allclose(block(x), x)

"""Parts of video transformers: attention over all tokens of a snippet, the residual block, and attentive pooling.

An Image is Worth 16x16 Words, Dosovitskiy et al., ICLR 2021, arXiv 2010.11929, section 3.1 (block); V-JEPA 2,
arXiv 2506.09985, section 2.1 (rotary positions) and section 5 (attentive pooling).

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels. Here T, H and W count the
tokens along each axis, and L = T * H * W, or 1 + T * H * W with a class token.
"""

import torch
from torch import Tensor, nn

from dsanet.models.backbones.residual import Triple, run_checkpointed
from dsanet.models.modules_maker.block_maker import InsertableBlock

NORM_EPS = 1e-6  # in VideoMAE and V-JEPA 2
QKV_BIASES = ('qkv', 'qv', 'none')
Rotary = tuple[Tensor, Tensor]  # cosines and sines, (L, D) for heads with D channels


def rotary_tables(grid: Triple, head_dim: int, device: torch.device) -> Rotary:
    """Return the cosines and sines that rotate the queries and keys of each token by its position.

    As in V-JEPA 2, each axis has a third of the channels of a head, rounded down to an even number; the rest is not
    rotated. The frequencies of an axis are repeated as a whole, while :func:`rotate` pairs neighboring channels.

    Args:
        grid: number of tokens along time, height and width.
        head_dim: D, channels of a head.
        device: of the tables.

    Returns:
        Cosines and sines (L, D), float32.
    """
    size = head_dim // 3 // 2 * 2
    frequencies = 10000 ** -(torch.arange(size // 2, dtype=torch.float32, device=device) / (size / 2))
    axes = [torch.arange(length, dtype=torch.float32, device=device) for length in grid]
    positions = torch.stack(torch.meshgrid(*axes, indexing='ij'), dim=-1).flatten(0, 2)  # (L, 3)
    angles = (positions[..., None] * frequencies).repeat(1, 1, 2).flatten(1)  # (L, 3 * size)
    angles = nn.functional.pad(angles, (0, head_dim - 3 * size))  # (L, D)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate each pair of neighboring channels of queries or keys (B, heads, L, D)."""
    cos, sin = rotary
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)  # (B, heads, L, D/2), twice
    turned = torch.stack((-odd, even), dim=-1).flatten(-2)  # (B, heads, L, D)
    return (x * cos + turned * sin).to(x.dtype)  # the tables are float32, also under autocast


class Attention(nn.Module):
    """Self-attention over all tokens.

    Args:
        dim: C.
        num_heads: heads, a divisor of C.
        qkv_bias: 'qkv' for biases of queries, keys and values; 'qv' without those of the keys; 'none'.
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: str = 'qkv') -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias == 'qkv')
        self.q_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias == 'qv' else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias == 'qv' else None
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rotary: Rotary | None = None) -> Tensor:
        """Map tokens (B, L, C) to (B, L, C)."""
        biases = (self.q_bias, None, self.v_bias) if self.qkv.bias is None else self.qkv.bias.chunk(3)
        # Three products, because the attention is slower on CPUs if its inputs are parts of one tensor.
        projected = [
            nn.functional.linear(x, weight, bias)  # (B, L, C)
            for weight, bias in zip(self.qkv.weight.chunk(3), biases, strict=True)
        ]
        q, k, v = (part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in projected)  # (B, heads, L, D)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)  # (B, heads, L, D)
        return self.proj(mixed.transpose(1, 2).flatten(2))  # (B, L, C)


class Mlp(nn.Module):
    """Two linear layers with GELU between them.

    Args:
        dim: C.
        hidden: channels between the layers.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        return self.fc2(self.act(self.fc1(x)))


class TransformerBlock(InsertableBlock):
    """Attention, then two linear layers, each with a norm before it and a residual connection around both.

    Features are (B, T, H, W, C), or tokens (B, 1 + T*H*W, C) after a class token. Inserted modules get (B, C, T, H, W),
    without the class token. They are inserted before or after the block, or in a residual branch after its norm:
    before the attention or the linear layers.

    Args:
        dim: C.
        num_heads: heads of the attention, a divisor of C.
        mlp_ratio: channels between the linear layers, in multiples of C.
        qkv_bias: see :class:`Attention`.
        stochastic_depth: probability of dropping a residual branch of a snippet in training (arXiv 1603.09382).
        activation_checkpointing: recompute the activations in the backward pass instead of storing them.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: str = 'qkv',
        stochastic_depth: float = 0.0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, num_heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, round(dim * mlp_ratio))
        self.stochastic_depth: nn.Module | None = None
        if stochastic_depth:
            from torchvision.ops import StochasticDepth  # imported here because it takes seconds

            self.stochastic_depth = StochasticDepth(stochastic_depth, mode='row')
        self.place_channels = {'before_block': dim, 'before_attn': dim, 'before_mlp': dim, 'after_block': dim}

    def forward(self, x: Tensor, grid: Triple | None = None, rotary: Rotary | None = None) -> Tensor:
        """Map features to features of the same shape.

        Args:
            x: (B, T, H, W, C), or tokens (B, L, C).
            grid: (T, H, W); needed for modules inserted between tokens after a class token.
            rotary: from :func:`rotary_tables`; None for no rotation.
        """
        if self.activation_checkpointing and self.training:
            return run_checkpointed(self, self._forward, x, grid, rotary)
        return self._forward(x, grid, rotary)

    def _forward(self, x: Tensor, grid: Triple | None, rotary: Rotary | None) -> Tensor:
        x = self._apply_inserted(x, grid, 'before_block')
        branch = self._apply_inserted(self.norm1(x), grid, 'before_attn')
        branch = self.attn(branch.flatten(1, -2), rotary)  # (B, L, C)
        x = x + self._drop(branch.view(x.shape))  # (B, T, H, W, C) or (B, L, C)
        branch = self._apply_inserted(self.norm2(x), grid, 'before_mlp')
        x = x + self._drop(self.mlp(branch))
        return self._apply_inserted(x, grid, 'after_block')

    def _drop(self, branch: Tensor) -> Tensor:
        return branch if self.stochastic_depth is None else self.stochastic_depth(branch)

    def _apply_inserted(self, x: Tensor, grid: Triple | None, place: str) -> Tensor:
        if place not in self.inserted:
            return x
        if x.dim() == 5:
            return self.apply_inserted(place, x.movedim(-1, 1)).movedim(1, -1)  # (B, T, H, W, C)
        assert grid is not None, 'tokens have a grid where modules are inserted'
        features = x[:, 1:].unflatten(1, grid).movedim(-1, 1)  # (B, C, T, H, W)
        tokens = self.apply_inserted(place, features).movedim(1, -1).flatten(1, 3)  # (B, T*H*W, C)
        return torch.cat([x[:, :1], tokens], dim=1)


class CrossAttentionBlock(nn.Module):
    """A learned query attends to tokens, then two linear layers follow. The attention has no output projection.

    Args:
        dim: C.
        num_heads: heads of the attention, a divisor of C.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Map a query (B, 1, C) and tokens (B, L, C) to (B, 1, C)."""
        kv = self.kv(self.norm1(tokens))  # (B, L, 2*C)
        k, v = kv.unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, L, D), twice
        q = self.q(query).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, 1, D)
        found = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, 1, C)
        query = query + found
        return query + self.mlp(self.norm2(query))


class AttentivePooler(nn.Module):
    """Three blocks of self-attention, then a learned query collects the tokens: the probe of V-JEPA 2.

    Args:
        dim: C.
        num_heads: heads of all attentions, a divisor of C.
        activation_checkpointing: as for :class:`TransformerBlock`.
    """

    depth = 3

    def __init__(self, dim: int, num_heads: int, activation_checkpointing: bool = False) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(dim, num_heads, activation_checkpointing=activation_checkpointing)
                for _ in range(self.depth)
            )
        )
        self.query = nn.Parameter(torch.zeros(1, 1, dim))
        self.cross = CrossAttentionBlock(dim, num_heads)
        nn.init.normal_(self.query, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, L, C) to (B, C)."""
        tokens = self.blocks(tokens)
        query = self.query.expand(tokens.shape[0], -1, -1)  # (B, 1, C)
        return self.cross(query, tokens).squeeze(1)  # (B, C)

"""Vision transformer for video: the encoders of VideoMAE and V-JEPA 2.

VideoMAE, Tong et al., NeurIPS 2022, arXiv 2203.12602, section 3.3 (tubelets, attention over all tokens of a snippet);
VideoMAE V2, Wang et al., CVPR 2023, arXiv 2303.16727; V-JEPA 2, Assran et al., arXiv 2506.09985, section 2.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels.
"""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dsanet.config.registry import MODELS
from dsanet.models.backbones.base import Backbone
from dsanet.models.backbones.feature_layout import FeatureLayout
from dsanet.models.backbones.residual import Triple
from dsanet.models.backbones.transformer_blocks import (
    NORM_EPS,
    QKV_BIASES,
    AttentivePooler,
    Rotary,
    TransformerBlock,
    rotary_tables,
)

POSITIONS = ('sine', 'learned', 'rotary')
POOLINGS = ('mean', 'class_token', 'attentive', None)


def sine_table(length: int, dim: int) -> Tensor:
    """Return fixed positions (length, dim) of tokens in the order of time, height, width (arXiv 1706.03762, 3.5)."""
    channel = torch.arange(dim, dtype=torch.float64)
    frequencies = 10000 ** -((channel - channel % 2) / dim)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies  # (length, dim)
    return torch.where(channel % 2 == 0, angles.sin(), angles.cos()).float()


class TransformerStage(nn.Sequential):
    """The blocks, which share the grid and the rotation of their tokens."""

    def forward(self, x: Tensor, grid: Triple, rotary: Rotary | None) -> Tensor:  # type: ignore[override]
        """Map features to features of the same shape; see :class:`TransformerBlock`."""
        for block in self:
            x = block(x, grid, rotary)
        return x


@MODELS.register_module()
class VisionTransformer(Backbone):
    """A transformer over the tubelets of a snippet.

    ========================  =========  =====  =========  =========  ==========  ================
    network                   embed_dim  depth  num_heads  mlp_ratio  patch_size  other options
    ========================  =========  =====  =========  =========  ==========  ================
    VideoMAE ViT-S            384        12     6          4          16
    VideoMAE ViT-B            768        12     12         4          16
    VideoMAE ViT-L            1024       24     16         4          16
    VideoMAE ViT-H            1280       32     16         4          16
    VideoMAE V2 ViT-g         1408       40     16         48 / 11    14
    V-JEPA 2 ViT-L            1024       24     16         4          16          see below
    V-JEPA 2 ViT-H            1280       32     16         4          16          see below
    V-JEPA 2 ViT-g            1408       40     22         48 / 11    16          see below
    ========================  =========  =====  =========  =========  ==========  ================

    V-JEPA 2 has ``positions='rotary'``, ``qkv_bias='qkv'``, and ``pooling='attentive'`` in its classifiers. Its weights
    are for ``input_size=(64, 256, 256)``, or other lengths and 384 x 384.

    Clips may differ from ``input_size``. Rotary positions are computed for each size; fixed and learned positions are
    interpolated (trilinear).

    Args:
        embed_dim: C, channels of the features.
        depth: number of blocks.
        num_heads: heads of each attention, a divisor of C.
        mlp_ratio: channels between the two linear layers of a block, in multiples of C.
        patch_size: height and width of a tubelet in pixels.
        tubelet_size: length of a tubelet in frames.
        input_size: (T, H, W) of the clips that the weights are for, in frames and pixels.
        positions: 'sine' (fixed, added to the tokens), 'learned' (added), or 'rotary' (rotate queries and keys).
        qkv_bias: biases of queries, keys and values: 'qv' (VideoMAE), 'qkv' (V-JEPA 2) or 'none'.
        pooling: 'mean' of the tokens, then a norm; 'class_token', with learned positions only; 'attentive'; None for
            the normalized tokens themselves, which the head pools.
        stochastic_depth: probability of dropping the last block's branches in training, from 0 for the first.
        activation_checkpointing: recompute the activations in the backward pass instead of storing them.
        frozen_blocks: -1 freezes nothing, 0 the embedding, k also the first k blocks; all blocks include their norm,
            and leave the pooling.
        pretrained: file with initial weights. Loaded by ``Recognizer3D.init_weights``.
    """

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        patch_size: int = 16,
        tubelet_size: int = 2,
        input_size: Sequence[int] = (16, 224, 224),
        positions: str = 'sine',
        qkv_bias: str = 'qv',
        pooling: str | None = 'mean',
        stochastic_depth: float = 0.0,
        activation_checkpointing: bool = False,
        frozen_blocks: int = -1,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        choices = (('positions', positions, POSITIONS), ('qkv_bias', qkv_bias, QKV_BIASES))
        for name, value, allowed in (*choices, ('pooling', pooling, POOLINGS)):
            if value not in allowed:
                raise ValueError(f'{name}={value!r} must be one of {", ".join(map(repr, allowed))}')
        counts = {'embed_dim': embed_dim, 'depth': depth, 'patch_size': patch_size, 'tubelet_size': tubelet_size}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f'{name}={count!r} must be at least 1')
        if round(embed_dim * mlp_ratio) < 1:
            raise ValueError(f'mlp_ratio={mlp_ratio!r} must be at least 1 / embed_dim={embed_dim}')
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f'num_heads={num_heads!r} must be a divisor of embed_dim={embed_dim}')
        if positions == 'rotary' and embed_dim // num_heads < 6:
            raise ValueError(f'num_heads={num_heads}: rotary positions need at least 6 channels per head')
        if not 0 <= stochastic_depth < 1:
            raise ValueError(f'stochastic_depth={stochastic_depth!r} must be in [0, 1)')
        if frozen_blocks not in range(-1, depth + 1):
            raise ValueError(f'frozen_blocks={frozen_blocks!r} must be between -1 (none) and depth={depth} (all)')
        if pooling == 'class_token' and positions != 'learned':
            raise ValueError(f"pooling='class_token' requires positions='learned', got {positions!r}")
        if len(input_size) != 3:
            raise ValueError(f'input_size={input_size!r} must be (T, H, W)')
        self.out_channels = embed_dim
        self.num_heads = num_heads
        self.tubelet = (tubelet_size, patch_size, patch_size)
        self.grid = self._find_grid(input_size)  # of the weights
        self.probe_shape = (1, 3, *input_size)
        self.positions = positions
        self.pooling = pooling
        self.is_pooled = pooling is not None
        self.frozen_blocks = frozen_blocks
        self.pretrained = pretrained

        self.patch_embed = nn.Conv3d(3, embed_dim, self.tubelet, self.tubelet)
        length = math.prod(self.grid)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if pooling == 'class_token' else None
        if positions == 'learned':
            self.pos_embed = nn.Parameter(torch.zeros(1, length + (self.cls_token is not None), embed_dim))
        elif positions == 'sine':
            # Not in the state dict: it can be computed, and weights of other projects do not have it.
            self.register_buffer('pos_embed', sine_table(length, embed_dim)[None], persistent=False)
        rates = [stochastic_depth * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = TransformerStage(
            *(
                TransformerBlock(embed_dim, num_heads, mlp_ratio, qkv_bias, rate, activation_checkpointing)
                for rate in rates
            )
        )
        if pooling == 'mean':
            self.fc_norm = nn.LayerNorm(embed_dim, eps=NORM_EPS)
        else:
            self.norm = nn.LayerNorm(embed_dim, eps=NORM_EPS)
        if pooling == 'attentive':
            self.pooler = AttentivePooler(embed_dim, num_heads, activation_checkpointing)
        self._init_weights()

    def _init_weights(self) -> None:
        """Initialize linear layers (Glorot and Bengio, 2010) as the original vision transformer does."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv3d):
                nn.init.xavier_uniform_(module.weight.flatten(1))  # (out, in)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for parameter in (self.cls_token, self.pos_embed if self.positions == 'learned' else None):
            if parameter is not None:
                nn.init.normal_(parameter, std=0.02)

    @property
    def stages(self) -> list[nn.Sequential]:
        """One stage with all blocks."""
        return [self.blocks]

    @property
    def cam_layer(self) -> str:
        """The last block; with a class token its first norm, because only that token reaches the scores later."""
        return f'blocks.{len(self.blocks) - 1}' + ('.norm1' if self.pooling == 'class_token' else '')

    def feature_layout(self, submodule: str, shape: Sequence[int]) -> FeatureLayout | None:
        """Return the layout of an output: (B, T, H, W, C) in blocks and of the last norm, except in inserted modules;
        with a class token (B, 1 + T*H*W, C), for clips of ``input_size`` only.
        """
        if len(shape) == 5:
            is_last = re.fullmatch(r'norm|blocks(\.\d+(\.(norm[12]|mlp.*|stochastic_depth))?)?', submodule) is not None
            return FeatureLayout('BTHWC' if is_last else 'BCTHW')
        length = math.prod(self.grid)
        is_grid = self.pooling == 'class_token' and len(shape) == 3 and shape[1] == 1 + length
        return FeatureLayout('BMC', self.grid, num_prefix_tokens=1) if is_grid else None

    def train(self, mode: bool = True) -> 'VisionTransformer':
        """Switch to training mode, except frozen blocks, which stay in eval mode."""
        super().train(mode)
        if self.frozen_blocks >= 0:
            is_whole = self.frozen_blocks == len(self.blocks) and hasattr(self, 'norm')
            for part in [self.patch_embed, *self.blocks[: self.frozen_blocks], *([self.norm] if is_whole else [])]:
                part.eval().requires_grad_(False)
            for parameter in (self.cls_token, self.pos_embed if self.positions == 'learned' else None):
                if parameter is not None:
                    parameter.requires_grad_(False)
        return self

    def _find_grid(self, size: Sequence[int]) -> Triple:
        """Return the number of tokens along each axis for a clip (T, H, W)."""
        if any(n < step or n % step for n, step in zip(size, self.tubelet, strict=True)):
            raise ValueError(
                f'clips of {tuple(size)} (T, H, W) cannot be divided into tubelets of {self.tubelet}; use multiples'
            )
        frames, height, width = (n // step for n, step in zip(size, self.tubelet, strict=True))
        return frames, height, width

    def _interpolated_positions(self, grid: Triple) -> Tensor:
        """Return the positions (1, T, H, W, C) of a grid, without that of the class token."""
        length = math.prod(self.grid)
        positions = self.pos_embed[:, -length:].unflatten(1, self.grid)  # (1, T, H, W, C)
        if grid == self.grid:
            return positions
        resized = nn.functional.interpolate(positions.movedim(-1, 1), grid, mode='trilinear')  # (1, C, T, H, W)
        return resized.movedim(1, -1)  # (1, T, H, W, C)

    def forward(self, x: Tensor) -> Tensor:
        """Map snippets to features.

        Args:
            x: (N*V*U, 3, T, H, W), in multiples of the size of a tubelet.

        Returns:
            (N*V*U, C, 1, 1, 1), or (N*V*U, C, T', H', W') without pooling.
        """
        grid = self._find_grid(x.shape[2:])
        x = self.patch_embed(x).movedim(1, -1)  # (N*V*U, T', H', W', C)
        rotary = None
        if self.positions == 'rotary':
            rotary = rotary_tables(grid, self.out_channels // self.num_heads, x.device)
        else:
            x = x + self._interpolated_positions(grid)
        if self.cls_token is not None:
            first = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], -1, -1)  # (N*V*U, 1, C)
            x = torch.cat([first, x.flatten(1, 3)], dim=1)  # (N*V*U, 1 + T'*H'*W', C)
        x = self.blocks(x, grid, rotary)
        if self.pooling == 'mean':
            pooled = self.fc_norm(x.mean(dim=(1, 2, 3)))  # (N*V*U, C)
        elif self.pooling == 'class_token':
            pooled = self.norm(x[:, 0])  # (N*V*U, C)
        elif self.pooling == 'attentive':
            pooled = self.pooler(self.norm(x).flatten(1, 3))  # (N*V*U, C)
        else:
            return self.norm(x).movedim(-1, 1)  # (N*V*U, C, T', H', W')
        return pooled[..., None, None, None]  # (N*V*U, C, 1, 1, 1)

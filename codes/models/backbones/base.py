"""Base class of backbones."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """A network that maps snippets (N*V*U, 3, T, H, W) to features (N*V*U, C, T', H', W').

    Attributes:
        out_channels: C of the features.
        pretrained: file with initial weights, or None.
        probe_shape: (1, 3, T, H, W) of a valid input, used to find the output shapes of submodules.
        is_pooled: whether T', H' and W' are always 1.
    """

    out_channels: int
    pretrained: str | None = None
    is_pooled: bool = False
    probe_shape: tuple[int, ...] = (1, 3, 16, 224, 224)

    @property
    def stages(self) -> list[nn.Sequential]:
        """The stages, each a sequence of ``InsertableBlock``; empty if modules can be inserted by name only."""
        return []

    @property
    def cam_layer(self) -> str:
        """Submodule with the last features that have positions, for maps; '' for the output of the backbone."""
        return ''

    def token_grid(self, num_tokens: int) -> tuple[int, int, int] | None:
        """Return (T, H, W) of tokens (B, 1 + T*H*W, C) after a class token; None if the backbone has no tokens."""
        return None

    def is_channels_last(self, submodule: str) -> bool:
        """Return whether the output of a submodule (dotted name) is (B, T, H, W, C) instead of (B, C, T, H, W)."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f'{type(self).__name__} does not implement forward')

"""What the rest of the framework expects of a backbone."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """A network from snippets (N*V*U, 3, T, H, W) to features (N*V*U, C, T', H', W').

    Attributes:
        out_channels: C of the features.
        pretrained: file with weights to start from, or None.
        probe_shape: (1, 3, T, H, W) of a snippet that the network accepts; what the output shapes of its submodules are
            found with.
        is_pooled: whether T', H' and W' are always 1.
    """

    out_channels: int
    pretrained: str | None = None
    is_pooled: bool = False
    probe_shape: tuple[int, ...] = (1, 3, 16, 224, 224)

    @property
    def stages(self) -> list[nn.Sequential]:
        """The stages, each a sequence of ``InsertableBlock``; modules such as DSA go into their blocks by place."""
        return []

    def is_channels_last(self, submodule: str) -> bool:
        """Say whether a submodule, by its dotted name, yields (B, T, H, W, C) instead of (B, C, T, H, W)."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f'{type(self).__name__} has no forward')

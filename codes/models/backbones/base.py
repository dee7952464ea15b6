"""What the rest of the framework expects of a backbone."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """A network from snippets (N*V*U, 3, T, H, W) to features (N*V*U, C, T', H', W').

    Attributes:
        out_channels: C of the features.
        pretrained: file with weights to start from, or None.
    """

    out_channels: int
    pretrained: str | None = None

    @property
    def stages(self) -> list[nn.Sequential]:
        """The stages, each a sequence of ``InsertableBlock``; modules such as DSA go into their blocks."""
        raise NotImplementedError(f'{type(self).__name__} has no stages')

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f'{type(self).__name__} has no forward')

"""Base class of backbones."""

from collections.abc import Sequence

from torch import Tensor, nn

from dsanet.models.backbones.feature_layout import FeatureLayout


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

    def feature_layout(self, submodule: str, shape: Sequence[int]) -> FeatureLayout | None:
        """Return how features lie in an output of a submodule.

        A submodule may return a tuple; then its first item is meant.

        Args:
            submodule: dotted name; '' for the backbone itself, whose output is (B, C, T, H, W).
            shape: shape of the output, for clips as in the latest forward pass.

        Returns:
            The layout; None if the output has no positions in time and space, or no snippets.
        """
        return FeatureLayout() if len(shape) == 5 else None

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f'{type(self).__name__} does not implement forward')

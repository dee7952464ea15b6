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
    def layers_in_order(self) -> list[nn.Module]:
        """The layers from input to output that have learning rates of their own, by default the blocks of all stages.

        Those of a network of another library in ``net``, such as timm, are found by the usual names.
        """
        stages = self.stages or find_stages(getattr(self, 'net', None))
        return [block for stage in stages for block in stage]

    def layer_depths(self) -> dict[str, int]:
        """Return the depth of each parameter, by its name.

        It is i in the i-th of the L ``layers_in_order``, 0 before the first, such as in the stem or the embedding, and
        L + 1 after the last. A parameter between two layers, in the order of registration, has that of the earlier.
        """
        layers = self.layers_in_order
        of_layer = {id(p): number for number, layer in enumerate(layers, 1) for p in layer.parameters()}
        depths: dict[str, int] = {}
        last = 0
        for name, parameter in self.named_parameters():
            number = of_layer.get(id(parameter))
            last = last if number is None else number
            depths[name] = len(layers) + 1 if number is None and last == len(layers) else last
        return depths

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


def find_stages(net: nn.Module | None) -> list[list[nn.Module]]:
    """Return the blocks of each stage of a network of another library; [] if it has no attribute with a usual name.

    These are ``blocks``, with or without stages, ``stages`` or ``layers``, and ``layer1``, ``layer2`` and so on. A
    ``layer1`` alone, as in HRNet, is not the whole network.
    """
    sequences = (nn.Sequential, nn.ModuleList)
    found = [part for name in ('blocks', 'stages', 'layers') if isinstance(part := getattr(net, name, None), sequences)]
    numbered = [part for i in range(1, 5) if (part := getattr(net, f'layer{i}', None))]
    parts = list(found[0]) if found else numbered if len(numbered) > 1 else []
    blocks = [getattr(part, 'blocks', part) for part in parts]
    return [list(part) if isinstance(part, sequences) else [part] for part in blocks]

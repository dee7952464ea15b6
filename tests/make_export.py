"""A tiny recognizer with DSA and its test pipeline, for the tests of exports, which are slow for larger networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dsanet.inference.export.exporting import ExportReport, export_recognizer
from dsanet.models.backbones.base import Backbone
from dsanet.models.heads.i3d_cls_head import I3DClsHead
from dsanet.models.recognizers.recognizer3d import Recognizer3D

PIPELINE: list[dict[str, Any]] = [
    {'type': 'SampleSnippets', 'num_snippets': 2, 'frames_per_snippet': 2, 'num_groups': 2},
    {'type': 'DecodeRawFrames'},
    {'type': 'Resize', 'short_side': 16},
    {'type': 'ThreeCrop', 'size': 16},
    {'type': 'PackInputs'},
]


class TinyNet(Backbone):
    """One convolution, and a function of its output."""

    out_channels = 4
    probe_shape = (2, 3, 2, 16, 16)

    def __init__(self, function: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, (1, 3, 3), stride=(1, 2, 2))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


@dataclass
class Exported:
    """A recognizer, the file it was exported to, and the report."""

    model: Recognizer3D
    file: Path
    report: ExportReport


def make_model(function: Callable[[Tensor], Tensor] = torch.relu, **options: Any) -> Recognizer3D:
    torch.manual_seed(0)
    module_cfg = {'type': 'DSA', 'num_snippets': 2, 'channel_ratio': 0.5, 'after': 'conv'}
    model = Recognizer3D(TinyNet(function), I3DClsHead(3, 4, init_std=1.0), module_cfg, **options)
    return model.eval()


def export(
    model: Recognizer3D, file: Path, form: str, pipeline: Sequence[dict[str, Any]] = PIPELINE, video: str | None = None
) -> Exported:
    report = export_recognizer(model, pipeline, ['climb', 'jump "far"', 'läuft'], form, file, video)
    return Exported(model, file, report)

"""Export a recognizer to a file that runs without DSANet: normalization, the network and the mean over views.

The graph comes from ``torch.export``. Its input has a variable number of videos N and of views V; the other sizes are
those of the test pipeline. The file is compared with PyTorch on a few clips before it gets its name.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, K classes.
"""

import copy
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dsanet import __version__
from dsanet.inference.export.formats import FORMATS, INPUT, OUTPUTS, check_installed, first_line
from dsanet.inference.export.samples import make_views
from dsanet.inference.pipelines import find_sampling, with_defaults
from dsanet.models.recognizers.recognizer3d import Recognizer3D

LOGGER = logging.getLogger(__name__)

# Largest accepted differences: of scores before softmax or sigmoid, relative to the largest one, and of probabilities.
# Another order of additions changes scores by 1e-6 to 1e-5 of the largest; a wrong operator or bfloat16 by over 1e-3.
TOLERANCE = 1e-4
PROB_TOLERANCE = 1e-3

# Numbers of videos and views that are compared; their products differ, so a graph for one number of views would fail.
CHECKED = ((1, 2), (3, 1))


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Args:
        files: the files that were written.
        input_shape: sizes of the input; 'N' and 'V' are variable.
        difference: largest absolute difference between a score of the file and of PyTorch.
        largest_score: largest absolute score of PyTorch in this comparison.
    """

    files: list[Path]
    input_shape: tuple[int | str, ...]
    difference: float
    largest_score: float


class ExportableRecognizer(nn.Module):
    """A recognizer with the outputs and the layout of an exported file.

    Args:
        model: the recognizer; not changed.
    """

    def __init__(self, model: Recognizer3D) -> None:
        super().__init__()
        self.model = copy.copy(model)
        self.model.max_views_per_forward = None  # a fixed number of forward passes would fix the number of views

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the outputs.

        Args:
            frames: uint8 RGB (N, V, U, T, H, W, C).

        Returns:
            The scores (N, K) of a test, and their probabilities (N, K).
        """
        scores = self.model(frames.movedim(-1, 3))  # from (N, V, U, C, T, H, W) to (N, K)
        is_prob = self.model.activation == 'none'
        # A copy, because a graph's outputs should be distinct tensors.
        return scores, scores.clone() if is_prob else self.model.cls_head.probabilities(scores)


def export_recognizer(
    model: Recognizer3D,
    pipeline: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    form: str,
    out: Path,
    video: str | None = None,
) -> ExportReport:
    """Export a recognizer to a file, after comparing the file with PyTorch.

    Args:
        model: the recognizer, in eval mode, on the CPU.
        pipeline: the configs of the transforms of the test pipeline.
        class_names: names by class number.
        form: one of ``FORMATS``.
        out: the file to write, with the suffix of the format.
        video: a video for the comparison; None for generated moving pictures.

    Raises:
        ValueError: a package is missing, an operator cannot be exported, the size of the frames depends on the video,
            or the outputs differ by more than ``TOLERANCE`` or ``PROB_TOLERANCE``. Nothing is written then.
        OSError: the file cannot be written.
    """
    target = FORMATS[form]
    check_installed(form)
    num_test_views, views = make_views(pipeline, video, max(n * v for n, v in CHECKED))
    shape = tuple(views.shape[1:])  # (U, T, H, W, C)
    exportable = ExportableRecognizer(model).eval()
    optimized = copy.deepcopy(exportable)
    optimized.model.optimize()
    try:
        # Beside the file, so that the complete files can be renamed.
        temporary = tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix='.export-')
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from error
    with temporary as folder:
        part = Path(folder) / out.name
        program = trace(optimized, shape)
        metadata = describe(model, pipeline, class_names, shape, num_test_views)
        try:
            target.write(program, part, metadata)
        except OSError as error:  # such as a full disk
            if error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, str(out)) from error  # not the temporary file
        del program
        difference, largest = compare(exportable, part, form, views)
        files = _move_files(Path(folder), out)
    return ExportReport(files, ('N', 'V', *shape), difference, largest)


def trace(exportable: nn.Module, shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """Return the graph for a variable number of videos and views.

    Args:
        exportable: the recognizer.
        shape: the other sizes (U, T, H, W, C).

    Raises:
        ValueError: ``torch.export`` cannot follow the model.
    """
    frames = torch.zeros(2, 3, *shape, dtype=torch.uint8)  # sizes of 0 and 1 would be fixed
    sizes = {0: torch.export.Dim('N'), 1: torch.export.Dim('V')}
    try:
        with torch.no_grad():
            program = torch.export.export(exportable, (frames,), dynamic_shapes={INPUT: sizes})
    except Exception as error:  # of many types
        raise ValueError(f'torch.export cannot export the model: {first_line(error)}') from error
    for node in program.graph.nodes:
        node.meta.pop('stack_trace', None)  # contains paths of this machine
    return program


def describe(
    model: Recognizer3D,
    pipeline: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    shape: tuple[int, ...],
    num_views: int,
) -> dict[str, Any]:
    """Return the metadata of an exported file, of plain types.

    Args:
        model: the recognizer.
        pipeline: the configs of the test pipeline; default values are added.
        class_names: names by class number.
        shape: (U, T, H, W, C) of the input.
        num_views: V of the test.
    """
    return {
        'dsanet': __version__,
        'class_names': list(class_names),
        'activation': model.activation,
        'average_views': model.average_views,
        'input': {'name': INPUT, 'dtype': 'uint8', 'layout': 'NVUTHWC', 'shape': ['N', 'V', *shape], 'color': 'RGB'},
        'outputs': list(OUTPUTS),
        'num_views': num_views,
        'sampling': find_sampling(pipeline),
        'pipeline': [with_defaults(step) for step in pipeline],
    }


@torch.no_grad()
def compare(exportable: ExportableRecognizer, file: Path, form: str, views: Tensor) -> tuple[float, float]:
    """Compare an exported file with PyTorch.

    Args:
        exportable: the recognizer.
        file: the exported file.
        form: its format.
        views: uint8 (views, U, T, H, W, C), at least as many as the cases of ``CHECKED`` need.

    Returns:
        Largest absolute difference of a score, and largest absolute score.

    Raises:
        ValueError: the outputs differ too much, or the file does not run.
    """
    try:
        predict = FORMATS[form].load(file)[0]
        pairs = []
        for num_videos, num_views in CHECKED:
            frames = views[: num_videos * num_views].unflatten(0, (num_videos, num_views))  # (N, V, U, T, H, W, C)
            expected = [output.numpy() for output in exportable(frames)]
            pairs.append((expected, predict(frames.numpy())))
    except Exception as error:  # the runtimes raise errors of many types
        if isinstance(error, MemoryError):
            raise
        raise ValueError(f'the exported file does not run: {first_line(error)}') from error
    is_prob = exportable.model.activation == 'none'
    difference = max(float(np.abs(found[0] - expected[0]).max()) for expected, found in pairs)
    largest = max(float(np.abs(expected[0]).max()) for expected, _ in pairs)
    prob_difference = max(float(np.abs(found[1] - expected[1]).max()) for expected, found in pairs)
    # Written so that NaN is refused, too.
    if not (difference <= max(TOLERANCE * largest, is_prob * PROB_TOLERANCE) and prob_difference <= PROB_TOLERANCE):
        raise ValueError(
            f'the {form} file does not reproduce PyTorch: scores differ by up to {difference:.2g}, the largest score '
            f'is {largest:.3g}; probabilities differ by up to {prob_difference:.2g}. The tolerances are {TOLERANCE:g} '
            f'of the largest score and {PROB_TOLERANCE:g}. Nothing was written'
        )
    return difference, largest


def _move_files(folder: Path, out: Path) -> list[Path]:
    """Move all files of a folder beside ``out``, the one with that name last; return their new paths."""
    moved = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name == out.name):
        with file.open('rb') as stream:
            os.fsync(stream.fileno())
        moved.append(file.replace(out.with_name(file.name)))
    return moved

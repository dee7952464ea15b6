"""The kernels that the DSA modules of a recognizer generate for videos, and how much they differ.

DSA generates a kernel for each view of a video and each channel (``dsanet.models.modules_maker.DSA``; DSANet, arXiv
2105.12085, figure 2). Here the kernels of the views of a video are averaged.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels (those that a module aggregates), H x W
pixels, K classes, L kernel length; n videos in total.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dsanet.inference.recognizer import Recognizer
from dsanet.models.modules_maker.DSA import DSA

Floats = npt.NDArray[np.float64]
Batch = tuple[Tensor, Sequence[str], Sequence[int]]


@dataclass(frozen=True)
class KernelStats:
    """How the kernels of a module differ from fixed kernels and from each other.

    The distance of two kernels is half the sum of the absolute differences of their weights: the share of the weight
    that one has elsewhere than the other, from 0 (equal) to 1.

    Args:
        from_identity: mean distance from the kernel that keeps each snippet; 1 minus the weight in the middle.
        from_average: mean distance from the kernel with L equal weights; at most 1 - 1 / L.
        offset: mean of the kernels' centers of mass in snippets; negative if earlier snippets have more weight.
        between_channels: mean distance of the channels' kernels, averaged over videos, from the mean of all channels.
        between_videos: mean distance of a video's kernel from the mean of all videos in the same channel.
        between_classes: share of the variance between videos that the classes explain (eta squared), from 0 to 1;
            None without labels of at least two classes, or if the kernels do not differ.
        by_chance: expected ``between_classes`` if the kernels do not depend on the class, (K - 1) / (n - 1) for the K
            classes of n videos; None as above.
    """

    from_identity: float
    from_average: float
    offset: float
    between_channels: float
    between_videos: float
    between_classes: float | None
    by_chance: float | None


@dataclass(frozen=True)
class ModuleKernels:
    """The kernels of a DSA module for some videos.

    Args:
        name: of the module in the model, such as 'backbone.layer2.1.dsa'.
        kernels: weights (n, C, L) that sum to 1 along L; weight k is for the snippet k - L // 2 later.
        residual: the module adds its input to the result, which adds 1 to the weight in the middle.
    """

    name: str
    kernels: Floats
    residual: bool

    def offsets(self) -> Floats:
        """Return the centers of mass of the kernels in snippets (n, C)."""
        length = self.kernels.shape[2]
        center: Floats = self.kernels @ (np.arange(length) - length // 2)  # (n, C)
        return center

    def measure(self, labels: npt.NDArray[np.int64]) -> KernelStats:
        """Return the statistics; ``labels`` (n,) are class numbers, -1 if unknown."""
        kernels = self.kernels
        length = kernels.shape[2]
        of_channels, overall = kernels.mean(axis=0), kernels.mean(axis=(0, 1))
        share, chance = _share_between_classes(kernels, labels)
        return KernelStats(
            from_identity=float(_distance(kernels, np.eye(length)[length // 2])),
            from_average=float(_distance(kernels, np.full(length, 1 / length))),
            offset=float(self.offsets().mean()),
            between_channels=float(_distance(of_channels, overall)),
            between_videos=float(_distance(kernels, of_channels)),
            between_classes=share,
            by_chance=chance,
        )


@dataclass(frozen=True)
class Kernels:
    """The kernels of all DSA modules of a recognizer.

    Args:
        modules: in the order of the network.
        videos: names of the n videos.
        labels: class numbers (n,), -1 if unknown.
        class_names: names of the K classes.
    """

    modules: list[ModuleKernels]
    videos: list[str]
    labels: npt.NDArray[np.int64]
    class_names: list[str]


def has_dsa(model: nn.Module) -> bool:
    """Return True if a model has a DSA module, and so generates kernels."""
    return any(isinstance(module, DSA) for module in model.modules())


def find_dsa(model: nn.Module) -> dict[str, DSA]:
    """Return the DSA modules of a model by name.

    Raises:
        ValueError: the model has none.
    """
    found = {name: module for name, module in model.named_modules() if isinstance(module, DSA)}
    if not found:
        raise ValueError(
            'the model has no DSA module, so it generates no kernels; train one with a config such as '
            "kinetics/dsanet_r50_4x4 or demo/dsanet_ordered_actions, or with model.module_cfg=dict(type='DSA', ...)"
        )
    return found


def collect_kernels(recognizer: Recognizer, batches: Iterable[Batch]) -> Kernels:
    """Run a recognizer on videos and collect the kernels that its DSA modules generate.

    Args:
        recognizer: the model; other threads may use it, too.
        batches: uint8 frames (N, V, U, C, T, H, W), N names of the videos, N class numbers (-1 if unknown).

    Raises:
        ValueError: the model has no DSA, there are no videos, a label is too large, or a kernel is not finite.
    """
    modules = find_dsa(recognizer.model)
    num_classes = len(recognizer.class_names)
    collected: dict[str, list[Floats]] = {name: [] for name in modules}
    videos: list[str] = []
    labels: list[int] = []
    for inputs, names, classes in batches:
        wrong = [(video, label) for video, label in zip(names, classes, strict=True) if not -1 <= label < num_classes]
        if wrong:
            raise ValueError(f'{wrong[0][0]}: label {wrong[0][1]} must be from 0 to {num_classes - 1}')
        with record_kernels(recognizer) as passes:
            recognizer.score(inputs)
        for name, kernels in average_views(passes, modules, len(names)).items():
            for video, values in zip(names, kernels, strict=True):
                if not np.isfinite(values).all():
                    raise ValueError(f'{video}: the kernels of {name} are not finite')
            collected[name].append(kernels)
        videos += names
        labels += classes
    if not videos:
        raise ValueError('there are no videos to generate kernels for')
    return Kernels(
        [ModuleKernels(name, np.concatenate(parts), modules[name].residual) for name, parts in collected.items()],
        videos,
        np.array(labels, np.int64),
        recognizer.class_names,
    )


@contextlib.contextmanager
def record_kernels(recognizer: Recognizer) -> Iterator[dict[str, list[Tensor]]]:
    """Record the kernels of all passes of the model in this context; other threads wait until it ends.

    Yields:
        For each DSA module the kernels of each call, float32 (views * C, L); a module appends them as it runs.

    Raises:
        ValueError: the model has no DSA.
    """
    modules = find_dsa(recognizer.model)
    passes: dict[str, list[Tensor]] = {name: [] for name in modules}  # the model may split the views
    with recognizer.lock, contextlib.ExitStack() as hooks:
        for name, module in modules.items():

            def receive(_module: nn.Module, _arguments: Any, output: Tensor, rows: list[Tensor] = passes[name]) -> None:
                rows.append(output.detach().float().cpu())

            hooks.callback(module.generate.register_forward_hook(receive).remove)
        yield passes


def average_views(passes: dict[str, list[Tensor]], modules: dict[str, DSA], num_videos: int) -> dict[str, Floats]:
    """Return the kernels of each module for each video, averaged over its views, (N, C, L).

    Args:
        passes: from :func:`record_kernels`.
        modules: from :func:`find_dsa`.
        num_videos: N.
    """
    found: dict[str, Floats] = {}
    for name, rows in passes.items():
        shape = (num_videos, -1, modules[name].channels, modules[name].kernel_size)
        kernels = torch.cat(rows).reshape(shape)  # (N, V, C, L)
        found[name] = kernels.double().mean(dim=1).numpy()  # (N, C, L)
    return found


def _distance(kernels: Floats, other: Floats) -> Any:
    """Return the mean distance of kernels (..., L) from others that broadcast to them."""
    return np.abs(kernels - other).sum(axis=-1).mean() / 2


def _share_between_classes(kernels: Floats, labels: npt.NDArray[np.int64]) -> tuple[float, float] | tuple[None, None]:
    """Return the share of the variance between videos that the classes explain, and its expectation by chance."""
    known, labels = kernels[labels >= 0], labels[labels >= 0]
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or len(labels) <= len(classes):
        return None, None
    mean = known.mean(axis=0)  # (C, L)
    total = np.square(known - mean).sum()
    if total <= 1e-12 * known.size:  # rounding
        return None, None
    means = np.stack([known[labels == k].mean(axis=0) for k in classes])  # (classes, C, L)
    between = (counts[:, None, None] * np.square(means - mean)).sum()
    return float(between / total), (len(classes) - 1) / (len(labels) - 1)

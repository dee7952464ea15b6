"""How much a recognizer depends on the order of snippets and frames.

The snippets or the frames of each video are rearranged before the forward pass; each video is decoded once. A model
that averages the scores of its snippets gives the same scores for any order of the snippets, up to rounding. A model
that relates snippets, such as DSANet (arXiv 2105.12085), does not.

Letters (see ``dsanet``): N videos, V views, U snippets, T frames, C channels, H x W pixels, K classes; M arrangements,
n videos in total.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dsanet.inference.recognizer import Recognizer

# Arrangements, and what each does; the first is the reference.
ARRANGEMENTS = {
    'in order': 'snippets and frames in time order',
    'reversed': 'snippets in reverse order; the frames of a snippet stay in order',
    'shuffled': 'snippets in random order, another one for each video and never the time order',
    'repeated': 'the snippet in the middle (number U // 2, from 0) in place of all snippets',
    'dropped': 'the snippet in the middle (number U // 2, from 0) replaced by the one before it',
    'frames reversed': 'the frames of each snippet in reverse order; the snippets stay in order',
}
# Those that only change the order of the snippets: the mean over the snippets is the same.
PERMUTATIONS = ('reversed', 'shuffled')


@dataclass(frozen=True)
class OrderResult:
    """The scores of a model for all arrangements.

    Args:
        names: of the M arrangements, keys of ``ARRANGEMENTS``; the first is 'in order'.
        scores: (M, n, K) float32.
        labels: class numbers (n,).
    """

    names: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def accuracies(self) -> npt.NDArray[np.float64]:
        """Return the top-1 accuracy of each arrangement in percent, (M,)."""
        accuracy: npt.NDArray[np.float64] = self._hits().mean(axis=1) * 100  # (M,)
        return accuracy

    def class_accuracies(self) -> npt.NDArray[np.float64]:
        """Return the share of correct videos of each class in percent, (M, K); NaN for classes without videos."""
        found = np.full((len(self.names), self.scores.shape[2]), np.nan)
        hits = self._hits()
        for k in np.unique(self.labels):
            found[:, k] = hits[:, self.labels == k].mean(axis=1) * 100
        return found

    def changed(self) -> npt.NDArray[np.int64]:
        """Return the number of videos whose predicted class is another one than in order, (M,)."""
        best = self.predictions()
        number: npt.NDArray[np.int64] = (best != best[0]).sum(axis=1)  # (M,)
        return number

    def score_changes(self) -> npt.NDArray[np.float64]:
        """Return the largest difference of a score from the one in order, (M,)."""
        difference: npt.NDArray[np.float64] = np.abs(self.scores.astype(np.float64) - self.scores[0]).max(axis=(1, 2))
        return difference

    def predictions(self) -> npt.NDArray[np.int64]:
        """Return the predicted class of each video for each arrangement, (M, n)."""
        # As in the metric Accuracy, equal scores rank by class number.
        best: npt.NDArray[np.int64] = self.scores.argmax(axis=2)  # (M, n)
        return best

    def _hits(self) -> npt.NDArray[np.bool_]:
        hits: npt.NDArray[np.bool_] = self.predictions() == self.labels  # (M, n)
        return hits


def find_arrangements(num_snippets: int, frames_per_snippet: int) -> tuple[str, ...]:
    """Return the arrangements that differ from the time order, after 'in order'.

    Raises:
        ValueError: there are none.
    """
    names = [name for name in ARRANGEMENTS if num_snippets > 1 or name in ('in order', 'frames reversed')]
    if frames_per_snippet == 1:
        names.remove('frames reversed')
    if len(names) == 1:
        raise ValueError('num_snippets=1 and frames_per_snippet=1: a single frame has no order; sample more of them')
    return tuple(names)


def arrange(inputs: Tensor, name: str, indices: Sequence[int], seed: int = 0) -> Tensor:
    """Rearrange the snippets or frames of videos.

    Args:
        inputs: frames (N, V, U, C, T, H, W).
        name: one of ``ARRANGEMENTS``.
        indices: numbers of the N videos in their dataset. The random order of a video depends only on its number and
            the seed, and is the same for all of its views.
        seed: of the random orders.

    Returns:
        Frames of the same shape.
    """
    num_snippets = inputs.shape[2]
    middle = num_snippets // 2
    order = list(range(num_snippets))
    if name == 'in order':
        return inputs
    if name == 'frames reversed':
        return inputs.flip(4)
    if name == 'shuffled':
        orders = [_shuffle(num_snippets, seed, index) for index in indices]
        return torch.stack([video[:, order] for video, order in zip(inputs, orders, strict=True)])
    if name == 'reversed':
        order.reverse()
    elif name == 'repeated':
        order = [middle] * num_snippets
    elif name == 'dropped':
        order[middle] = max(middle - 1, 0)
    else:
        raise ValueError(f'arrangement {name!r} must be one of {", ".join(ARRANGEMENTS)}')
    return inputs[:, :, order]


def _shuffle(num_snippets: int, seed: int, index: int) -> list[int]:
    """Return a random order that is not the time order."""
    generator = np.random.default_rng([seed, index])
    order = list(range(num_snippets))
    while num_snippets > 1 and order == sorted(order):
        order = generator.permutation(num_snippets).tolist()
    return order


def measure_order(
    recognizers: Sequence[Recognizer], batches: Iterable[Mapping[str, Any]], seed: int = 0
) -> list[OrderResult]:
    """Score all arrangements of each video with each model.

    Args:
        recognizers: models with the same classes, for the same frames.
        batches: ``inputs`` (N, V, U, C, T, H, W), ``label`` (N,), ``index`` (N,) and ``path``, N names.
        seed: of the random orders.

    Returns:
        The result of each model.

    Raises:
        ValueError: there are no videos, they have several labels, a score is not finite, or a single frame has no
            order.
    """
    names: tuple[str, ...] = ()
    scores: list[list[npt.NDArray[np.float32]]] = [[] for _ in recognizers]
    labels = []
    for batch in batches:
        inputs, indices = batch['inputs'], batch['index'].tolist()
        if batch['label'].dim() != 1:
            raise ValueError('the test data may have several labels per video; accuracies require one (multi_hot=None)')
        names = names or find_arrangements(inputs.shape[2], inputs.shape[4])
        for name in names:
            arranged = arrange(inputs, name, indices, seed)
            for recognizer, collected in zip(recognizers, scores, strict=True):
                rows = recognizer.score(arranged)[0].numpy()  # (N, K)
                for path, row in zip(batch['path'], rows, strict=True):
                    if not np.isfinite(row).all():
                        raise ValueError(f'{path}: the scores are not finite ({name})')
                collected.append(rows)
        labels.append(batch['label'].numpy())
    if not labels:
        raise ValueError('there are no videos to test')
    count = len(names)
    # Batch by batch, arrangement by arrangement.
    joined = [np.stack([np.concatenate(rows[i::count]) for i in range(count)]) for rows in scores]  # each (M, n, K)
    return [OrderResult(names, one, np.concatenate(labels)) for one in joined]

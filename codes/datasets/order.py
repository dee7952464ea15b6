"""Choice and order of the samples in a training epoch, with balanced classes or weighted datasets."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dsanet.datasets.video_datasets import MixedDataset, VideoSamples

Places = npt.NDArray[np.int64]

CLASS_BALANCES = (None, 'equal', 'square_root')


def plan_groups(
    dataset: VideoSamples, class_balance: str | None
) -> tuple[list[Places], npt.NDArray[np.float64]] | None:
    """Divide a dataset into groups that have fixed shares of an epoch.

    Args:
        dataset: the training dataset; a mixture may have ``weights``, the shares of its datasets.
        class_balance: None, every video equally often; 'equal', every class equally often; 'square_root', a class of n
            videos in proportion to the square root of n. Classes without videos do not count. In a mixture with
            weights, each dataset is divided separately.

    Returns:
        The indices of each group's videos and the groups' shares, which sum to 1. None to take every sample once.
    """
    if class_balance not in CLASS_BALANCES:
        raise ValueError(f'class_balance={class_balance!r} must be one of {", ".join(map(repr, CLASS_BALANCES))}')
    if class_balance is not None and dataset.multi_hot is not None:
        raise ValueError(f'class_balance={class_balance!r} requires one class per video, but the dataset has multi_hot')
    every = np.arange(len(dataset))
    if isinstance(dataset, MixedDataset) and dataset.weights is not None:
        parts, weights = np.split(every, dataset.ends[:-1]), dataset.weights
    elif class_balance is None:
        return None
    else:
        parts, weights = [every], [1.0]
    groups: list[Places] = []
    shares: list[float] = []
    for part, weight in zip(parts, weights, strict=True):
        inside = [part] if class_balance is None else _by_class(part, dataset.labels)
        sizes = np.array([float(len(group)) for group in inside])
        wanted = np.ones_like(sizes) if class_balance == 'equal' else np.sqrt(sizes)
        groups += inside
        shares += (weight / sum(weights) * wanted / wanted.sum()).tolist()
    return groups, np.array(shares)


def draw_epoch(
    groups: Sequence[Places], shares: npt.NDArray[np.float64], length: int, rng: np.random.Generator
) -> Places:
    """Draw the samples of an epoch, shuffled.

    A group has its share of ``length``, rounded up or down at random; its videos occur equally often, or some once more
    than others.

    Args:
        groups: the indices of each group's videos.
        shares: the groups' shares, which sum to 1.
        length: number of samples.
        rng: source of all randomness.

    Returns:
        (length,), indices.
    """
    edges = np.concatenate([[0.0], np.cumsum(shares) * length])
    edges[-1] = length
    counts = np.diff(np.floor(edges + rng.random()).astype(np.int64))
    drawn = []
    for group, count in zip(groups, counts.tolist(), strict=True):
        times, rest = divmod(count, len(group))
        drawn += [np.tile(group, times), rng.permutation(group)[:rest]]
    return rng.permutation(np.concatenate(drawn))


def count_repetitions(order: Places) -> Places:
    """Return for each entry the number of equal entries before it.

    Returns:
        (len,), as ``order``.
    """
    by_place = np.argsort(order, kind='stable')
    ordered = order[by_place]
    is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    begins = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
    repetitions = np.empty_like(order)
    repetitions[by_place] = np.arange(len(order)) - begins
    return repetitions


def _by_class(places: Places, labels: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> list[Places]:
    """Return the indices of each class, in class order."""
    inside = labels[places]
    by_class = np.argsort(inside, kind='stable')
    ends = np.flatnonzero(np.diff(inside[by_class])) + 1
    return np.split(places[by_class], ends)

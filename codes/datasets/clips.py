"""Several clips of a video in one batch: their frames are decoded together."""

import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from dsanet.datasets.transforms.base import BadSample

T = TypeVar('T')

# (epoch, index), or an index alone for epoch 0; or (epoch, index, repetition) if an epoch uses videos several times.
SampleKey = int | tuple[int, int] | tuple[int, int, int]


def parse_key(key: SampleKey) -> tuple[int, int, int]:
    """Return epoch, index and repetition; the numbers may be of NumPy."""
    epoch, index, repetition = (*map(operator.index, key if isinstance(key, tuple) else (0, key)), 0)[:3]
    return epoch, index, repetition


def load_samples(
    keys: Sequence[SampleKey],
    load: Callable[[SampleKey], T],
    load_clips: Callable[[int, int, Sequence[int]], Sequence[T]],
) -> Iterator[T]:
    """Yield the samples of a batch.

    Args:
        keys: of the samples; clips of a video, its repetitions, follow each other.
        load: returns one sample.
        load_clips: returns several clips of a video, given epoch, index and repetitions. If it raises a BadSample, the
            clips are loaded one by one, because each one is replaced by another video.
    """
    for (epoch, index), group in groupby(keys, lambda key: parse_key(key)[:2]):
        clips = list(group)
        if len(clips) > 1:
            try:
                yield from load_clips(epoch, index, [parse_key(key)[2] for key in clips])
                continue
            except BadSample:
                pass
        yield from map(load, clips)

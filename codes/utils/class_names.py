"""Class names with their source. Labels are numbers, so sources that name them differently must not be combined."""

import unicodedata
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple


class ClassNames(NamedTuple):
    """Class names in the order of the labels.

    Attributes:
        names: None if unknown, which matches everything.
        origin: their source, such as a class file or a checkpoint, for messages.
    """

    names: Sequence[str] | None
    origin: str


def check_same_class_names(one: ClassNames, other: ClassNames) -> None:
    """Raise a ValueError if names differ; it states the first class that differs, its names and both sources.

    Names match if they look the same: file systems store accents in different ways.
    """
    if one.names is None or other.names is None:
        return
    ours, theirs = ([unicodedata.normalize('NFC', name) for name in source.names or ()] for source in (one, other))
    if ours == theirs:
        return
    pairs = enumerate(zip_longest(ours, theirs))
    label, names = next((label, pair) for label, pair in pairs if pair[0] != pair[1])
    shown = ['missing' if name is None else repr(name) for name in names]
    text = f'class {label} is {shown[0]} in {one.origin}, but {shown[1]} in {other.origin}'
    if len(ours) != len(theirs):
        text += f' ({len(ours)} and {len(theirs)} classes)'
    elif sorted(ours) == sorted(theirs):
        text += '; the classes are the same, but in a different order'
    raise ValueError(text)

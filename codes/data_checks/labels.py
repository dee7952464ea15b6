"""Check the labels: do they match the model, and can all classes be learned?"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from dsanet.data_checks.report import Finding, format_record
from dsanet.data_checks.splits import Split
from dsanet.datasets.annotation import label_hint
from dsanet.datasets.transforms import Flip
from dsanet.utils.class_names import ClassNames, check_same_class_names

IMBALANCE_RATIO = 10  # of the largest to the smallest class; from here on, the imbalance is reported


def check_labels(split: Split) -> Iterator[Finding]:
    """Compare labels, class names and classes of the pipeline with the number of classes of the model."""
    counts = split.counts
    num_classes = split.num_classes
    if split.multi_hot is None:
        records = map(split.records.__getitem__, np.flatnonzero(split.columns.label_counts > 1).tolist())
        several = [f'{format_record(record)}: {record.labels}' for record in records]
        if several:
            text = f'{split.count(len(several))} with several labels; set multi_hot=<number of classes>'
            yield Finding('error', 'labels', split.name, text, tuple(several))
    if num_classes is None or not counts:
        return
    if split.multi_hot not in (None, num_classes):
        text = f'multi_hot={split.multi_hot} must equal num_classes={num_classes} of the model'
        yield Finding('error', 'labels', split.name, text)
    if max(counts) >= num_classes:
        indices = np.flatnonzero(split.columns.largest_labels >= num_classes).tolist()
        wrong = [split.records[index] for index in indices]
        is_named = split.class_names is not None and len(split.class_names) == num_classes
        hint = label_hint('num_classes', num_classes, min(counts), max(counts), 'the class file' if is_named else None)
        text = (
            f'{split.count(len(wrong))} with a label out of range: num_classes={num_classes} allows 0 to '
            f'{num_classes - 1}, the largest label is {max(counts)}{hint}'
        )
        examples = tuple(f'{format_record(record)}: {record.labels}' for record in wrong)
        yield Finding('error', 'labels', split.name, text, examples)
    if split.class_names is not None and len(split.class_names) != num_classes:
        text = f'{len(split.class_names)} class names, but the model has num_classes={num_classes}'
        yield Finding('error', 'labels', split.name, text)
    largest = max((max(step.classes, default=0) for step in split.steps), default=0)
    if largest >= num_classes:
        text = f'the pipeline uses class {largest}, but num_classes={num_classes}'
        yield Finding('error', 'labels', split.name, text)


def check_flip(split: Split) -> Iterator[Finding]:
    """Look for classes whose names differ in left and right, and that a horizontal flip therefore confuses."""
    names = split.class_names or []
    swapped = {_swap_sides(name): k for k, name in enumerate(names)}
    pairs = [(k, swapped[name.lower()]) for k, name in enumerate(names) if k < swapped.get(name.lower(), -1)]
    for step in split.steps:
        if isinstance(step, Flip) and step.prob:
            confused = [pair for pair in pairs if not set(pair) <= set(step.classes)]
            if confused:
                hint = "set flip_prob=0, or Flip's swap_labels if the classes are opposites"
                text = f'a flip turns videos of one class into another: {hint}'
                examples = (f'{names[a]} and {names[b]}: swap_labels=(({a}, {b}),)' for a, b in confused)
                yield Finding('warning', 'labels', split.name, text, tuple(examples))


def _swap_sides(name: str) -> str:
    """Return the lowercase name with left and right exchanged, as words or between underscores."""
    sides = {'left': 'right', 'right': 'left'}
    return re.sub(r'(?<![^\W_])(left|right)(?![^\W_])', lambda match: sides[match[1]], name.lower())


def check_balance(split: Split) -> Iterator[Finding]:
    """Look for classes without training videos, and for imbalanced classes.

    Args:
        split: all training videos.
    """
    counts = split.counts
    if not counts:
        return
    if len(counts) == 1 and split.multi_hot is None and (split.num_classes or 2) > 1:
        text = (
            f'all {split.noun}s have the same label, {split.class_name(next(iter(counts)))}; there is nothing to learn'
        )
        yield Finding('error', 'balance', split.name, text)
        return
    missing = [label for label in range(split.num_classes or 0) if label not in counts]
    if missing:
        text = f'{len(missing)} of {split.num_classes} classes have no {split.noun}s and cannot be learned'
        level = 'warning'
        if split.class_weights == 'balanced':
            level, text = 'error', f"{text}, but class_weights='balanced' requires some"
        yield Finding(level, 'balance', split.name, text, tuple(map(split.class_name, missing)))
    if missing == [0] and len(counts) > 1:
        # Labels that start at 1, with one class too many in the config, would train without an error.
        text = (
            f'no {split.noun} has label 0; if labels start at 1, subtract 1 from each and set num_classes={len(counts)}'
        )
        yield Finding('warning', 'labels', split.name, text)
    yield from _check_imbalance(split)


def _check_imbalance(split: Split) -> Iterator[Finding]:
    by_size = split.counts.most_common()
    (largest, many), (smallest, few) = by_size[0], by_size[-1]
    if many >= IMBALANCE_RATIO * few:
        names = split.class_name(largest), split.class_name(smallest)
        text = f'imbalanced classes: {names[0]} has {split.count(many)}, {names[1]} has {few:,}'
        used = [f'class_balance={split.class_balance!r}'] if split.class_balance is not None else []
        used += ['class_weights'] if split.class_weights is not None else []
        if used:
            yield Finding('note', 'balance', split.name, f'{text}; compensated by {" and ".join(used)}')
            return
        hint = "train_dataloader.class_balance='square_root' may help"
        if split.multi_hot is None and len(split.counts) == split.num_classes:
            hint += ", or class_weights='balanced' in model.cls_head.loss, as in configs/custom/imbalanced_videos.py"
        yield Finding('warning', 'balance', split.name, f'{text}; {hint}')


def check_class_names(train: Sequence[Split], other: Split) -> Iterator[Finding]:
    """Look for labels whose class names differ from those in training."""
    try:
        for split in train:
            sources = [
                ClassNames(s.class_names, f'{s.name} ({s.classes_from or "class names"})') for s in (split, other)
            ]
            check_same_class_names(*sources)
    except ValueError as error:
        yield Finding('error', 'labels', other.name, str(error))


def check_unseen_classes(train: Sequence[Split], other: Split) -> Iterator[Finding]:
    """Look for classes of validation or test without training videos."""
    trained = set().union(*(split.counts for split in train))
    unseen = Counter({k: n for k, n in other.counts.items() if trained and k not in trained})
    if unseen:
        text = (
            f'{sum(unseen.values())} of {other.count(len(other.records))} are of classes without training {other.noun}s'
        )
        examples = tuple(f'{other.class_name(k)}: {other.count(n)}' for k, n in sorted(unseen.items()))
        yield Finding('warning', 'balance', other.name, text, examples)

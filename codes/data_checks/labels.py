"""Checks of labels: whether they suit the model, and whether classes can be learned from them."""

from collections import Counter
from collections.abc import Iterator, Sequence

from dsanet.data_checks.report import Finding, count_videos, name_video, number_of
from dsanet.data_checks.splits import Split
from dsanet.datasets.annotation import label_hint
from dsanet.datasets.classes import compare_class_names

UNEQUAL = 10  # so many times larger than the smallest is the largest class before it is worth a warning


def check_labels(split: Split) -> Iterator[Finding]:
    """Compare labels with the classes of the model, of the class file and of the pipeline."""
    counts = split.counts
    num_classes = split.num_classes
    if split.multi_hot is None:
        several = [f'{name_video(record)}: {record.labels}' for record in split.records if len(record.labels) > 1]
        if several:
            text = (
                f'{count_videos(several)} with several labels; a dataset takes them with multi_hot=<number of classes>'
            )
            yield Finding('error', 'labels', split.name, text, tuple(several))
    if num_classes is None or not counts:
        return
    if split.multi_hot not in (None, num_classes):
        text = f'multi_hot={split.multi_hot} is the number of classes, but the model has num_classes={num_classes}'
        yield Finding('error', 'labels', split.name, text)
    if max(counts) >= num_classes:
        wrong = [record for record in split.records if max(record.labels) >= num_classes]
        is_named = split.class_names is not None and len(split.class_names) == num_classes
        hint = label_hint('num_classes', num_classes, min(counts), max(counts), 'the class file' if is_named else None)
        text = (
            f'{count_videos(wrong)} with a label that the model lacks: num_classes={num_classes} allows 0 to '
            f'{num_classes - 1}, the largest label is {max(counts)}{hint}'
        )
        examples = tuple(f'{name_video(record)}: {record.labels}' for record in wrong)
        yield Finding('error', 'labels', split.name, text, examples)
    if split.class_names is not None and len(split.class_names) != num_classes:
        text = f'there are {len(split.class_names)} class names, but the model has num_classes={num_classes}'
        yield Finding('error', 'labels', split.name, text)
    named = max((max(step.classes, default=0) for step in split.steps), default=0)
    if named >= num_classes:
        text = f'a step of the pipeline is about class {named}, but num_classes={num_classes}'
        yield Finding('error', 'labels', split.name, text)


def check_balance(split: Split) -> Iterator[Finding]:
    """Look for classes without training videos, and for very unequal ones.

    Args:
        split: all that is trained on.
    """
    counts = split.counts
    if not counts:
        return
    if len(counts) == 1 and split.multi_hot is None and (split.num_classes or 2) > 1:
        text = f'all videos have one label, {split.class_name(next(iter(counts)))}: there is nothing to tell apart'
        yield Finding('error', 'balance', split.name, text)
        return
    lacking = [label for label in range(split.num_classes or 0) if label not in counts]
    if lacking:
        text = f'{len(lacking)} of {split.num_classes} classes have no video, so they cannot be learned'
        yield Finding('warning', 'balance', split.name, text, tuple(map(split.class_name, lacking)))
    if lacking == [0] and len(counts) > 1:
        # Labels from 1 on, with a class too many in the config, would train without a word.
        text = (
            f'no video has label 0: if labels were counted from 1, subtract 1 from each and set '
            f'num_classes={len(counts)}'
        )
        yield Finding('warning', 'labels', split.name, text)
    yield from _check_sizes(split)


def _check_sizes(split: Split) -> Iterator[Finding]:
    """Compare the largest class with the smallest."""
    by_size = split.counts.most_common()
    (largest, many), (smallest, few) = by_size[0], by_size[-1]
    if many >= UNEQUAL * few:
        names = split.class_name(largest), split.class_name(smallest)
        text = f'classes are unequal: {names[0]} has {many:,} videos, {names[1]} {few:,}'
        if split.class_balance is None:
            hint = "train_dataloader.class_balance='square_root' or a loss with class weights can help"
            yield Finding('warning', 'balance', split.name, f'{text}; {hint} (configs/custom/imbalanced_videos.py)')
        else:
            yield Finding(
                'note', 'balance', split.name, f'{text}; class_balance={split.class_balance!r} evens that out'
            )


def check_class_names(train: Sequence[Split], other: Split) -> Iterator[Finding]:
    """Look for labels that mean other classes in training."""
    try:
        for split in train:
            compare_class_names(split.class_names, split.name, other.class_names, other.name)
    except ValueError as error:
        yield Finding('error', 'labels', other.name, str(error))


def check_classes_of(train: Sequence[Split], other: Split) -> Iterator[Finding]:
    """Look for classes that are validated or tested but not trained."""
    known = set().union(*(split.counts for split in train))
    unknown = Counter({k: n for k, n in other.counts.items() if known and k not in known})
    if unknown:
        text = f'{sum(unknown.values())} of {len(other.records)} videos are of classes that no training video has'
        examples = tuple(f'{other.class_name(k)}: {number_of(n, "video")}' for k, n in sorted(unknown.items()))
        yield Finding('warning', 'balance', other.name, text, examples)

"""Is a data set fit to train on: checks of records, and of what was found in their files.

The checks are pure functions: records (and, for the full form, facts about files from ``inspection.py``) go in,
findings come out. A finding is an *error* if a run would end in it or be pointless, a *warning* if it would be worse
than it could, and a *note* if it is only good to know.

The quick form opens no file. It looks for files until its time is up, in an order that spreads over the whole list,
and says how many it looked for. Only of those it knows which are one file under two names; the full form looks for all.
"""

import inspect
import logging
import os
import re
import stat
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codes.datasets.annotation import VideoRecord, choose_classes, parse_list_file, read_class_names
from codes.datasets.inspection import FileFacts, Identity, Job
from codes.datasets.loader import build_dataloader
from codes.datasets.transforms.base import Transform
from codes.datasets.transforms.decoding import OpenVideo
from codes.datasets.transforms.sampling import SampleSegments, SampleSnippets
from codes.datasets.video_datasets import RawFramesDataset
from codes.registry import DATASETS, TRANSFORMS, build, find_class

LOGGER = logging.getLogger(__name__)
LEVELS = ('error', 'warning', 'note')

SHOWN = 5  # examples in the text of a finding; the JSON file has all
MOST_WRONG_LINES = 100  # of a list, before it is taken for no list at all
UNEQUAL = 10  # so many times larger than the smallest is the largest class before it is worth a warning
LONG_FRAMES = 2.5  # width / height, or the other way round, beyond which a centre crop sees little of a frame


@dataclass(frozen=True)
class Finding:
    """One thing that a check has to say.

    Args:
        level: 'error', 'warning' or 'note'.
        check: what was checked, such as 'labels'.
        split: such as 'train'; 'train and val' if it is about both.
        text: one sentence.
        examples: each thing that it is about, where there are such things.
    """

    level: str
    check: str
    split: str
    text: str
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = len(self.examples) - SHOWN
        lines = [f'{self.split}: {self.text}', *(f'    {example}' for example in self.examples[:SHOWN])]
        return '\n'.join([*lines, *([f'    and {more} more'] if more > 0 else [])])


@dataclass(frozen=True)
class Split:
    """What the checks need to know of a data set.

    Args:
        name: 'train', 'val' or 'test'; of the parts of a mixed data set 'train.0', 'train.1', ...
        records: its videos.
        num_classes: classes of the model; None if they are not known.
        class_names: names by label; None if they are not known.
        multi_hot: as of the data set.
        steps: of its pipeline.
        filename_tmpl: how frames are called; None for video files.
        start_index: number of the first frame.
        max_bad_share: share of the videos that may be unreadable; 0 if the first one ends the run.
        sampling: what training takes equally often, as of the loader.
        findings: what was found when the list was read.
    """

    name: str
    records: Sequence[VideoRecord]
    num_classes: int | None = None
    class_names: Sequence[str] | None = None
    multi_hot: int | None = None
    steps: Sequence[Transform] = ()
    filename_tmpl: str | None = None
    start_index: int = 1
    max_bad_share: float = 0.0
    sampling: str = 'uniform'
    findings: tuple[Finding, ...] = ()

    @property
    def is_training(self) -> bool:
        return self.name.split('.')[0] == 'train'

    @property
    def needed_frames(self) -> int:
        """Frames that a video needs so that no snippet or frame is looked at twice; 0 if the pipeline does not say."""
        for step in self.steps:
            if isinstance(step, SampleSnippets):
                # So many frames have a start for each snippet.
                snippets = step.num_snippets * step.num_groups
                return step.frames_per_snippet * step.frame_interval + snippets - 1
            if isinstance(step, SampleSegments):
                return step.frames_per_snippet * step.num_snippets * step.num_groups
        return 0

    @property
    def short_side(self) -> int:
        """Pixels that frames are resized to; smaller ones are enlarged. 0 if the pipeline does not say."""
        sides = [side for step in self.steps if isinstance(side := getattr(step, 'short_side', None), int)]
        sizes = [min(size) for step in self.steps if isinstance(size := getattr(step, 'size', None), tuple)]
        return max([*sides, *sizes], default=0)

    @property
    def decoder(self) -> str | None:
        """How video files are opened; None for frames."""
        return next((step.decoder for step in self.steps if isinstance(step, OpenVideo)), None)

    def job_of(self, record: VideoRecord, every_frame: bool = False, digest: bool = False) -> Job:
        """Return what is to be asked about a video; the facts about it are kept by this."""
        if self.filename_tmpl is None:
            return Job(record.path, self.decoder, every_frame=every_frame, digest=digest)
        return Job(record.path, None, record.num_frames, self.filename_tmpl, self.start_index, every_frame, digest)

    @cached_property
    def keys(self) -> list[str]:
        """The records' paths, such that equal files have equal ones."""
        here = os.getcwd()
        return [_absolute(record.path, here) for record in self.records]

    @cached_property
    def counts(self) -> Counter[int]:
        """Number of videos by label."""
        return Counter(label for record in self.records for label in record.labels)

    def class_name(self, label: int) -> str:
        """Return a label for people: its name, if it has one, and its number."""
        if self.class_names is not None and 0 <= label < len(self.class_names):
            return f'{self.class_names[label]!r} ({label})'
        return f'class {label}'


@dataclass(frozen=True)
class Looked:
    """What the file system says of a split's files, without opening any.

    Args:
        num_videos: how many were looked for.
        bad: what is missing or empty.
        identities: by place in the list, device and number of the file, or of a folder's first frame. Paths that links,
            symbolic or hard, lead to the same file have the same.
    """

    num_videos: int
    bad: Sequence[FileFacts]
    identities: Mapping[int, Identity]


@dataclass
class Report:
    """What all checks together say.

    Args:
        splits: numbers by split, for people and JSON.
        findings: sorted, errors first.
        form: 'quick' or 'full'.
        notes: how thorough the checks were.
    """

    form: str
    splits: dict[str, dict[str, Any]]
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    def of_level(self, level: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == level]

    @property
    def is_fit(self) -> bool:
        """Whether there is no error."""
        return not self.of_level('error')

    @property
    def verdict(self) -> str:
        counts = [(level, len(self.of_level(level))) for level in LEVELS]
        said = ', '.join(f'{n} {level}{"s" * (n != 1)}' for level, n in counts if n)
        return f'{"fit" if self.is_fit else "NOT fit"} to train{f": {said}" if said else ""}'

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON, with every example."""
        findings = [asdict(finding) for finding in self.findings]
        return {
            'form': self.form,
            'fit': self.is_fit,
            'splits': self.splits,
            'findings': findings,
            'notes': self.notes,
        }

    def text(self) -> str:
        """Return the report for a terminal."""
        lines = [f'{self.verdict} ({self.form} form)', '']
        lines += [f'{name:<8}{describe(numbers)}' for name, numbers in self.splits.items()]
        lines += [f'{"":<8}{note}' for note in self.notes]
        for level in LEVELS:
            found = self.of_level(level)
            if found:
                lines += ['', f'{level}s']
                lines += [f'  {line}' for finding in found for line in f'{finding}'.splitlines()]
        return printable('\n'.join(lines))


def printable(text: str) -> str:
    """Return a text that every terminal, file and picture takes: names of files need not be UTF-8."""
    return text.encode('utf-8', 'backslashreplace').decode()


def describe(numbers: Mapping[str, Any]) -> str:
    """Return the numbers of a split in a line."""
    text = (
        f'{numbers["videos"]:,} videos of {numbers["classes"]} classes, {_span(*numbers["videos_per_class"])} a class'
    )
    if 'frames' in numbers:
        low, high, median = numbers['frames']
        text += f', {_span(low, high)} frames (median {median:,})'
    if 'seconds' in numbers:
        text += ', {:.1f} to {:.1f} s (median {:.1f})'.format(*numbers['seconds'])
    return f'{text}, decoder {numbers["decoder"]}' if 'decoder' in numbers else text


def _span(low: int, high: int) -> str:
    return f'{low:,}' if low == high else f'{low:,} to {high:,}'


# -- what is checked ---------------------------------------------------------------------------------------------------


def splits_of(
    name: str,
    dataset: Any,
    num_classes: int | None,
    sampling: str = 'uniform',
    max_bad_share: float | None = None,
) -> list[Split]:
    """Return what the checks need of a data set that is built: one split, or one a part of a mixed data set.

    Args:
        name: 'train', 'val' or 'test'.
        dataset: the data set, as ``build_dataloader`` left it.
        num_classes: classes of the model.
        sampling: what training takes equally often.
        max_bad_share: of the mixed data set that this one is a part of; None for the data set's own.
    """
    if max_bad_share is None:
        resamples = getattr(dataset, 'on_error', 'raise') == 'resample'
        max_bad_share = dataset.max_bad_share if resamples else 0.0
    if hasattr(dataset, 'datasets'):
        parts = enumerate(dataset.datasets)
        return [s for i, part in parts for s in splits_of(f'{name}.{i}', part, num_classes, sampling, max_bad_share)]
    return [
        Split(
            name,
            dataset.records,
            num_classes,
            dataset.class_names,
            dataset.multi_hot,
            dataset.pipeline.transforms,
            getattr(dataset, 'filename_tmpl', None),
            getattr(dataset, 'start_index', 1),
            max_bad_share,
            sampling,
        )
    ]


def read_split(section_name: str, section: Mapping[str, Any], num_classes: int | None) -> list[Split]:
    """Build a config's data set and return what the checks need of it; if its list cannot be read, what is left.

    Args:
        section_name: such as 'train_dataloader'.
        section: that section of the config.
        num_classes: classes of the model.

    Raises:
        KeyError, ValueError: the pipeline or another argument is wrong, which has nothing to do with the data.
    """
    name = section_name.split('_')[0]
    path = f'{section_name}.dataset'
    on_error = section.get('on_error') or ('resample' if name == 'train' else 'raise')  # as build_dataloader decides
    usual = inspect.signature(build_dataloader).parameters['max_bad_share'].default
    share = section.get('max_bad_share', usual) if on_error == 'resample' else 0.0
    sampling = section.get('sampling', 'uniform')
    try:
        dataset = build(section['dataset'], DATASETS, path)
    except (FileNotFoundError, ValueError) as error:
        return _read_apart(name, section['dataset'], path, num_classes, sampling, share, str(error))
    return splits_of(name, dataset, num_classes, sampling, share)


def _read_apart(
    name: str,
    cfg: Mapping[str, Any],
    path: str,
    num_classes: int | None,
    sampling: str,
    max_bad_share: float,
    reason: str,
) -> list[Split]:
    """Return as much as can be read of a data set that cannot be built for some ``reason``."""
    if 'datasets' in cfg:
        splits = []
        for i, part in enumerate(cfg['datasets']):
            where = f'{path}.datasets.{i}'
            try:
                dataset = build(part, DATASETS, where)
                splits += splits_of(f'{name}.{i}', dataset, num_classes, sampling, max_bad_share)
            except (FileNotFoundError, ValueError) as error:
                splits += _read_apart(f'{name}.{i}', part, where, num_classes, sampling, max_bad_share, str(error))
        return splits
    steps = [build(step, TRANSFORMS, f'{path}.pipeline.{i}') for i, step in enumerate(cfg['pipeline'])]
    of_frames = find_class(cfg, DATASETS, path) is RawFramesDataset
    records: list[VideoRecord] = []
    findings: list[Finding] = []
    if cfg.get('list_file') is not None and os.path.isfile(cfg['list_file']):
        records, findings = read_whole_list(name, cfg['list_file'], cfg.get('data_root'), of_frames)
    class_names = None
    if cfg.get('class_file') is not None:
        with suppress(FileNotFoundError, ValueError):  # then that is the reason, unless the list is wrong too
            class_names = read_class_names(cfg['class_file'])
    if cfg.get('classes') is not None:
        try:
            records, class_names = choose_classes(records, class_names, cfg['classes']) if records else ([], None)
        except ValueError as error:  # the other checks would be about other classes
            records, class_names = [], None
            findings = [*findings, Finding('error', 'list', name, str(error))]
    return [
        Split(
            name,
            records,
            num_classes,
            class_names,
            multi_hot=cfg.get('multi_hot'),
            steps=steps,
            filename_tmpl=cfg.get('filename_tmpl', 'img_{:05d}.jpg') if of_frames else None,
            start_index=cfg.get('start_index', 1),
            max_bad_share=max_bad_share,
            sampling=sampling,
            findings=tuple(findings) or (Finding('error', 'list', name, reason),),
        )
    ]


def read_whole_list(
    split: str, list_file: str, data_root: str | None, with_num_frames: bool
) -> tuple[list[VideoRecord], list[Finding]]:
    """Read a list in spite of wrong lines, and name all of them where the data set names the first.

    The parser is the data set's own, so both call the same lines wrong: those that it refuses are blanked in a copy,
    which has its line numbers, until it is content.

    Returns:
        The records of the right lines, none if there are too many wrong ones; and an error if there are any.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, or the copy not be written.
    """
    wrong: list[str] = []
    lines: list[bytes] | None = None
    records: list[VideoRecord] = []
    file = list_file
    with tempfile.TemporaryDirectory() as folder:
        while True:
            try:
                records = parse_list_file(file, data_root, with_num_frames)
                break
            except ValueError as error:
                text = str(error).replace(file, list_file)
                match = re.match(re.escape(list_file) + r':(\d+): ', text)
                if match is None:  # the list as a whole is wrong, such as one without any right line
                    wrong += [] if wrong else [text]
                    break
                wrong.append(text)
                if len(wrong) == MOST_WRONG_LINES:
                    wrong.append(f'{list_file}: the lines behind were not read')
                    break
                lines = Path(list_file).read_bytes().splitlines() if lines is None else lines
                lines[int(match[1]) - 1] = b''
                file = os.path.join(folder, 'list.txt')
                Path(file).write_bytes(b'\n'.join(lines))
    if file != list_file:
        records = [replace(record, list_file=list_file) for record in records]
    if not wrong:
        return records, []
    number = len([text for text in wrong if re.match(re.escape(list_file) + r':\d+: ', text)])
    count = f'{number} wrong line{"s" * (number != 1)}' if number else 'it is no list of videos'
    return records, [Finding('error', 'list', split, f'{list_file}: {count}', tuple(wrong))]


# -- checks of records -------------------------------------------------------------------------------------------------


def check_labels(split: Split) -> Iterator[Finding]:
    """Compare labels with the classes of the model, of the class file and of the pipeline."""
    counts = split.counts
    num_classes = split.num_classes
    if split.multi_hot is None:
        several = [f'{_where(record)}: {record.labels}' for record in split.records if len(record.labels) > 1]
        if several:
            text = f'{_videos(several)} with several labels; a data set takes them with multi_hot=<number of classes>'
            yield Finding('error', 'labels', split.name, text, tuple(several))
    if num_classes is None or not counts:
        return
    if split.multi_hot not in (None, num_classes):
        text = f'multi_hot={split.multi_hot} is the number of classes, but the model has num_classes={num_classes}'
        yield Finding('error', 'labels', split.name, text)
    if max(counts) >= num_classes:
        wrong = [record for record in split.records if max(record.labels) >= num_classes]
        text = (
            f'{_videos(wrong)} with a label that the model lacks: num_classes={num_classes} allows 0 to '
            f'{num_classes - 1}, the largest label is {max(counts)}{_label_hint(counts, num_classes)}'
        )
        yield Finding('error', 'labels', split.name, text, tuple(f'{_where(r)}: {r.labels}' for r in wrong))
    if split.class_names is not None and len(split.class_names) != num_classes:
        text = f'there are {len(split.class_names)} class names, but the model has num_classes={num_classes}'
        yield Finding('error', 'labels', split.name, text)
    named = max((max(step.classes, default=0) for step in split.steps), default=0)
    if named >= num_classes:
        text = f'a step of the pipeline is about class {named}, but num_classes={num_classes}'
        yield Finding('error', 'labels', split.name, text)


def _label_hint(counts: Mapping[int, int], num_classes: int) -> str:
    if min(counts) == 1 and max(counts) == num_classes:
        return '. No label is 0 and the largest is num_classes: they look counted from 1; subtract 1 from each'
    return f'. Is num_classes={max(counts) + 1} meant?'


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
        text = f'{len(lacking)} of {split.num_classes} classes have no video, so they cannot be learnt'
        yield Finding('warning', 'balance', split.name, text, tuple(map(split.class_name, lacking)))
    if lacking == [0] and len(counts) > 1:
        # Labels from 1 on, with a class too many in the config, would train without a word.
        text = (
            f'no video has label 0: if labels were counted from 1, subtract 1 from each and set '
            f'num_classes={len(counts)}'
        )
        yield Finding('warning', 'labels', split.name, text)
    (largest, many), (smallest, few) = counts.most_common()[0], counts.most_common()[-1]
    if many >= UNEQUAL * few:
        names = split.class_name(largest), split.class_name(smallest)
        text = f'classes are unequal: {names[0]} has {many:,} videos, {names[1]} {few:,}'
        if split.sampling == 'uniform':
            hint = "train_dataloader.sampling='square_root' or a loss with class weights can help"
            yield Finding('warning', 'balance', split.name, f'{text}; {hint} (configs/custom/imbalanced_videos.py)')
        else:
            yield Finding('note', 'balance', split.name, f'{text}; sampling={split.sampling!r} evens that out')


def check_repeats(split: Split) -> Iterator[Finding]:
    """Look for videos that a list names more than once."""
    if len(set(split.keys)) == len(split.keys):
        return
    by_path: dict[str, list[VideoRecord]] = defaultdict(list)
    for key, record in zip(split.keys, split.records, strict=True):
        by_path[key].append(record)
    yield from _repeats(split, by_path, 'duplicates', 'listed more than once')


def _repeats(split: Split, groups: Mapping[str, list[VideoRecord]], check: str, what: str) -> Iterator[Finding]:
    """Tell groups of one video that agree about its labels from those that do not."""
    several = [group for group in groups.values() if len(group) > 1]
    contradicting = [group for group in several if len({frozenset(record.labels) for record in group}) > 1]
    for level, chosen, text in (
        ('warning', contradicting, f'{what}, with different labels'),
        ('warning', [group for group in several if group not in contradicting], what),
    ):
        if chosen:
            examples = tuple(
                ', '.join(f'{record.source} (label {_labels(record)})' for record in group) + f': {group[0].path}'
                for group in chosen
            )
            yield Finding(level, check, split.name, f'{_videos(chosen)} {text}', examples)


def check_overlap(train: Split, other: Split) -> Iterator[Finding]:
    """Look for training videos among those of validation or test, by path; they would be judged too well."""
    trained = dict(zip(train.keys, train.records, strict=True))
    both = [(record, trained[key]) for key, record in zip(other.keys, other.records, strict=True) if key in trained]
    yield from _overlap(train, other, both, 'overlap')


def check_links(train: Split, other: Split, identities: Mapping[str, Mapping[int, Identity]]) -> Iterator[Finding]:
    """Look for training videos among those of validation or test that links, or linked folders, give another path.

    Args:
        train, other: the splits.
        identities: of their files, as of :class:`Looked`, by name of the split. A pair of which one lacks is not found.
    """
    both = [(other.records[i], train.records[j]) for i, j in _linked(train, other, identities)]
    yield from _overlap(train, other, both, 'links')


def _linked(train: Split, other: Split, identities: Mapping[str, Mapping[int, Identity]]) -> list[tuple[int, int]]:
    """Return the places in both lists of files that are the same, but not by path."""
    paths = set(train.keys)
    trained = {identity: place for place, identity in identities[train.name].items()}
    found = sorted(identities[other.name].items())
    return [(i, trained[identity]) for i, identity in found if identity in trained and other.keys[i] not in paths]


def _overlap(
    train: Split, other: Split, both: Sequence[tuple[VideoRecord, VideoRecord]], check: str
) -> Iterator[Finding]:
    if both:
        share = 100 * len(both) / len(other.records)
        same = {'same_content': ' with the same content', 'links': ' under another path (a link)'}.get(check, '')
        text = (
            f'{len(both)} of {len(other.records)} videos ({share:.3g} %) are also trained on{same}, which makes the '
            'accuracy look better than it is'
        )
        examples = tuple(
            f'{a.source} and {b.source}: {a.path}{f" is {b.path}" if check == "links" else ""}' for a, b in both
        )
        yield Finding('warning', check, f'{train.name} and {other.name}', text, examples)


def check_classes_of(train: Sequence[Split], other: Split) -> Iterator[Finding]:
    """Look for classes that are validated or tested but not trained."""
    known = set().union(*(split.counts for split in train))
    unknown = Counter({k: n for k, n in other.counts.items() if known and k not in known})
    if unknown:
        text = f'{sum(unknown.values())} of {len(other.records)} videos are of classes that no training video has'
        examples = tuple(f'{other.class_name(k)}: {n} videos' for k, n in sorted(unknown.items()))
        yield Finding('warning', 'balance', other.name, text, examples)


def check_lengths(split: Split, lengths: Sequence[tuple[VideoRecord, int]]) -> Iterator[Finding]:
    """Look for videos with fewer frames than are looked at.

    Args:
        split: whose ``needed_frames`` count.
        lengths: videos of it and their frames, as far as they are known.
    """
    short = [(record, n) for record, n in lengths if n < split.needed_frames]
    if short:
        text = (
            f'{len(short)} of {len(lengths)} videos have fewer than the {split.needed_frames} frames that it takes for '
            'snippets to differ, so snippets or frames repeat; a smaller frame_interval would suit them'
        )
        examples = tuple(f'{_where(record)}: {n} frames' for record, n in sorted(short, key=lambda pair: pair[1]))
        yield Finding('warning' if 10 * len(short) > len(lengths) else 'note', 'length', split.name, text, examples)


# -- files -------------------------------------------------------------------------------------------------------------


def spread_order(length: int) -> npt.NDArray[np.int64]:
    """Return the numbers 0 to ``length - 1`` in an order of which each beginning is spread over all of them.

    Steps of the golden ratio, around and around: no seed, and the same for everyone.
    """
    return np.argsort(np.arange(length) * 0.6180339887498949 % 1, kind='stable')


def look_for_files(split: Split, seconds: float | None) -> Looked:
    """Ask the file system for the files of a split, without opening any.

    Of a folder of frames the first and the last frame are looked for.

    Args:
        split: whose files.
        seconds: stop after so long; at least 20 files are looked for. None to look for all.
    """
    bad = []
    identities: dict[int, tuple[int, int]] = {}
    num_videos = 0
    started = time.monotonic()
    for place in spread_order(len(split.records)).tolist():
        if seconds is not None and num_videos >= 20 and time.monotonic() - started > seconds:
            break
        num_videos += 1
        record = split.records[place]
        identity, error = find_file(record, split.filename_tmpl, split.start_index)
        if identity is not None:
            identities[place] = identity
        if error is not None:
            bad.append(FileFacts(record.path, error=error, kind='missing'))
    return Looked(num_videos, bad, identities)


def find_file(
    record: VideoRecord, filename_tmpl: str | None = None, start_index: int = 1
) -> tuple[tuple[int, int] | None, str | None]:
    """Look for a video's file, or for the first and the last frame of its folder.

    Returns:
        Device and number of the (first) file, None if it is not there; and why the video cannot be read, as far as the
        file system knows, None if nothing speaks against it.
    """
    if filename_tmpl is None:
        files = [record.path]
    else:
        last = start_index + (record.num_frames or 1) - 1
        files = [os.path.join(record.path, filename_tmpl.format(number)) for number in (start_index, last)]
    identity = None
    for file in files:
        try:
            found = os.stat(file)
        except OSError as error:
            return identity, f'{file}: {error.strerror}'
        if stat.S_ISDIR(found.st_mode):
            return identity, f'{file}: a folder, where a file was expected'
        if identity is None and found.st_ino:  # some network drives do not number their files
            identity = found.st_dev, found.st_ino
        if found.st_size == 0:
            return identity, f'{file}: empty file'
    return identity, None


def check_files(split: Split, bad: Sequence[FileFacts], looked: int) -> Iterator[Finding]:
    """Judge files that cannot be read.

    Args:
        split: whose ``max_bad_share`` counts.
        bad: what cannot be read.
        looked: of how many videos this is.
    """
    if not bad:
        return
    records = {record.path: record for record in split.records}
    for kind, what in (
        ('missing', 'are missing or empty'),
        ('unreadable', 'cannot be read'),
        ('hung', 'took longer to read than the time limit'),
        ('crashed', 'made the decoder crash'),
    ):
        chosen = sorted((facts for facts in bad if facts.kind == kind), key=lambda facts: facts.path)
        if not chosen:
            continue
        is_too_much = len(bad) > split.max_bad_share * looked
        text = f'{len(chosen)} of {looked:,} videos {what}'
        if kind == 'missing' and len(chosen) == looked:
            text = f'none of the {looked:,} videos looked for is there; is data_root right?'
        elif not is_too_much:
            text += '; training takes others instead'
        elif split.max_bad_share:
            text += f'; that is too much for max_bad_share={split.max_bad_share:g}'
        else:
            text += ', which ends a run'
        level = 'error' if is_too_much else 'warning'
        examples = tuple(f'{records[facts.path].source}: {facts.error}' for facts in chosen)
        yield Finding(level, f'files_{kind}', split.name, text, examples)


def check_facts(split: Split, facts: Mapping[Job, FileFacts]) -> Iterator[Finding]:
    """Judge what was found in the files of a split.

    Args:
        split: whose files.
        facts: of all of them, by ``split.job_of``.
    """
    found = [facts[split.job_of(record)] for record in split.records]
    yield from check_files(split, [one for one in found if one.kind != 'ok'], len(found))
    good = [(record, one) for record, one in zip(split.records, found, strict=True) if one.kind == 'ok']
    odd = [(record, one) for record, one in good if one.warning]
    if odd:
        text = f'{len(odd)} of {len(found)} videos can be read, but something is wrong with them'
        examples = tuple(f'{_where(record)}: {one.warning}' for record, one in odd)
        yield Finding('warning', 'files_odd', split.name, text, examples)
    yield from check_lengths(split, [(record, one.num_frames) for record, one in good])
    yield from _check_resolutions(split, good)
    by_content: dict[str, list[VideoRecord]] = defaultdict(list)
    for record, one in {record.path: (record, one) for record, one in good}.values():  # each path once
        by_content[one.digest or record.path].append(record)
    if any(len(group) > 1 for group in by_content.values()):
        yield from _repeats(split, by_content, 'same_content', 'that is there again under another name')


def _check_resolutions(split: Split, good: Sequence[tuple[VideoRecord, FileFacts]]) -> Iterator[Finding]:
    """Look for frames that are enlarged, hardly seen by a crop, or turned differently from the others."""
    side = split.short_side
    small = [(record, one) for record, one in good if min(one.height, one.width) < side]
    if small:
        worst = min(min(one.height, one.width) for _, one in small)
        text = f'{len(small)} of {len(good)} videos are smaller than the {side} pixels that they are enlarged to'
        examples = tuple(f'{_where(record)}: {one.width}x{one.height}' for record, one in small)
        yield Finding('warning' if 2 * worst < side else 'note', 'resolution', split.name, text, examples)
    long = [
        (record, one) for record, one in good if max(one.height, one.width) > LONG_FRAMES * min(one.height, one.width)
    ]
    if long:
        text = f'{len(long)} of {len(good)} videos are so long or so high that a centre crop sees little of them'
        examples = tuple(f'{_where(record)}: {one.width}x{one.height}' for record, one in long)
        yield Finding('warning', 'resolution', split.name, text, examples)
    upright = [(record, one) for record, one in good if one.height > one.width]
    if 0 < len(upright) < len(good):
        text = f'{len(upright)} of {len(good)} videos are upright, the others are not'
        rare = upright if 2 * len(upright) <= len(good) else [pair for pair in good if pair[1].height <= pair[1].width]
        examples = tuple(f'{_where(record)}: {one.width}x{one.height}' for record, one in rare)
        yield Finding('note', 'resolution', split.name, text, examples)


def check_same_content(
    train: Split,
    other: Split,
    facts: Mapping[Job, FileFacts],
    identities: Mapping[str, Mapping[int, Identity]],
) -> Iterator[Finding]:
    """Look for training videos among those of validation or test by what is in the files, not by name.

    Args:
        train, other: the splits.
        facts: of their files, by ``Split.job_of``.
        identities: as of :func:`check_links`; what that finds is left to it.
    """
    trained = {facts[train.job_of(record)].digest or '': record for record in train.records}
    trained.pop('', None)
    paths = set(train.keys)
    linked = {place for place, _ in _linked(train, other, identities)}
    both = [
        (record, trained[digest])
        for place, (key, record) in enumerate(zip(other.keys, other.records, strict=True))
        if key not in paths
        and place not in linked
        and (digest := facts[other.job_of(record)].digest) in trained
        and digest is not None
    ]
    yield from _overlap(train, other, both, 'same_content')


# -- all together ------------------------------------------------------------------------------------------------------


def quick_report(splits: Sequence[Split], seconds: float | None = 1.0) -> Report:
    """Check everything that can be told without opening a file.

    Args:
        splits: training, validation and test.
        seconds: how long to look for files, all splits together; None to look for all of them.

    Returns:
        The report; a finding that two splits share, such as a list that validation and test have in common, once.
    """
    findings = _check_records(splits)
    notes = []
    identities = {}
    for split in splits:
        findings += check_lengths(split, [(r, r.num_frames) for r in split.records if r.num_frames is not None])
        of_split = look_for_files(split, None if seconds is None else seconds / len(splits))
        identities[split.name] = of_split.identities
        findings += check_files(split, of_split.bad, of_split.num_videos)
        if of_split.num_videos < len(split.records):
            share = f'{of_split.num_videos:,} of {len(split.records):,}'
            notes.append(f'{split.name}: {share} videos were looked for, spread over the list; none was opened')
    for train, other in _pairs(splits):
        findings += check_links(train, other, identities)
    return Report('quick', _numbers(splits), _sorted(findings), notes)


def full_report(
    splits: Sequence[Split], facts: Mapping[Job, FileFacts], identities: Mapping[Job, Identity] | None = None
) -> Report:
    """Check records and files.

    Args:
        splits: training, validation and test.
        facts: of every file of theirs, by ``Split.job_of``, from ``inspection.Inspection``.
        identities: of the files, from there; None for not knowing which paths links make the same.
    """
    findings = _check_records(splits)
    for split in splits:
        findings += check_facts(split, facts)
    by_split = {split.name: _by_place(split, identities or {}) for split in splits}
    for train, other in _pairs(splits):
        findings += [*check_links(train, other, by_split), *check_same_content(train, other, facts, by_split)]
    return Report('full', _numbers(splits, facts), _sorted(findings))


def _by_place(split: Split, identities: Mapping[Job, Identity]) -> dict[int, Identity]:
    """Return identities by place in a split's list."""
    jobs = map(split.job_of, split.records)
    return {place: identities[job] for place, job in enumerate(jobs) if job in identities}


def announce(report: Report) -> None:
    """Log what the quick form found, a line a finding.

    Raises:
        ValueError: there are errors; names the first ones.
    """
    for name, numbers in report.splits.items():
        LOGGER.info('%s: %s', name, describe(numbers))
    for finding in report.of_level('warning'):
        example = f', such as {finding.examples[0]}' if finding.examples else ''
        LOGGER.warning('%s: %s', finding.split, printable(finding.text + example))
    errors = report.of_level('error')
    if errors:
        text = printable('\n'.join(str(finding) for finding in errors))
        raise ValueError(f'the data are not fit to train on; --no-check trains nevertheless\n{text}')


def _pairs(splits: Sequence[Split]) -> Iterator[tuple[Split, Split]]:
    """Yield each training split with each of the others."""
    return ((a, b) for a in splits if a.is_training for b in splits if not b.is_training)


def _check_records(splits: Sequence[Split]) -> list[Finding]:
    findings = [finding for split in splits for finding in split.findings]
    for split in splits:
        findings += [*check_labels(split), *check_repeats(split)]
        if not split.is_training:
            findings += check_classes_of([s for s in splits if s.is_training], split)
    training = [split for split in splits if split.is_training]
    if training:
        # The parts of a mixture are trained on together.
        records = [record for split in training for record in split.records]
        findings += check_balance(
            training[0] if len(training) == 1 else replace(training[0], name='train', records=records)
        )
    for train, other in _pairs(splits):
        findings += check_overlap(train, other)
    return findings


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first; of validation and test, which often share a list, the same finding about the same things once."""
    seen: dict[tuple[str, str, str, tuple[str, ...]], Finding] = {}
    for finding in findings:
        split = finding.split.replace('test', 'val')
        seen.setdefault((finding.level, split, finding.text, finding.examples), finding)
    return sorted(seen.values(), key=lambda finding: LEVELS.index(finding.level))


def _numbers(splits: Sequence[Split], facts: Mapping[Job, FileFacts] | None = None) -> dict[str, dict[str, Any]]:
    """Return what a report says of each split in numbers."""
    numbers = {}
    for split in splits:
        counts = split.counts
        every = [one for r in split.records if (one := facts.get(split.job_of(r))) is not None] if facts else []
        good = [one for one in every if one.kind == 'ok']
        lengths = [one.num_frames for one in good] or [n for r in split.records if (n := r.num_frames) is not None]
        seconds = [one.num_frames / one.fps for one in good if one.fps]
        of_split: dict[str, Any] = {
            'videos': len(split.records),
            'classes': len(counts),
            'videos_per_class': (min(counts.values(), default=0), max(counts.values(), default=0)),
            'histogram': {str(label): counts[label] for label in sorted(counts)},
        }
        if split.decoder is not None:
            of_split['decoder'] = split.decoder
        if lengths:
            of_split['frames'] = (min(lengths), max(lengths), int(np.median(lengths)))
        if seconds:
            of_split['seconds'] = (min(seconds), max(seconds), float(np.median(seconds)))
        if good:
            of_split['resolutions'] = dict(Counter(f'{one.width}x{one.height}' for one in good).most_common())
            of_split['unreadable'] = len(every) - len(good)
        numbers[split.name] = of_split
    return numbers


def _absolute(path: str, here: str) -> str:
    """Do what ``os.path.abspath`` does; for most paths, of which there are many, in a quarter of the time."""
    if os.sep != '/' or '//' in path or '/.' in path or path.startswith('.') or path.endswith('/'):
        return os.path.abspath(path)
    return path if path.startswith('/') else f'{here}/{path}'


def _videos(chosen: Sequence[Any]) -> str:
    return f'{len(chosen):,} video{"s" * (len(chosen) != 1)}'


def _where(record: VideoRecord) -> str:
    return f'{record.source}: {record.path}'


def _labels(record: VideoRecord) -> str:
    return ','.join(map(str, record.labels))

"""A split of a dataset, the input of the checks."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import cast

import numpy as np
import numpy.typing as npt

from dsanet.data_checks.probe import ProbeTask
from dsanet.data_checks.report import Finding
from dsanet.datasets.records import VideoRecord, VideoRecords
from dsanet.datasets.transforms.base import Transform
from dsanet.datasets.transforms.decoding import OpenVideo
from dsanet.datasets.transforms.sampling import SampleSegments, SampleSnippets
from dsanet.utils.text import count_noun


@dataclass(frozen=True)
class Split:
    """Properties of a dataset that the checks use.

    Args:
        name: 'train', 'val' or 'test'; 'train.0', 'train.1', ... for the parts of a mixed dataset.
        records: its videos; kept as :class:`VideoRecords`.
        num_classes: number of classes of the model; None if unknown.
        class_names: names in the order of the labels; None if unknown.
        multi_hot: see the dataset.
        steps: the transforms of its pipeline.
        data_root: see the dataset.
        filename_tmpl: file names of frames; None for video files.
        start_index: number of the first frame.
        fps: frames per second of folders of frames; None if unknown, or for video files.
        class_weights: see the losses.
        max_bad_share: share of unreadable videos that a run accepts; 0 if the first one ends it.
        class_balance: see ``build_dataloader``.
        batch_size: videos in a batch; 0 if unknown.
        num_workers: data workers on this machine.
        findings: errors of the list file.
        classes_from: source of the class names.
    """

    name: str
    records: Sequence[VideoRecord]
    num_classes: int | None = None
    class_names: Sequence[str] | None = None
    multi_hot: int | None = None
    steps: Sequence[Transform] = ()
    data_root: str | None = None
    filename_tmpl: str | None = None
    start_index: int = 1
    max_bad_share: float = 0.0
    class_balance: str | None = None
    batch_size: int = 0
    num_workers: int = 0
    findings: tuple[Finding, ...] = ()
    classes_from: str | None = None
    fps: float | None = None
    class_weights: Sequence[float] | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'records', VideoRecords.of(self.records))

    @property
    def columns(self) -> VideoRecords:
        """Return the records, as :class:`VideoRecords` also for type checkers."""
        return cast(VideoRecords, self.records)

    @cached_property
    def noun(self) -> str:
        """Return what to call a record: 'sample' if there are spans, because a video can have several, or 'video'."""
        return 'video' if not self.columns.has_spans else 'sample'

    def count(self, number: int) -> str:
        """Return a number of records for people, such as '2 videos'."""
        return count_noun(number, self.noun)

    @property
    def is_training(self) -> bool:
        return self.name.split('.')[0] == 'train'

    @property
    def needed_frames(self) -> int:
        """Return the number of frames below which snippets or frames repeat; 0 if unknown."""
        for step in self.steps:
            if isinstance(step, SampleSnippets) and step.frame_interval is not None:
                # Each snippet then has a start of its own.
                snippets = step.num_snippets * step.num_groups
                return step.frames_per_snippet * step.frame_interval + snippets - 1
            if isinstance(step, SampleSegments):
                return step.frames_per_snippet * step.num_snippets * step.num_groups
        return 0

    @property
    def needed_seconds(self) -> float:
        """Return the length below which frames repeat, if they are sampled by time; 0 if they are not."""
        spans = (step.span_seconds for step in self.steps if isinstance(step, SampleSnippets))
        return next(spans, None) or 0.0

    @property
    def short_side(self) -> int:
        """Return the size in pixels to which smaller frames are enlarged; 0 if unknown."""
        sides = [side for step in self.steps if isinstance(side := getattr(step, 'short_side', None), int)]
        sizes = [min(size) for step in self.steps if isinstance(size := getattr(step, 'size', None), tuple)]
        return max([*sides, *sizes], default=0)

    @property
    def decoder(self) -> str | None:
        """Return the decoder of video files; None for folders of frames."""
        return next((step.decoder for step in self.steps if isinstance(step, OpenVideo)), None)

    def probe_task(self, record: VideoRecord, every_frame: bool = False, digest: bool = False) -> ProbeTask:
        """Return the inspection job of a video, which is also the key of its result."""
        if self.filename_tmpl is None:
            return ProbeTask(record.path, self.decoder, span=record.span, every_frame=every_frame, digest=digest)
        return ProbeTask(
            record.path,
            None,
            record.num_frames,
            self.filename_tmpl,
            self.start_index,
            every_frame=every_frame,
            digest=digest,
        )

    @cached_property
    def paths(self) -> list[str]:
        """Return the absolute, normalized paths of the records; those of the spans of a file are equal."""
        here = os.getcwd()
        every = (path.decode('utf-8', 'surrogateescape') for chunk in self.columns.paths.chunks() for path in chunk)
        return [os.path.normpath(os.path.join(here, path)) for path in every]

    def path(self, index: int) -> str:
        """Return the entry of ``paths`` of a record."""
        return os.path.normpath(os.path.join(os.getcwd(), self.records[index].path))

    @cached_property
    def path_hashes(self) -> npt.NDArray[np.int64]:
        """Return a number per record; those of equal ``paths`` are equal, and others almost never.

        That takes a tenth of the memory of ``paths``.
        """
        paths = self.columns.paths
        chunks = paths.chunks(os.getcwd())
        if not paths.are_normal():
            chunks = ([os.path.normpath(path) for path in chunk] for chunk in chunks)
        return np.fromiter(map(hash, chain.from_iterable(chunks)), np.int64, len(paths))

    @cached_property
    def counts(self) -> Counter[int]:
        """Return the number of records by label."""
        return self.columns.count_labels()

    def class_name(self, label: int) -> str:
        """Return the name and number of a class, or its number only."""
        if self.class_names is not None and 0 <= label < len(self.class_names):
            return f'{self.class_names[label]!r} ({label})'
        return f'class {label}'

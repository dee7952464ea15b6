"""A split of a dataset, as the checks see it."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from dsanet.data_checks.probe import Job
from dsanet.data_checks.report import Finding
from dsanet.datasets.annotation import VideoRecord
from dsanet.datasets.transforms.base import Transform
from dsanet.datasets.transforms.decoding import OpenVideo
from dsanet.datasets.transforms.sampling import SampleSegments, SampleSnippets


@dataclass(frozen=True)
class Split:
    """What the checks need to know of a dataset.

    Args:
        name: 'train', 'val' or 'test'; of the parts of a mixed dataset 'train.0', 'train.1', ...
        records: its videos.
        num_classes: classes of the model; None if they are not known.
        class_names: names by label; None if they are not known.
        multi_hot: as of the dataset.
        steps: of its pipeline.
        filename_tmpl: how frames are called; None for video files.
        start_index: number of the first frame.
        max_bad_share: share of the videos that may be unreadable; 0 if the first one ends the run.
        class_balance: how training balances the classes, as of the loader.
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
    class_balance: str | None = None
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


def _absolute(path: str, here: str) -> str:
    """Do what ``os.path.abspath`` does; for most paths, of which there are many, in a quarter of the time."""
    if os.sep != '/' or '//' in path or '/.' in path or path.startswith('.') or path.endswith('/'):
        return os.path.abspath(path)
    return path if path.startswith('/') else f'{here}/{path}'

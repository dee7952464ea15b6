"""Mean average precision of segments in time, as in the ActivityNet challenge."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dsanet.utils.json_lines import read_json

TIOU_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)


class TrueSegment(NamedTuple):
    """An annotated segment: class and seconds."""

    label: str
    start: float
    end: float


class FoundSegment(NamedTuple):
    """A predicted segment: class, seconds, and a score by which all segments of the class are ranked."""

    label: str
    start: float
    end: float
    score: float


def read_ground_truth(file: Path) -> dict[str, list[TrueSegment]]:
    """Read segments by name of the video from a JSON file in the format of ActivityNet.

    Raises:
        ValueError: the file has another format, or a segment does not end after its start.
        FileNotFoundError: the file does not exist.
    """
    if not file.is_file():
        raise FileNotFoundError(f'ground truth {file} does not exist')
    videos = read_json(file).get('database')
    if not isinstance(videos, dict):
        raise ValueError(f'{file} must have the videos in an object "database", as in ActivityNet')
    segments: dict[str, list[TrueSegment]] = {}
    for name, video in videos.items():
        segments[name] = []
        try:
            for annotation in video['annotations']:
                start, end = map(float, annotation['segment'])
                segments[name].append(TrueSegment(str(annotation['label']), start, end))
                if not 0 <= start < end:
                    raise ValueError(f'segment [{start:g}, {end:g}] must end after its start')
        except (KeyError, TypeError, ValueError) as error:
            wanted = '{"annotations": [{"label": NAME, "segment": [START, END]}, ...]}'
            raise ValueError(f'{file}: video {name!r} must be {wanted}, got {error!r}') from error
    return segments


def detection_map(
    truth: Mapping[str, Sequence[TrueSegment]],
    found: Mapping[str, Sequence[FoundSegment]],
    thresholds: Sequence[float] = TIOU_THRESHOLDS,
) -> dict[float, float]:
    """Return the mean average precision in percent for each threshold of the temporal IoU.

    The segments of a class in all videos are ranked by score. One is correct if its IoU with an annotated segment of
    the class is at least the threshold, and no better ranked one was assigned to that segment; it is assigned to the
    free one with the largest IoU. The average precision is the area under the interpolated curve of precision over
    recall, and the mean is over the annotated classes.

    Args:
        truth: annotated segments by video.
        found: predicted segments by video; videos that are not in ``truth`` are not allowed.
        thresholds: from 0 to 1.

    Raises:
        ValueError: nothing is annotated, or a video has no annotations.
    """
    labels = sorted({segment.label for segments in truth.values() for segment in segments})
    if not labels:
        raise ValueError('the ground truth has no segments')
    for name in found:
        if name not in truth:
            raise ValueError(f'video {name!r} is not in the ground truth')
    by_label: dict[str, list[tuple[str, FoundSegment]]] = defaultdict(list)
    for name, segments in found.items():
        for segment in segments:
            by_label[segment.label].append((name, segment))
    result = {}
    for threshold in thresholds:
        precisions = []
        for label in labels:
            wanted = {name: [s for s in segments if s.label == label] for name, segments in truth.items()}
            precisions.append(_average_precision(wanted, by_label[label], threshold))
        result[threshold] = 100 * float(np.mean(precisions))
    return result


def _average_precision(
    truth: Mapping[str, Sequence[TrueSegment]], found: Sequence[tuple[str, FoundSegment]], threshold: float
) -> float:
    ranked = sorted(found, key=lambda item: -item[1].score)
    is_free = {name: [True] * len(segments) for name, segments in truth.items()}
    is_correct = np.zeros(len(ranked), bool)
    for rank, (name, segment) in enumerate(ranked):
        overlaps = [
            _iou(segment, other) if free else 0.0 for other, free in zip(truth[name], is_free[name], strict=True)
        ]
        best = int(np.argmax(overlaps)) if overlaps else 0
        if overlaps and overlaps[best] >= threshold and is_free[name][best]:
            is_free[name][best] = False
            is_correct[rank] = True
    number = sum(map(len, truth.values()))
    recall = np.cumsum(is_correct) / number
    precision = np.cumsum(is_correct) / np.arange(1, len(ranked) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def _iou(one: Any, other: Any) -> float:
    overlap: float = min(one.end, other.end) - max(one.start, other.start)
    union = (one.end - one.start) + (other.end - other.start) - overlap
    return max(overlap, 0.0) / union if union > 0 else 0.0

"""The annotations of ActivityNet v1.3, for classification of whole videos."""

import json
import math
from collections import defaultdict
from typing import Any

from dsanet.data_tools.lists.base import SPLITS, Files, ListedVideo, Lists, read_json, sorted_classes


def read_activitynet(files: Files) -> Lists:
    """Read ActivityNet v1.3, with classes in alphabetical order.

    A validation video has all classes of its segments. A training video has only the class with the longest total
    duration (the first in the alphabet if several are equal).

    Args:
        files: 'json': ``{database: {id: {subset, annotations: [{label, segment: [start, end]}]}}}``. The labels of the
            test subset are not published, so there is no test list.
    """
    (file,) = files['json']
    content = read_json(file, dict, "an object with the key 'database'")
    database = content.get('database')
    if not isinstance(database, dict):
        keys = ', '.join(content) or 'no keys'
        raise ValueError(f"{file}: expected an object with the key 'database', found {keys}")
    splits: dict[str, list[ListedVideo]] = {'train': [], 'val': []}
    num_multiple = num_test = 0
    for video, entry in sorted(database.items()):
        split, seconds = _read_segments(file, video, entry)
        if split == 'test':
            num_test += 1
            continue
        classes = sorted(seconds)
        if split == 'train' and len(classes) > 1:
            num_multiple += 1
            classes = [max(classes, key=seconds.__getitem__)]
        bare = video.removeprefix('v_')
        splits[split].append(ListedVideo((f'v_{bare}', bare), tuple(classes), f'{file}, id {video}'))
    notes = []
    if num_multiple:
        notes.append(f'{num_multiple} training videos have several classes; only the longest one is used')
    if num_test:
        notes.append(f'skipped {num_test} test videos, which have no published labels')
    return Lists(sorted_classes(splits), {split: videos for split, videos in splits.items() if videos}, notes)


def _read_segments(file: str, video: str, entry: Any) -> tuple[str, dict[str, float]]:
    """Return the split of a video and the annotated seconds of each class."""
    try:
        split = SPLITS[entry['subset']]
        seconds: dict[str, float] = defaultdict(float)
        for annotation in entry['annotations']:
            start, end = annotation['segment']
            label = annotation['label']
            if not isinstance(label, str) or not label.strip():
                raise TypeError('label must be a non-empty string')
            seconds[label] += float(end) - float(start)
        if not all(map(math.isfinite, seconds.values())):
            raise ValueError('segment must be finite')
    except (KeyError, OverflowError, TypeError, ValueError):
        raise ValueError(
            f'{file}, id {video}: invalid entry {json.dumps(entry)[:200]}; expected a subset (training, validation or '
            'testing) and annotations, each with a label (a name) and a segment [start, end]'
        ) from None
    return split, seconds

"""The annotations of ActivityNet v1.3, for classifying whole videos."""

import json
import math
from collections import defaultdict
from typing import Any

from dsanet.data_tools.lists.base import SPLITS, Files, ListedVideo, Lists, alphabetical, line_of, read_json


def read_activitynet(files: Files) -> Lists:
    """Read ActivityNet v1.3: classes in alphabetical order.

    A validation video has all classes of its segments. A training video has one, which fills most of its annotated
    time (of equal ones the first in the alphabet); notes say how many had several.

    Args:
        files: 'json': ``{database: {id: {subset, annotations: [{label, segment: [start, end]}]}}}``. The labels of the
            test subset are not published: no list of it.

    Raises:
        ValueError: an entry without subset or annotations, by file and line.
    """
    (file,) = files['json']
    content = read_json(file, dict, 'an object with the key database')
    database = content.get('database')
    if not isinstance(database, dict):
        raise ValueError(f"{file}: expected an object with the key 'database', found {', '.join(content) or 'none'}")
    splits: dict[str, list[ListedVideo]] = {'train': [], 'val': []}
    several = hidden = 0
    for video, entry in sorted(database.items()):
        split, seconds = _read_segments(file, video, entry)
        if split == 'test':
            hidden += 1
            continue
        classes = sorted(seconds)
        if split == 'train' and len(classes) > 1:
            several += 1
            classes = [max(classes, key=seconds.__getitem__)]
        bare = video.removeprefix('v_')
        splits[split].append(ListedVideo((f'v_{bare}', bare), tuple(classes), f'{file}, id {video}'))
    notes = []
    if several:
        notes.append(f'{several} training videos have several classes: the one that lasts longest is theirs')
    if hidden:
        notes.append(f'{hidden} test videos have no published labels: no list of them')
    return Lists(alphabetical(splits), {split: videos for split, videos in splits.items() if videos}, notes)


def _read_segments(file: str, video: str, entry: Any) -> tuple[str, dict[str, float]]:
    """Return the split of a video and the annotated seconds of each of its classes."""
    try:
        split = SPLITS[entry['subset']]
        seconds: dict[str, float] = defaultdict(float)
        for annotation in entry['annotations']:
            start, end = annotation['segment']
            label = annotation['label']
            if not isinstance(label, str) or not label.strip():
                raise TypeError('a label is a name')
            seconds[label] += float(end) - float(start)
        if not all(map(math.isfinite, seconds.values())):
            raise ValueError('a segment has no end')
    except (KeyError, OverflowError, TypeError, ValueError):
        line = line_of(file, json.dumps(video))
        raise ValueError(
            f'{file}:{line}: video {video} is {json.dumps(entry)[:200]}, must have a subset (training, validation or '
            'testing) and annotations, each with a label, a name, and a segment [start, end]'
        ) from None
    return split, seconds

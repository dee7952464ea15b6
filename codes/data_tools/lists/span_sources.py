"""Read the spans of label tools and datasets: ActivityNet, Label Studio, FiftyOne, and tables."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from dsanet.data_tools.lists.base import (
    SPLITS,
    DatasetSpec,
    Files,
    ListedVideo,
    Lists,
    Role,
    read_json,
    shorten,
    sorted_classes,
)
from dsanet.data_tools.lists.custom import name_classes, parse_names, raise_bad_split, read_table
from dsanet.datasets.media_files import is_video
from dsanet.datasets.span_lists import parse_seconds


@dataclass(frozen=True, slots=True)
class ListedSpan(ListedVideo):
    """A span in an annotation file.

    Args:
        start, end: in seconds; None for that of the video.
        frames: first and last frame, counted from 0, instead of seconds.
    """

    start: float | None = None
    end: float | None = None
    frames: tuple[int, int] | None = None


def read_activitynet_spans(files: Files) -> Lists:
    """Read JSON files in the format of ActivityNet: ``{database: {id: {subset, annotations: [{label, segment}]}}}``."""
    (file,) = files['json']
    content = read_json(file, dict, "an object with the key 'database'")
    if not isinstance(content.get('database'), dict):
        raise ValueError(f"{file}: expected an object with the key 'database', found {', '.join(content) or 'no keys'}")
    splits: dict[str, list[ListedVideo]] = {}
    num_empty = 0
    for video, entry in sorted(content['database'].items()):
        bare = video.removeprefix('v_')
        try:
            split = SPLITS[entry['subset'].casefold()]
            annotations = entry['annotations'] or []
            spans = [
                _make_span((f'v_{bare}', bare), (one['label'],), f'{file}, id {video}, annotation {n}', one['segment'])
                for n, one in enumerate(annotations, start=1)
            ]
        except (AttributeError, KeyError, TypeError):
            raise ValueError(
                f'{file}, id {video}: invalid entry {shorten(entry)}; expected a subset (training, validation or '
                'testing) and annotations, each with a label and a segment [start, end]'
            ) from None
        num_empty += not spans
        if spans:
            splits.setdefault(split, []).extend(spans)
    return Lists(sorted_classes(splits), _in_order(splits), _note(num_empty, 'videos without annotations'))


def read_label_studio(files: Files) -> Lists:
    """Read exports of Label Studio in the format JSON: the regions of the tag TimelineLabels, in frames from 1."""
    splits: dict[str, list[ListedVideo]] = {}
    num_empty = num_other = 0
    for split, file in _files_by_split(files):
        for number, task in enumerate(read_json(file, list, 'a list of tasks'), start=1):
            source = f'{file}, task {task.get("id", number) if isinstance(task, dict) else number}'
            try:
                names = _video_names(task['data'], source)
                results = _chosen_annotation(task['annotations'], source)
                labels = [one for one in results if one['type'] == 'timelinelabels']
                spans = [
                    ListedSpan(
                        names,
                        _class_names(one['value']['timelinelabels']),
                        f'{source}, region {one.get("id", n)}',
                        frames=(_frame(limits['start']) - 1, _frame(limits['end']) - 1),
                    )
                    for n, one in enumerate(labels, start=1)
                    for limits in one['value']['ranges']
                ]
            except (AttributeError, KeyError, TypeError):
                raise ValueError(
                    f'{source}: invalid task {shorten(task)}; expected an export in the format JSON (not JSON-MIN) '
                    'with timelinelabels and their ranges'
                ) from None
            num_other += len(results) - len(labels)
            num_empty += not spans
            splits.setdefault(split, []).extend(spans)
    notes = [
        *_note(num_empty, 'tasks without timeline labels'),
        *_note(num_other, 'regions that are not on a timeline'),
    ]
    return Lists(sorted_classes(splits), splits, notes)


def read_fiftyone(files: Files) -> Lists:
    """Read ``labels.json`` of a FiftyOneTemporalDetectionDataset, with timestamps or frames (``support``, from 1)."""
    splits: dict[str, list[ListedVideo]] = {}
    class_names: list[str] = []
    num_empty = 0
    for split, file in _files_by_split(files):
        content = read_json(file, dict, "an object with the key 'labels'")
        classes = content.get('classes')
        try:
            for name in classes or ():
                class_names += [name] if name not in class_names else []
            for video, found in content['labels'].items():
                num_empty += not found
                for n, one in enumerate(found or (), start=1):
                    label = one['label'] if classes is None else classes[one['label']]
                    source = f'{file}, {video}, detection {n}'
                    if one.get('timestamps') is not None:
                        span = _make_span((video,), (label,), source, one['timestamps'])
                    else:
                        first, last = map(_frame, one['support'])
                        span = ListedSpan((video,), _class_names([label]), source, frames=(first - 1, last - 1))
                    splits.setdefault(split, []).append(span)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{file}: expected labels of a FiftyOneTemporalDetectionDataset, each with a label and with timestamps '
                f'[start, stop] or a support [first, last]: {type(error).__name__}: {error}'
            ) from None
    return Lists(class_names or sorted_classes(splits), splits, _note(num_empty, 'videos without detections'))


def read_span_table(
    files: Files,
    path_column: str = 'video',
    label_column: str = 'label',
    start_column: str = 'start',
    end_column: str = 'end',
    split_column: str = 'split',
    label_separator: str | None = None,
    first_label: int | None = None,
    class_names: Sequence[str] | None = None,
) -> Lists:
    """Read CSV files with a header and fields separated by commas, semicolons or tabs.

    Args:
        files: 'train', 'val', 'test'; or 'all', perhaps with a column for the split.
        path_column, label_column, start_column, end_column: columns of the video, the class name, and the limits in
            seconds or as ``[hours:]minutes:seconds``, empty for those of the video.
        split_column: column of the split, in 'all' only.
        label_separator, first_label, class_names: see :func:`dsanet.data_tools.lists.custom.read_csv`.
    """
    columns = [path_column, label_column, start_column, end_column]
    splits: dict[str, list[ListedVideo]] = {}
    for role, file in _files_by_split(files):
        for line, row in read_table(file, columns, [split_column] if role == 'all' else []):
            split = role if split_column not in row else SPLITS.get(row[split_column].casefold(), '')
            if not split:
                raise_bad_split(file, line, row[split_column])
            source = f'{file}:{line}'
            path, labels = parse_names(file, line, row[path_column], row[label_column], label_separator)
            try:
                start, end = (parse_seconds(row[name], name) for name in (start_column, end_column))
            except ValueError as error:
                raise ValueError(f'{source}: {error}') from None
            splits.setdefault(split, []).append(ListedSpan((path,), labels, source, start, end))
    return name_classes(_in_order(splits), first_label, class_names)


def _json_roles(names: Sequence[str]) -> dict[str, Role]:
    return {'all': Role((*names, 'all.json'))} | {split: Role((f'{split}.json',)) for split in ('train', 'val', 'test')}


_CSV_ROLES = {split: Role((f'{split}.csv',)) for split in ('all', 'train', 'val', 'test')}
SPAN_DATASETS = {
    'activitynet_spans': DatasetSpec(
        'ActivityNet (segments)',
        None,
        read_activitynet_spans,
        {'json': Role(('activity_net.v1-3.min.json', 'activity*.json', '*.json'), required=True)},
    ),
    'label_studio': DatasetSpec('Label Studio', None, read_label_studio, _json_roles(['project-*.json'])),
    'fiftyone': DatasetSpec('FiftyOne', None, read_fiftyone, _json_roles(['labels.json'])),
    'span_csv': DatasetSpec('CSV files with spans', None, read_span_table, _CSV_ROLES),
}


def _files_by_split(files: Files) -> Iterator[tuple[str, str]]:
    """Yield split and path of each file; 'all' for a file that is split later."""
    if 'all' in files and len(files) > 1:
        raise ValueError(f'found {files["all"][0]} and files of splits: {", ".join(files)}; use one kind')
    for split in ('all', 'train', 'val', 'test'):
        for file in files.get(split, ()):
            yield split, file


def _in_order(splits: Mapping[str, list[ListedVideo]]) -> dict[str, list[ListedVideo]]:
    return {split: splits[split] for split in ('all', 'train', 'val', 'test') if split in splits}


def _make_span(names: tuple[str, ...], classes: tuple[str, ...], source: str, limits: Any) -> ListedSpan:
    """Return a span with limits in seconds; raise a TypeError if they are not two numbers or a class is not a name."""
    if not isinstance(limits, list) or len(limits) != 2:
        raise TypeError('expected two limits')
    start, end = (float(limit) if isinstance(limit, (int, float)) else math.nan for limit in limits)
    if math.isnan(start) or math.isnan(end):
        raise TypeError('limits must be numbers')
    return ListedSpan(names, _class_names(classes), source, start, end)


def _class_names(labels: Sequence[Any]) -> tuple[str, ...]:
    if not labels or not all(isinstance(name, str) and name.strip() for name in labels):
        raise TypeError('labels must be names')
    return tuple(labels)


def _frame(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, (int, float)) or number != int(number):
        raise TypeError(f'{number!r} is not a frame number')
    return int(number)


def _video_names(data: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """Return possible names of the video of a task: its path or URL, and its file name without the upload's prefix."""
    found = [value for value in data.values() if isinstance(value, str) and is_video(value.split('?d=')[-1])]
    if len(found) != 1:
        raise ValueError(f'{source}: expected one video in data, found {", ".join(found) or shorten(data)}')
    url = urlsplit(found[0])
    path = parse_qs(url.query)['d'][0] if 'd=' in url.query else unquote(url.path)
    name = path.rpartition('/')[2]
    return path.lstrip('/'), re.sub(r'^[0-9a-f]{8}-', '', name), name


def _chosen_annotation(annotations: Sequence[Mapping[str, Any]], source: str) -> Sequence[Mapping[str, Any]]:
    """Return the regions of the only annotation of a task; of several, those of the ground truth."""
    valid = [one for one in annotations if not one.get('was_cancelled')]
    chosen = [one for one in valid if one.get('ground_truth')] if len(valid) > 1 else valid
    if len(chosen) > 1 or (valid and not chosen):
        raise ValueError(
            f'{source}: has {len(valid)} annotations; mark one as ground truth in Label Studio, or delete the others'
        )
    regions: Sequence[Mapping[str, Any]] = chosen[0]['result'] if chosen else []
    return regions


def _note(number: int, what: str) -> list[str]:
    return [f'skipped {number} {what}'] if number else []

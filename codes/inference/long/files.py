"""Write the results of long videos: scores over time as CSV, and segments as JSON, also for other programs."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from dsanet.inference.long.predictor import LongPrediction
from dsanet.inference.long.segments import CurvePoint, Segment
from dsanet.utils.files import open_atomically, write_atomically

SEGMENTS_FILE = 'segments.json'
ACTIVITYNET_FILE = 'activitynet.json'
LABEL_STUDIO_FILE = 'label_studio.json'
_DEFAULT_FPS = 25.0


class CurveFile:
    """A CSV file with a row per part of a curve: start and end in seconds, and the probability of each class.

    The file appears under its name when it is complete; until then, ``NAME.part`` has the rows so far.

    Args:
        file: path of the file.
        class_names: names by class number, for the header.
    """

    def __init__(self, file: Path, class_names: Sequence[str]) -> None:
        self.file = file
        self._class_names = class_names

    def __enter__(self) -> 'CurveFile':
        with ExitStack() as stack:
            self._target: BinaryIO = stack.enter_context(open_atomically(self.file))
            self._write_rows([['start', 'end', *self._class_names]])
            self._stack = stack.pop_all()
        return self

    def add(self, points: Iterable[CurvePoint]) -> None:
        """Append rows."""
        self._write_rows(
            [float(point.start), float(point.end), *(f'{value:.6g}' for value in point.probabilities.tolist())]
            for point in points
        )

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _write_rows(self, rows: Iterable[Sequence[object]]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        self._target.write(text.getvalue().encode(errors='surrogateescape'))
        self._target.flush()


def write_segments(
    predictions: Sequence[LongPrediction], folder: Path, settings: Mapping[str, Any], names: Mapping[str, str]
) -> None:
    """Write the segments of films in three formats.

    Args:
        predictions: the films; those with an error have no segments.
        folder: an existing folder.
        settings: how they were made, such as the checkpoint and the length of a window.
        names: name of each film in the file for ActivityNet.
    """
    readable = [prediction for prediction in predictions if prediction.error is None]
    contents: dict[str, Any] = {
        SEGMENTS_FILE: {**settings, 'videos': [prediction.to_dict() for prediction in predictions]},
        ACTIVITYNET_FILE: {
            'version': 'VERSION 1.3',
            'results': {names[prediction.video]: _for_activitynet(prediction.segments) for prediction in readable},
            'external_data': {'used': False, 'details': ''},
        },
        LABEL_STUDIO_FILE: [label_studio_task(prediction, str(settings['checkpoint'])) for prediction in readable],
    }
    for name, content in contents.items():
        write_atomically(json.dumps(content, indent=2).encode() + b'\n', folder / name)


def _for_activitynet(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    return [{'label': s.label, 'score': s.score, 'segment': [s.start, s.end]} for s in segments]


def label_studio_task(prediction: LongPrediction, model: str) -> dict[str, Any]:
    """Return a film as a task of Label Studio, with its segments as predictions for review.

    The labeling interface needs ``<Video name="video" value="$video"/>`` and
    ``<TimelineLabels name="videoLabels" toName="video">``. Label Studio counts frames from 1, and a range includes its
    last frame.

    Args:
        prediction: the film.
        model: name of the model.
    """
    fps = prediction.fps or _DEFAULT_FPS
    regions = []
    for number, segment in enumerate(prediction.segments):
        first = round(segment.start * fps) + 1
        regions.append(
            {
                'id': hashlib.sha256(f'{prediction.video}\0{number}'.encode(errors='surrogateescape')).hexdigest()[:10],
                'type': 'timelinelabels',
                'from_name': 'videoLabels',
                'to_name': 'video',
                'origin': 'prediction',
                'score': segment.score,
                'value': {
                    'ranges': [{'start': first, 'end': max(first, round(segment.end * fps))}],
                    'timelinelabels': [segment.label],
                },
            }
        )
    scores = [segment.score for segment in prediction.segments]
    return {
        'data': {'video': prediction.video},
        'predictions': [
            {
                'model_version': os.path.basename(model),
                'score': sum(scores) / len(scores) if scores else 0.0,
                'result': regions,
            }
        ],
    }

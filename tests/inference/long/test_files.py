import csv
import errno
import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dsanet.inference.long.files import CurveFile, label_studio_task, write_segments
from dsanet.inference.long.predictor import LongPrediction
from dsanet.inference.long.segments import CurvePoint, Segment

SEGMENTS = [Segment('a, "b"', 0, 1.5, 0.5), Segment('ünits', 2.0, 2.02, 0.75)]
RESULT = LongPrediction('videos/x.mp4', SEGMENTS, [], 3, 2.5, 30.0)
SETTINGS = {'checkpoint': 'runs/best.pth', 'window': 1.0}


def test_curve_file_has_a_row_per_part(tmp_path: Path) -> None:
    points = [CurvePoint(Fraction(i, 3), Fraction(i + 1, 3), np.array([0.25, 1e-9 * i], np.float32)) for i in range(3)]
    with CurveFile(tmp_path / 'a.csv', ['a, "b"', 'ünits']) as file:
        file.add(points[:1])
        assert not file.file.exists()
        rows = (tmp_path / 'a.csv.part').read_bytes().decode().splitlines()
        assert len(rows) == 2, 'header and the row so far'
        file.add(points[1:])
    with (tmp_path / 'a.csv').open(newline='') as stream:
        table = list(csv.DictReader(stream))
    assert list(table[0]) == ['start', 'end', 'a, "b"', 'ünits']
    assert [float(row['start']) for row in table] == [0, 1 / 3, 2 / 3]
    assert [float(row['ünits']) for row in table] == pytest.approx([0, 1e-9, 2e-9])


def test_curve_file_disappears_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), CurveFile(tmp_path / 'a.csv', ['a']):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_all_formats_have_the_segments(tmp_path: Path) -> None:
    bad = LongPrediction('bad.mp4', error='bad.mp4 is empty')
    write_segments([RESULT, bad], tmp_path, SETTINGS, {'videos/x.mp4': 'x', 'bad.mp4': 'bad'})
    contents = {file.name: json.loads(file.read_text()) for file in tmp_path.iterdir()}
    assert contents['segments.json'] == {
        **SETTINGS,
        'videos': [RESULT.to_dict(), {'video': 'bad.mp4', 'error': 'bad.mp4 is empty'}],
    }
    assert contents['activitynet.json']['results'] == {
        'x': [
            {'label': 'a, "b"', 'score': 0.5, 'segment': [0, 1.5]},
            {'label': 'ünits', 'score': 0.75, 'segment': [2.0, 2.02]},
        ]
    }
    assert contents['label_studio.json'] == [label_studio_task(RESULT, 'runs/best.pth')]


def test_label_studio_counts_frames_from_one() -> None:
    task = label_studio_task(RESULT, 'runs/best.pth')
    assert task['data'] == {'video': 'videos/x.mp4'}
    (prediction,) = task['predictions']
    assert prediction['model_version'] == 'best.pth'
    assert prediction['score'] == 0.625
    first, second = prediction['result']
    # 0 to 1.5 s at 30 fps are frames 0 to 44; the second segment is shorter than a frame.
    assert first['value'] == {'ranges': [{'start': 1, 'end': 45}], 'timelinelabels': ['a, "b"']}
    assert second['value']['ranges'] == [{'start': 61, 'end': 61}]
    assert (first['type'], first['from_name'], first['to_name']) == ('timelinelabels', 'videoLabels', 'video')
    assert first['id'] != second['id']
    assert label_studio_task(LongPrediction('y'), 'm')['predictions'][0]['result'] == []


def test_full_disk_at_the_header_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: CurveFile, rows: Iterable[Sequence[object]]) -> None:
        raise OSError(errno.ENOSPC, 'full')

    monkeypatch.setattr(CurveFile, '_write_rows', fail)
    with pytest.raises(OSError, match='full|left') as caught, CurveFile(tmp_path / 'a.csv', ['a']):
        pass
    assert caught.value.filename == str(tmp_path / 'a.csv')
    assert not list(tmp_path.iterdir())

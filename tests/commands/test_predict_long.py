import csv
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import cv2
import pytest

from dsanet import commands
from dsanet.commands.predict_long import clock_time, format_segments
from dsanet.inference import recognizer as recognizers
from dsanet.inference.long.predictor import predict_long
from dsanet.inference.long.segments import Segment
from dsanet.utils.console import STATUS, ConsoleClosed
from tests.make_color_films import NAMES, make_color_recognizer, write_color_film
from tests.make_videos import write_frames
from tests.stream_servers import make_ts, pipe, serve

Capture = pytest.CaptureFixture[str]
SCENES = [('dark', 20), ('red', 30), ('dark', 20), ('blue', 30)]  # at 10 fps, streams at 1 fps


@pytest.fixture(autouse=True)
def _colors_as_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The checkpoint ``best.pth`` is the recognizer of colors."""
    monkeypatch.setattr(recognizers, 'load_recognizer', lambda *_, **_options: make_color_recognizer())
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def film(tmp_path: Path) -> str:
    return write_color_film(tmp_path / 'film.mp4', SCENES)


def predict(*arguments: object) -> int:
    try:
        return commands.main(['predict', 'best.pth', *map(str, arguments)])
    except SystemExit as error:
        return int(error.code or 0)


def write_truth(file: Path, *names: str) -> Path:
    annotations = [{'label': 'red', 'segment': [2, 5]}, {'label': 'blue', 'segment': [7, 10]}]
    file.write_text(json.dumps({'database': {name: {'annotations': annotations} for name in names}}))
    return file


def test_piped_output_is_a_line_per_segment(film: str, capsys: Capture) -> None:
    assert predict(film, '--long', '--window', 1, '--stride', 0.5) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = predict_long(make_color_recognizer(), film, 1, 0.5).segments
    assert [line['label'] for line in lines] == ['red', 'blue']
    assert lines == [{'video': film, **segment.to_dict()} for segment in expected]


def test_terminal_shows_a_table(film: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True, raising=False)
    truth = write_truth(Path('truth.json'), 'film')
    assert predict(film, '--long', '--window', 1, '--ground-truth', truth) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][0] == film
    assert lines[1] == ['start', 'end', 'label', 'score']
    assert [line[2] for line in lines[2:4]] == ['red', 'blue']
    assert lines[4] == ['tIoU', '0.3', '0.4', '0.5', '0.6', '0.7', 'mean']
    assert [float(value) for value in lines[5][1:]] == [100] * 6


def test_out_has_all_files(film: str, tmp_path: Path) -> None:
    other = write_color_film(tmp_path / 'other.ts', [('green', 25)])
    assert predict(film, other, '--long', '--window', 1, '--stride', 0.5, '--threshold', 0.6, '--out', 'out') == 0
    names = {'film.csv', 'film.png', 'other.csv', 'other.png'}
    assert {file.name for file in Path('out').iterdir()} == names | {
        'segments.json',
        'activitynet.json',
        'label_studio.json',
    }
    with open('out/film.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ['start', 'end', *NAMES]
    assert [float(row['start']) for row in rows] == [i / 2 for i in range(20)]
    assert float(rows[6]['red']) > 0.9
    assert max(float(rows[1][name]) for name in NAMES) < 0.4, 'a pause'
    content = json.loads(Path('out/segments.json').read_text())
    settings = {name: content[name] for name in ('checkpoint', 'window', 'stride', 'threshold')}
    assert settings == {'checkpoint': 'best.pth', 'window': 1, 'stride': 0.5, 'threshold': 0.6}
    assert [len(video['segments']) for video in content['videos']] == [2, 1]
    assert set(json.loads(Path('out/activitynet.json').read_text())['results']) == {'film', 'other'}
    tasks = json.loads(Path('out/label_studio.json').read_text())
    assert [task['data']['video'] for task in tasks] == [film, other]
    assert cv2.imread('out/film.png') is not None


def test_plot_without_frames_keeps_the_prediction(
    film: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The frames of the plot may be damaged where no window needs a frame."""

    def fail(_path: str) -> None:
        raise ValueError('only the first 54 frames can be decoded')

    monkeypatch.setattr('dsanet.inference.long.films.read_strip', fail)
    assert predict(film, '--long', '--window', 1, '--out', 'out') == 0
    assert '54' in capsys.readouterr().err
    assert (tmp_path / 'out' / 'film.png').is_file()


def test_annotated_copy(film: str) -> None:
    assert predict(film, '--long', '--window', 1, '--out-video', 'copy.mp4') == 0
    assert Path('copy.mp4').stat().st_size > 1000


def test_map_over_several_films(film: str, tmp_path: Path, capsys: Capture) -> None:
    write_color_film(tmp_path / 'v_b.mp4', [('green', 100)])
    truth = write_truth(tmp_path / 'truth.json', 'film', 'b', 'unused')
    assert predict(film, tmp_path / 'v_b.mp4', '--long', '--window', 1, '--ground-truth', truth) == 0
    assert capsys.readouterr().err.splitlines()[-1].split() == ['mAP', *['50.00'] * 6]


def test_bad_film_among_many_gives_status_one(film: str, capsys: Capture) -> None:
    Path('bad.mp4').write_bytes(b'\0' * 2000)
    assert predict('bad.mp4', film, '--long', '--out', 'out') == 1
    captured = capsys.readouterr()
    assert 'error' in json.loads(captured.out.splitlines()[0])
    assert '1 of 2' in captured.err
    assert [('error' in video) for video in json.loads(Path('out/segments.json').read_text())['videos']] == [
        True,
        False,
    ]
    assert not Path('out/bad.csv').exists()


def wrong_inputs(film: str, tmp_path: Path) -> dict[str, list[object]]:
    (tmp_path / 'bad.mp4').write_bytes(b'\0' * 2000)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').touch()
    (tmp_path / 'sub').mkdir()
    write_color_film(tmp_path / 'sub' / 'film.mp4', [('red', 5)])
    truth = write_truth(tmp_path / 'truth.json', 'another')
    write_frames(tmp_path / 'frames', 3)
    (tmp_path / 'spans.csv').write_text(f'video,start,end\n{film},0,1\n')
    (tmp_path / 'empty.mp4').touch()
    return {
        'span': ['spans.csv', '--long'],
        'empty': ['empty.mp4', '--long'],
        'tiny stride': [film, '--long', '--stride', '1e-5'],
        'file as URL': ['file:///etc/passwd', '--allow-urls'],
        'window 0': [film, '--long', '--window', '0'],
        'stride too large': [film, '--long', '--window', '1', '--stride', '2'],
        'threshold': [film, '--long', '--threshold', '1.5'],
        'missing': ['missing.mp4', '--long'],
        'damaged': ['bad.mp4', '--long', '--out', 'out'],
        'folder of frames': ['frames', '--long'],
        'empty folder': ['empty', '--long'],
        'out is a file': [film, '--long', '--out', 'file'],
        'same names': [film, 'sub/film.mp4', '--long', '--out', 'out'],
        'overwrites an input': [
            film,
            '--long',
            '--out',
            '.',
            '--ground-truth',
            write_truth(Path('segments.json'), 'film'),
        ],
        'not in the ground truth': [film, '--long', '--ground-truth', truth, '--out', 'out'],
        'no ground truth': [film, '--long', '--ground-truth', 'missing.json'],
        'both': [film, '--long', '--stream'],
        'window alone': [film, '--window', '2'],
        'json': [film, '--long', '--json', 'a.json'],
        'two copies': [film, 'sub/film.mp4', '--long', '--out-video', 'copy.mp4'],
        'stream as film': ['-', '--long'],
        'stream as video': ['rtsp://127.0.0.1/x'],
        'film as stream': [film, '--stream'],
        'no device': ['/dev/video99', '--stream'],
        'URL not allowed': ['http://127.0.0.1:1/x', '--stream'],
        'refused': ['http://127.0.0.1:1/x', '--stream', '--allow-urls', '--out', 'out'],
        'two streams': ['-', '-', '--stream'],
        'copy of a stream': ['-', '--stream', '--out-video', 'copy.mp4'],
    }


def test_wrong_inputs_are_one_line(film: str, tmp_path: Path, capsys: Capture) -> None:
    for name, arguments in wrong_inputs(film, tmp_path).items():
        assert predict(*arguments) == 2, name
        captured = capsys.readouterr()
        lines = [line for line in captured.err.splitlines() if 'error: ' in line]
        assert len(lines) == 1, (name, captured.err)
        assert 'Traceback' not in captured.err
        assert not (tmp_path / 'out').exists(), name
        assert not (tmp_path / 'copy.mp4').exists()


def test_stream_prints_each_window(capsys: Capture) -> None:
    with serve(make_ts(SCENES)) as url:
        code = predict(url, '--stream', '--allow-urls', '--window', 10, '--out', 'out', '--topk', 2)
    assert code == 0
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert [line['start'] for line in lines] == [5 * i for i in range(19)]
    assert [len(line['labels']) for line in lines] == [2] * 19
    assert [line['labels'][0] for line in lines[5:8]] == ['red'] * 3
    assert '19 windows predicted, 0 dropped' in captured.err
    content = json.loads(Path('out/segments.json').read_text())
    assert [segment['label'] for segment in content['videos'][0]['segments']] == ['red', 'blue']
    assert {file.name for file in Path('out').iterdir()} == {
        *('stream.csv', 'stream.png', 'segments.json', 'activitynet.json', 'label_studio.json')
    }


def test_stream_on_a_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True, raising=False)
    with pipe(Path('pipe'), make_ts(SCENES)) as path:
        assert predict(path, '--stream', '--window', 10) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines[:19]].count('red') >= 5
    assert lines[0].split()[3] == '-'
    assert [line.split()[2] for line in lines[-2:]] == ['red', 'blue']


def test_broken_stream_leaves_complete_files(capsys: Capture) -> None:
    with serve(make_ts([('red', 400)]), share=0.5) as url:
        assert predict(url, '--stream', '--allow-urls', '--window', 10, '--out', 'out') == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith('error: ')
    assert len(list(Path('out').iterdir())) == 5
    assert json.loads(Path('out/segments.json').read_text())['videos'][0]['segments'][0]['label'] == 'red'


def close_output(*_: object) -> None:
    raise ConsoleClosed


def test_closed_output_leaves_complete_files(film: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('print_film', 'print_window'):
        monkeypatch.setattr(f'dsanet.commands.predict_long.{name}', close_output)
    assert predict(film, '--long', '--out', 'film') == STATUS
    with pipe(Path('pipe'), make_ts(SCENES)) as path:
        assert predict(path, '--stream', '--window', 10, '--out', 'live') == STATUS
    for folder in ('film', 'live'):
        assert len(list(Path(folder).iterdir())) == 5


def test_ctrl_c_ends_a_stream_with_its_files(capsys: Capture) -> None:
    rows = Path('out/stream.csv.part')

    def interrupt() -> None:
        limit = time.monotonic() + 20
        while time.monotonic() < limit and not (rows.exists() and rows.read_bytes().count(b'\n') > 10):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with pipe(Path('pipe'), make_ts(SCENES), stays_open=True) as path:
        thread.start()
        assert predict(path, '--stream', '--window', 10, '--out', 'out') == 0
    thread.join()
    assert not rows.exists()
    assert len(list(Path('out').iterdir())) == 5
    with open('out/stream.csv', newline='') as file:
        assert len(list(csv.DictReader(file))) >= 10
    assert 'windows predicted' in capsys.readouterr().err


def test_times_of_the_table() -> None:
    assert [clock_time(seconds) for seconds in (0, 59.999, 61.5, 3661.25)] == [
        '0:00.00',
        '1:00.00',
        '1:01.50',
        '1:01:01.25',
    ]
    assert format_segments([])[0].split() == ['no', 'segments']
    assert format_segments([Segment('a', 1, 2.5, 0.5)])[1].split() == ['0:01.00', '0:02.50', 'a', '50.0%']

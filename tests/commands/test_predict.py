import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from dsanet import commands
from dsanet.commands.predict import BAR_WIDTH, format_result
from dsanet.inference.prediction import Prediction
from dsanet.inference.recognizer import Recognizer, load_recognizer
from dsanet.utils.console import STATUS, ConsoleClosed
from tests.make_recognizer import make_recognizer, save_recognizer, write_some_videos
from tests.make_videos import write_frames

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_recognizer(make_recognizer(), tmp_path_factory.mktemp('checkpoint') / 'best.pth')


@pytest.fixture(scope='module')
def recognizer(checkpoint: Path) -> Recognizer:
    """The model of the checkpoint, optimized as by the command."""
    loaded = load_recognizer(checkpoint, 'cpu')
    loaded.model.optimize()
    return loaded


@pytest.fixture(scope='module')
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('some') / 'videos'
    write_some_videos(root)
    return root


def predict(*arguments: object) -> int:
    try:
        return commands.main(['predict', *map(str, arguments)])
    except SystemExit as error:
        return int(error.code or 0)


def test_piped_output_is_json_lines(checkpoint: Path, videos: Path, recognizer: Recognizer, capsys: Capture) -> None:
    assert predict(checkpoint, videos / 'sub', '--topk', 3) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [result.to_dict() for result in recognizer(videos / 'sub', topk=3)]


def test_bad_video_among_many_gives_status_one(checkpoint: Path, videos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert predict(checkpoint, videos, '--json', tmp_path / 'out.json', '--workers', 1) == 1
    captured = capsys.readouterr()
    assert '1 of 4' in captured.err
    content = json.loads((tmp_path / 'out.json').read_text())
    assert content == [json.loads(line) for line in captured.out.splitlines()]
    assert [Path(entry['video']).name for entry in content if 'error' in entry] == ['bad.mp4']


def test_csv_has_a_row_per_class(checkpoint: Path, videos: Path, tmp_path: Path, recognizer: Recognizer) -> None:
    assert predict(checkpoint, videos / 'a.mp4', videos / 'bad.mp4', '--topk', 2, '--csv', tmp_path / 'out.csv') == 1
    with (tmp_path / 'out.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    result = recognizer(videos / 'a.mp4', topk=2)
    assert [row['label'] for row in rows] == [*result.labels, '']
    assert [float(row['probability']) for row in rows[:2]] == result.probabilities
    assert [row['rank'] for row in rows] == ['1', '2', '']
    assert 'bad.mp4' in rows[2]['error']


def test_single_bad_video_is_one_error_line(checkpoint: Path, videos: Path, tmp_path: Path, capsys: Capture) -> None:
    for name in ('bad.mp4', 'gone.mp4'):
        assert (
            predict(checkpoint, videos / name, '--json', tmp_path / 'out.json', '--out-video', tmp_path / 'o.mp4') == 2
        )
        captured = capsys.readouterr()
        assert captured.out == ''
        assert captured.err.startswith('error: ')
        assert len(captured.err.splitlines()) == 1
        assert name in captured.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['nowhere.pth', 'a.mp4'], 'nowhere.pth'),
        (['CHECKPOINT', 'VIDEOS', '--out-video', 'OUT/a.mp4'], '--out-video'),
        (['CHECKPOINT', 'VIDEOS/a.mp4', '--out-video', 'VIDEOS/a.mp4'], 'overwrite'),
        (['CHECKPOINT', 'http://127.0.0.1/a.mp4'], '--allow-urls'),
        (['CHECKPOINT', 'VIDEOS/a.mp4', '--device', 'gpu'], 'gpu'),
        (['CHECKPOINT', 'OUT'], 'neither'),
        (['CHECKPOINT', 'VIDEOS/a.mp4', '--config', 'ucf101/ucf101_dsanet_r50_4x8'], 'best.pth'),
    ],
)
def test_wrong_arguments_are_one_error_line(
    checkpoint: Path, videos: Path, tmp_path: Path, arguments: list[str], text: str, capsys: Capture
) -> None:
    places = {'CHECKPOINT': checkpoint, 'VIDEOS': videos, 'OUT': tmp_path}
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    assert predict(*arguments) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('error: ')
    assert text in last
    assert not list(tmp_path.iterdir())


def test_terminal_shows_bars(checkpoint: Path, videos: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    result = Prediction('a.mp4', ['jump', 'run'], [3.0, 1.0], [0.75, 0.25], 6, 50, 2.0)
    lines = format_result(result).splitlines()
    assert lines[0] == 'a.mp4  (50 frames, 2.0 s, 6 views)'
    assert [line.count('█') for line in lines[1:]] == [round(BAR_WIDTH * 0.75), round(BAR_WIDTH * 0.25)]
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True, raising=False)
    assert predict(checkpoint, videos / 'a.mp4', '--views', 'fast') == 0
    assert '1 view)' in capsys.readouterr().out


def test_closed_output_leaves_complete_files(
    checkpoint: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close_output(_result: object) -> None:
        raise ConsoleClosed

    monkeypatch.setattr('dsanet.commands.predict._print_line', close_output)
    assert predict(checkpoint, videos / 'sub', '--json', tmp_path / 'out.json', '--workers', 0) == STATUS
    assert len(json.loads((tmp_path / 'out.json').read_text())) == 2


def test_fast_views_are_fewer(checkpoint: Path, videos: Path, tmp_path: Path) -> None:
    scores = {}
    for views in ('test', 'fast'):
        assert predict(checkpoint, videos / 'a.mp4', '--views', views, '--json', tmp_path / f'{views}.json') == 0
        scores[views] = json.loads((tmp_path / f'{views}.json').read_text())[0]
    assert (scores['test']['num_views'], scores['fast']['num_views']) == (2, 1)
    assert not np.array_equal(scores['test']['scores'], scores['fast']['scores'])


def test_rate_of_a_folder_can_be_given(checkpoint: Path, tmp_path: Path) -> None:
    folder, file = write_frames(tmp_path / 'clip', 40), tmp_path / 'result.json'
    sampling = {'type': 'SampleSnippets', 'num_snippets': 2, 'frames_per_snippet': 2, 'fps': 5}
    options = ('--cfg-options', f'test_dataloader.dataset.pipeline.1={sampling}', '--json', file)
    assert predict(checkpoint, folder, *options) == 2
    assert predict(checkpoint, folder, '--fps', '15', *options) == 0
    result = json.loads(file.read_text())[0]
    assert result['seconds'] == pytest.approx(40 / 15)
    recognizer = load_recognizer(checkpoint, 'cpu', options=[options[1]])
    assert result['scores'] == pytest.approx(recognizer(folder, fps=15).scores, abs=1e-5)

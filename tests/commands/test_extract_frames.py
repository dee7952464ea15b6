"""dsanet extract-frames: the right frames in the right order, and its options."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from dsanet import commands
from dsanet.data_tools.video.batch import FAILURES_FILE
from dsanet.datasets.video.pyav_reader import PyAVReader
from dsanet.datasets.video_datasets import RawFramesDataset
from tests.make_videos import read_index, rotate_video, write_video


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    root = tmp_path / 'videos'
    (root / 'walk').mkdir(parents=True)
    write_video(root / 'walk' / 'a.mp4', 30)
    write_video(root / 'b.avi', 20, codec='mpeg4')
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / 'out'


def run(videos: Path, out: Path, *options: object) -> int:
    return commands.main(['extract-frames', str(videos), str(out), '--workers', '0', *map(str, options)])


def read_folder(folder: Path) -> list[np.ndarray]:
    """Return the frames as RGB in the order of their numbers, which must be complete."""
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f'img_{number:05d}.jpg' for number in range(1, len(files) + 1)]
    return [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def test_frames_are_written_once_in_order(videos, out):
    assert run(videos, out) == 0
    for video, folder, num_frames in (('walk/a.mp4', 'walk/a', 30), ('b.avi', 'b', 20)):
        frames = read_folder(out / folder)
        assert [read_index(frame) for frame in frames] == list(range(num_frames))
        reader = PyAVReader(str(videos / video))
        originals = reader.read(np.arange(num_frames))
        reader.close()
        for frame, original in zip(frames, originals, strict=True):
            assert psnr(frame, original) > 33


def test_dataset_reads_the_frames(videos, out, tmp_path):
    run(videos, out)
    (tmp_path / 'list.txt').write_text('walk/a 30 3\nb 20 1\n')
    dataset = RawFramesDataset([], str(tmp_path / 'list.txt'), str(out))
    for record in dataset.records:
        assert len(list(Path(record.path).iterdir())) == record.num_frames
    assert (Path(dataset.records[0].path) / dataset.filename_tmpl.format(dataset.start_index)).is_file()


def test_fps_and_short_side_take_effect(videos, out):
    assert run(videos, out, '--fps', '12.5', '--short-side', '36') == 0
    frames = read_folder(out / 'walk/a')
    assert [frame.shape for frame in frames] == [(36, 64, 3)] * 15
    assert [read_index(frame) for frame in frames] == list(range(0, 30, 2))
    assert json.loads((out / 'settings.json').read_text()) == {
        'tool': 'extract_frames.py',
        'short_side': 36,
        'fps': '25/2',
        'quality': 90,
    }


def test_quality_changes_the_file_size(videos, tmp_path):
    sizes = []
    for quality in (20, 95):
        run(videos, tmp_path / str(quality), '--quality', quality)
        sizes.append(sum(file.stat().st_size for file in (tmp_path / str(quality) / 'b').iterdir()))
    assert 1.15 * sizes[0] < sizes[1]


def test_rotation_metadata_is_applied(tmp_path, out):
    (tmp_path / 'videos').mkdir()
    rotate_video(write_video(tmp_path / 'videos/phone.mp4', 5))
    run(tmp_path / 'videos', out)
    frames = read_folder(out / 'phone')
    assert frames[0].shape == (128, 72, 3)
    assert [read_index(np.rot90(frame)) for frame in frames] == list(range(5))


def test_list_selects_videos(videos, out, tmp_path):
    (tmp_path / 'list.txt').write_text('b.avi 0\n')
    assert run(videos, out, '--list', tmp_path / 'list.txt') == 0
    assert not (out / 'walk').exists()
    assert len(read_folder(out / 'b')) == 20


def test_failed_videos_are_listed_and_retried(videos, out):
    whole = (videos / 'b.avi').read_bytes()
    (videos / 'b.avi').write_bytes(whole[: len(whole) * 9 // 10])
    (videos / 'no.mp4').write_text('no video')
    assert run(videos, out) == 1
    failures = [json.loads(line) for line in (out / FAILURES_FILE).read_text().splitlines()]
    assert [failure['path'] for failure in failures] == ['b.avi', 'no.mp4']
    assert sorted(path.name for path in out.iterdir()) == [FAILURES_FILE, 'settings.json', 'walk']

    (videos / 'b.avi').write_bytes(whole)
    (videos / 'no.mp4').unlink()
    (out / 'walk/a/img_00001.jpg').write_text('unchanged')
    assert run(videos, out) == 0
    assert (out / 'walk/a/img_00001.jpg').read_text() == 'unchanged'
    assert (out / FAILURES_FILE).read_text() == ''
    assert len(read_folder(out / 'b')) == 20


def test_keep_damaged_writes_the_decodable_frames(videos, out):
    whole = (videos / 'b.avi').read_bytes()
    (videos / 'b.avi').write_bytes(whole[: len(whole) * 9 // 10])
    assert run(videos, out, '--keep-damaged') == 0
    assert json.loads((out / FAILURES_FILE).read_text())['kept']
    frames = read_folder(out / 'b')
    assert 4 < len(frames) < 20
    assert [read_index(frame) for frame in frames[:-2]] == list(range(len(frames) - 2))


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (['--quality', '101'], '--quality.* 1 .*100.*101'),
        (['--short-side', '-1'], '--short-side.* 0.*-1'),
        (['--fps', 'fast'], "'fast'"),
        (['--list', 'nowhere.txt'], 'nowhere.txt'),
        (['--workers', '-1'], '--workers.* 0.*-1'),
    ],
)
def test_invalid_options_are_reported(videos, out, capsys, options, text):
    with pytest.raises(SystemExit, match='^2$'):
        run(videos, out, *options)
    assert re.search(f'error: .*{text}', capsys.readouterr().err)

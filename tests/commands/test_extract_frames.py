"""Frame folders: the right frames in order, and every option."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dsanet import commands
from dsanet.data_tools.video.batch import FAILURES_FILE
from dsanet.datasets.video.readers import PyAVReader
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
    """Return the frames as RGB, by their numbers, of which none may be missing."""
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f'img_{number:05d}.jpg' for number in range(1, len(files) + 1)]
    return [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def test_every_frame_is_written_once_in_order(videos, out):
    assert run(videos, out) == 0
    for video, folder, num_frames in (('walk/a.mp4', 'walk/a', 30), ('b.avi', 'b', 20)):
        frames = read_folder(out / folder)
        assert [read_index(frame) for frame in frames] == list(range(num_frames))
        reader = PyAVReader(str(videos / video))
        originals = reader.read(np.arange(num_frames))
        reader.close()
        for frame, original in zip(frames, originals, strict=True):
            assert psnr(frame, original) > 33


def test_the_data_set_reads_what_is_written(videos, out, tmp_path):
    run(videos, out)
    (tmp_path / 'list.txt').write_text('walk/a 30 3\nb 20 1\n')
    dataset = RawFramesDataset([], str(tmp_path / 'list.txt'), str(out))
    for record in dataset.records:
        assert len(list(Path(record.path).iterdir())) == record.num_frames
    assert (Path(dataset.records[0].path) / dataset.filename_tmpl.format(dataset.start_index)).is_file()


def test_rate_and_size_can_be_chosen(videos, out):
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


def test_repeated_frames_are_repeated(videos, out):
    run(videos, out, '--fps', '50')
    assert [read_index(frame) for frame in read_folder(out / 'b')] == sorted([*range(20)] * 2)


@pytest.mark.parametrize(('short_side', 'shape'), [(256, (72, 128, 3)), (0, (72, 128, 3)), (18, (18, 32, 3))])
def test_nothing_is_enlarged(videos, out, short_side, shape):
    run(videos, out, '--short-side', short_side)
    assert read_folder(out / 'b')[0].shape == shape


def test_quality_is_of_jpeg(videos, tmp_path):
    sizes = []
    for quality in (20, 95):
        run(videos, tmp_path / str(quality), '--quality', quality)
        sizes.append(sum(file.stat().st_size for file in (tmp_path / str(quality) / 'b').iterdir()))
    assert 1.15 * sizes[0] < sizes[1]


def test_phones_are_turned_upright_and_colors_kept(tmp_path, out):
    (tmp_path / 'videos').mkdir()
    rotate_video(write_video(tmp_path / 'videos/phone.mp4', 5))
    run(tmp_path / 'videos', out)
    frames = read_folder(out / 'phone')
    assert frames[0].shape == (128, 72, 3)
    assert [read_index(np.rot90(frame)) for frame in frames] == list(range(5))


def test_only_the_videos_of_a_list(videos, out, tmp_path):
    (tmp_path / 'list.txt').write_text('b.avi 0\n')
    assert run(videos, out, '--list', tmp_path / 'list.txt') == 0
    assert not (out / 'walk').exists()
    assert len(read_folder(out / 'b')) == 20


def test_what_failed_is_listed_and_done_again(videos, out, capsys):
    whole = (videos / 'b.avi').read_bytes()
    (videos / 'b.avi').write_bytes(whole[: len(whole) * 9 // 10])
    (videos / 'no.mp4').write_text('no video')
    assert run(videos, out) == 1
    assert '1 written, 0 there already, 2 failed' in capsys.readouterr().out
    failures = [json.loads(line) for line in (out / FAILURES_FILE).read_text().splitlines()]
    assert [failure['path'] for failure in failures] == ['b.avi', 'no.mp4']
    assert 'it is damaged behind frame' in failures[0]['reason']
    assert 'Invalid data found' in failures[1]['reason']
    assert sorted(path.name for path in out.iterdir()) == [FAILURES_FILE, 'settings.json', 'walk']

    (videos / 'b.avi').write_bytes(whole)
    (videos / 'no.mp4').unlink()
    (out / 'walk/a/img_00001.jpg').write_text('not to be touched')
    assert run(videos, out) == 0
    assert '1 written, 1 there already, 0 failed' in capsys.readouterr().out
    assert (out / 'walk/a/img_00001.jpg').read_text() == 'not to be touched'
    assert (out / FAILURES_FILE).read_text() == ''


def test_damaged_videos_can_be_kept(videos, out, capsys):
    whole = (videos / 'b.avi').read_bytes()
    (videos / 'b.avi').write_bytes(whole[: len(whole) * 9 // 10])
    assert run(videos, out, '--keep-damaged') == 0
    assert '2 written, 0 there already, 0 failed, 1 damaged but kept' in capsys.readouterr().out
    frames = read_folder(out / 'b')
    assert 4 < len(frames) < 20
    assert [read_index(frame) for frame in frames[:-2]] == list(range(len(frames) - 2))


def test_workers_write_the_same(videos, out, tmp_path):
    assert run(videos, out, '--workers', '2', '--time-limit', '60') == 0
    run(videos, tmp_path / 'other')
    for file in (out / 'walk/a').iterdir():
        assert file.read_bytes() == (tmp_path / 'other/walk/a' / file.name).read_bytes()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--quality', '0'], '--quality is 0, must be from 1 to 100'),
        (['--quality', '101'], '--quality is 101, must be from 1 to 100'),
        (['--short-side', '-1'], '--short-side is -1, must be 0 or more'),
        (['--fps', 'fast'], "'fast' is no rate"),
        (['--list', 'nowhere.txt'], 'nowhere.txt'),
        (['--workers', '-1'], 'num_workers is -1'),
    ],
)
def test_wrong_options_are_explained(videos, out, capsys, options, message):
    with pytest.raises(SystemExit) as caught:
        run(videos, out, *options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_other_settings_need_another_folder(videos, out, capsys):
    run(videos, out)
    with pytest.raises(SystemExit):
        run(videos, out, '--quality', '80')
    assert 'was begun with other settings (quality 90 instead of 80)' in capsys.readouterr().err

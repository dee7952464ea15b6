"""All commands of docs/own_data.md, in their order, on generated videos like those of a phone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from dsanet.utils.json_lines import read_json_lines
from tests.docs.pages import PAGES
from tests.make_videos import rotate_video

PAGE = PAGES['docs/own_data.md']
CLASSES = ('clap', 'jump', 'wave')
VIDEOS_PER_CLASS = 12
NUM_FRAMES = 36


def draw_gesture(name: str, rng: np.random.Generator, height: int = 96, width: int = 160) -> list[np.ndarray]:
    """Draw two clapping hands, a jumping body or a waving hand; RGB (height, width, 3) each."""
    color = rng.uniform(140, 255, 3)
    background = rng.uniform(0, 80, 3)
    x, y = (side / 2 + rng.uniform(-8, 8) for side in (width, height))
    phase, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.6)
    frames = []
    for number in range(NUM_FRAMES):
        swing = 24 * np.sin(phase + speed * number)
        both = [(x - abs(swing), y), (x + abs(swing), y)]
        frame = np.full((height, width, 3), background, np.uint8)
        for center in {'clap': both, 'jump': [(x, y + swing)], 'wave': [(x + swing, y)]}[name]:
            cv2.circle(frame, tuple(round(c) for c in center), 14, color.tolist(), -1)
        frames.append(frame)
    return frames


def write_phone_video(path: Path, name: str, seed: tuple[int, ...], upright: bool) -> None:
    """Write a MOV as phones do: landscape frames, with rotation metadata if the phone was upright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = draw_gesture(name, np.random.default_rng(seed), *((160, 96) if upright else (96, 160)))
    with av.open(str(path), 'w', format='mov') as container:
        stream = container.add_stream('libx264', rate=15, options={'g': '30', 'crf': '20'})
        stream.height, stream.width, stream.pix_fmt = 96, 160, 'yuv420p'
        for frame in frames:
            stored = np.rot90(frame, 1 if upright else 0).copy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format='rgb24')))
        container.mux(stream.encode(None))
    if upright:
        rotate_video(path)


def read_commands() -> list[tuple[str, str]]:
    """Return (language, text) of the blocks of the page."""
    return re.findall(r'^```(bash|python)\n(.*?)^```$', PAGE, flags=re.M | re.S)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a user's folder with the videos of step 1."""
    folder = tmp_path_factory.mktemp('user')
    phone = folder / 'data' / 'my_videos' / 'phone'
    for label, name in enumerate(CLASSES):
        for number in range(VIDEOS_PER_CLASS):
            write_phone_video(phone / name / f'IMG {number:04d}.MOV', name, (label, number), upright=number % 3 == 0)
    write_phone_video(phone.with_name('new.MOV'), 'wave', (9, 9), upright=True)
    return folder


def test_page_has_all_commands() -> None:
    text = ' '.join(command for _, command in read_commands())
    commands = ('transcode', 'build-list', 'extract-frames', 'check', 'browse', 'train', 'curves', 'test', 'predict')
    for name in commands:
        assert f'dsanet {name}' in text
    assert 'num_classes' not in text
    # All commands are in blocks that the next test runs.
    outside = re.sub(r'^```(bash|python)\n.*?^```$', '', PAGE, flags=re.M | re.S)
    assert not re.search(r'^\s*(python|bash|dsanet) ', outside, flags=re.M)


@pytest.mark.sweep
def test_all_commands_of_the_page_work(folder: Path) -> None:
    environment = {
        **os.environ,
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        'OMP_NUM_THREADS': '1',
    }
    outputs = []
    for language, text in read_commands():
        command = ['bash', '-e', '-c', text] if language == 'bash' else [sys.executable, '-c', text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f'{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
        outputs.append(done.stdout)

    data, out = folder / 'data' / 'my_videos', folder / 'work_dirs' / 'small_from_scratch'
    assert (data / 'classes.txt').read_text().split() == list(CLASSES)
    assert [len((data / name).read_text().splitlines()) for name in ('train.txt', 'val.txt')] == [27, 9]
    for name in ('train', 'val'):
        of_videos, of_frames = ((data / f'{name}{end}.txt').read_text().splitlines() for end in ('', '_frames'))
        # 36 frames at 15 fps become 72 at 30 fps.
        assert of_frames == [line.replace('.mp4 ', ' 72 ') for line in of_videos]
    frames_report = json.loads((folder / 'work_dirs/small_from_scratch_frames/check/report.json').read_text())
    assert (frames_report['fit'], frames_report['splits']['val']['frames']) == (True, [72, 72, 72])
    report = json.loads((out / 'check' / 'report.json').read_text())
    assert report['fit']
    assert report['findings'] == [] or {finding['level'] for finding in report['findings']} == {'note'}
    # Every third video is upright, and so is its copy.
    assert report['splits']['train']['resolutions'].keys() == {'160x96', '96x160'}
    assert (out / 'check' / 'classes_1.png').is_file()
    assert sum(file.suffix == '.mp4' for file in (out / 'browse').iterdir()) == 2
    assert len(list((out / 'browse').glob('*.png'))) >= 2
    assert (out / 'curves.png').is_file()
    accuracies = [line['val/top1'] for line in read_json_lines(out / 'scalars.jsonl') if 'val/top1' in line]
    assert len(accuracies) == 10
    scores = json.loads((out / 'scores.json').read_text())
    assert len(scores) == 9
    predicted = json.loads(outputs[-1])
    assert set(predicted['labels']) == set(CLASSES)
    assert sum(predicted['probabilities']) == pytest.approx(1, abs=1e-5)

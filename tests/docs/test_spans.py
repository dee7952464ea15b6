"""All commands of docs/spans.md, in their order, on generated films."""

import csv
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

from tests.docs.pages import PAGES, code_blocks

PAGE = PAGES['docs/spans.md']
RATE = 15


def write_film(path: Path, spans: list[tuple[float, float, str]], seconds: float) -> None:
    """Write a film with a disc that moves up and down in a 'jump', from side to side in a 'wave', and rests between."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=RATE, options={'g': '45', 'crf': '20', 'preset': 'veryfast'})
        stream.height, stream.width, stream.pix_fmt = 96, 160, 'yuv420p'
        for number in range(round(seconds * RATE)):
            label = next((name for start, end, name in spans if start <= number / RATE < end), '')
            swing = round(24 * np.sin(0.5 * number))
            frame = np.full((96, 160, 3), 60, np.uint8)
            center = (80 + swing * (label == 'wave'), 48 + swing * (label == 'jump'))
            cv2.circle(frame, center, 14, (220, 180, 140), -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode(None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a user's folder with four films of three actions and their table."""
    rng = np.random.default_rng(0)
    (tmp_path / 'data/films/videos').mkdir(parents=True)
    (tmp_path / 'data/films/annotations').mkdir()
    with (tmp_path / 'data/films/annotations/all.csv').open('w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['video', 'label', 'start', 'end'])
        for number in range(4):
            starts = [5.0 * n + round(float(rng.uniform(2.1, 2.4)), 2) for n in range(3)]
            spans = [(start, start + 2, str(rng.choice(['jump', 'wave']))) for start in starts]
            write_film(tmp_path / f'data/films/videos/{number}.mp4', spans, 15)
            rows.writerows([f'{number}.mp4', name, f'{start:.2f}', f'{end:.2f}'] for start, end, name in spans)
    return tmp_path


def test_page_has_all_commands() -> None:
    commands = ' '.join(code_blocks(PAGE, 'bash'))
    for name in ('build-list', 'check', 'browse', 'train', 'test', 'predict'):
        assert f'dsanet {name} ' in commands


@pytest.mark.sweep
def test_all_commands_of_the_page_work(folder: Path) -> None:
    environment = {
        **os.environ,
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        'OMP_NUM_THREADS': '1',
    }
    for text in code_blocks(PAGE, 'bash'):
        command = ['bash', '-e', '-c', text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f'{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
    out = folder / 'work_dirs' / 'small_from_scratch'
    assert (folder / 'data/films/classes.txt').read_text().split() == ['jump', 'wave', 'none']
    report = json.loads((out / 'check' / 'report.json').read_text())
    assert report['fit']
    # As many background spans as labeled ones.
    assert {name: split['videos'] for name, split in report['splits'].items()} == {'train': 18, 'val': 6, 'test': 6}
    with (folder / 'data/films/val.csv').open() as file:
        listed = {f'data/films/videos/{row["video"]}#{row["start"]}-{row["end"]}' for row in csv.DictReader(file)}
    assert {entry['path'] for entry in json.loads((out / 'scores.json').read_text())} == listed
    assert len(listed) == 6
    assert re.search(r'train_epoch1_1\.png', ' '.join(os.listdir(out / 'browse')))

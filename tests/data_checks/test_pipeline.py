import errno
import os
import random
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dsanet.data_checks import pipeline
from dsanet.data_checks.pipeline import MAX_ATTEMPTS, try_pipelines
from dsanet.data_checks.probe import ProbeResult
from dsanet.data_checks.report import Finding
from dsanet.data_checks.splits import Split
from dsanet.datasets.records import VideoRecord
from dsanet.datasets.transforms import (
    CenterCrop,
    DecodeRawFrames,
    DecodeVideo,
    Flip,
    OpenVideo,
    PackInputs,
    SampleSnippets,
)
from dsanet.datasets.transforms.base import BadSample, Record, Transform
from tests.data_checks.conftest import numbers
from tests.make_videos import write_frames, write_video

SAMPLE = 2 * 2 * 3 * 32 * 32  # bytes


@pytest.fixture(scope='module')
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of 72 x 128, one of 36 x 64, and five files that are not videos."""
    folder = tmp_path_factory.mktemp('videos')
    for number in range(4):
        write_video(folder / f'{number}.mp4', 12)
    write_video(folder / 'small.mp4', 12, 36, 64)
    for number in range(5):
        (folder / f'bad{number}.mp4').write_text('no video')
    return folder


def make_split(folder: Path, names: list[str], crop: int = 32, name: str = 'val', **options: object) -> Split:
    records = [VideoRecord(str(folder / f'{video}.mp4'), (0,), 'list.txt', i + 1) for i, video in enumerate(names)]
    steps = [OpenVideo('pyav'), SampleSnippets(2, 2), DecodeVideo(), CenterCrop(crop), PackInputs()]
    return Split(name, records, 2, **{'steps': steps, **options})


def test_working_pipelines_have_no_findings(videos: Path) -> None:
    labels = {'multi_hot': 3, 'records': [VideoRecord(str(videos / '1.mp4'), (0, 2), 'list.txt', 1)]}
    several = Split(
        'test', steps=[*make_split(videos, []).steps[:4], Flip(swap_labels=((0, 1),)), PackInputs()], **labels
    )
    assert try_pipelines([make_split(videos, ['0', '1'], name='train'), make_split(videos, ['2']), several]) == []


@pytest.mark.parametrize(
    ('free', 'levels'),
    [(10 * 2 * SAMPLE, []), (10 * 2 * SAMPLE - 1, ['warning']), (2 * SAMPLE, ['warning']), (2 * SAMPLE - 1, ['error'])],
)
def test_queued_batches_must_fit_into_shared_memory(
    free: int, levels: list[str], videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, 'free_shared_memory', lambda: free)
    # Four workers prepare two batches each, and two more are in use.
    found = try_pipelines([make_split(videos, ['0'], batch_size=2, num_workers=4)])
    assert [finding.level for finding in found] == levels
    assert all('--shm-size' in finding.text for finding in found)
    assert try_pipelines([make_split(videos, ['0'], batch_size=2, num_workers=0)]) == []


def test_shortage_is_not_a_bad_video(videos: Path) -> None:
    class Lack(Transform):
        def __call__(self, record: Record) -> Record:
            raise BadSample('x', 'x', 'x') from OSError(errno.EMFILE, 'x')

    (found,) = try_pipelines([make_split(videos, ['0'], steps=[Lack()])])
    assert found.level == 'error'
    assert 'ulimit -n' in found.text


def test_failing_step_is_an_error_of_its_split(videos: Path) -> None:
    splits = [make_split(videos, ['0'], name='train'), make_split(videos, ['1', '2'], crop=80)]
    (found,) = try_pipelines(splits)
    assert (found.level, found.check, found.split) == ('error', 'pipeline', 'val')
    assert re.search('80x80.*72x128', found.text)
    assert found.examples == (f'list.txt:1: {videos}/1.mp4',)


def test_missing_decoder_package_is_an_error(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'av', None)
    (found,) = try_pipelines([make_split(videos, ['0', '1'])])
    assert found.level == 'error'
    assert "decoder='pyav'" in found.text
    assert '\n' not in found.text


def test_frame_folders_are_tried(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / 'v', 6, start_index=0)
    steps = [SampleSnippets(2, 2), DecodeRawFrames(), CenterCrop(80), PackInputs()]
    frames = Split(
        'train', [VideoRecord(folder, (1,), 'x', 1, 6)], 2, steps=steps, filename_tmpl='img_{:05d}.jpg', start_index=0
    )
    assert re.search('80x80.*72x128', try_pipelines([frames])[0].text)


def test_next_video_is_tried_after_a_bad_one(videos: Path) -> None:
    # The order of five videos begins with 0 and 3.
    names = ['bad0', '1', '2', 'bad1', '0']
    assert [f.level for f in try_pipelines([make_split(videos, names, crop=80)])] == ['error']
    assert try_pipelines([make_split(videos, names)]) == []


def test_only_bad_videos_are_a_warning(videos: Path) -> None:
    (found,) = try_pipelines([make_split(videos, [f'bad{i}' for i in range(5)])])
    assert (found.level, numbers(found.text), len(found.examples)) == ('warning', ['3'], MAX_ATTEMPTS)
    assert re.match(f"list.txt:1: {videos}/bad0.mp4 .*decoder='pyav'", found.examples[0])


def test_missing_videos_are_not_reported(videos: Path) -> None:
    assert try_pipelines([make_split(videos, ['nowhere', 'neither'])]) == []
    (found,) = try_pipelines([make_split(videos, ['nowhere', 'bad0'])])
    assert [example.split()[0] for example in found.examples] == ['list.txt:2:']


def test_smallest_known_video_is_tried_first(videos: Path) -> None:
    split = make_split(videos, ['0', '1', 'small', 'bad0'], crop=40)
    assert try_pipelines([split]) == []
    sizes = [(72, 128), (72, 128), (36, 64), (0, 0)]
    facts = {
        split.probe_task(record): ProbeResult(record.path, 'ok' if height else 'unreadable', height=height, width=width)
        for record, (height, width) in zip(split.records, sizes, strict=True)
    }
    assert try_pipelines([split], facts)[0].examples == (f'list.txt:3: {videos}/small.mp4',)


def test_splits_with_findings_are_skipped(videos: Path) -> None:
    assert try_pipelines([make_split(videos, ['0'], crop=80, findings=(Finding('error', 'list', 'val', 'x'),))]) == []


class Fail(Transform):
    """End by a signal, hang, or raise an unexpected error."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, record: Record) -> Record:
        if self.how == 'crash':
            os.kill(os.getpid(), signal.SIGKILL)
        while self.how == 'hang':
            signal.pause()
        raise IndexError('out of range')


def test_hanging_and_crashing_steps_are_reported(videos: Path) -> None:
    for how, level, tokens in (
        ('crash', 'warning', r'1\.mp4.*SIGKILL'),
        ('hang', 'warning', r'1\.mp4.*\b0\.5\b'),
        ('raise', 'error', r'out of range \[IndexError\]'),
    ):
        (found,) = try_pipelines([make_split(videos, ['1'], steps=[Fail(how)])], time_limit=0.5)
        assert found.level == level
        assert re.search(tokens, str(found))


class DrawFromGlobal(Transform):
    """Draw from every global generator."""

    def __call__(self, record: Record) -> Record:
        random.random()
        np.random.rand()
        torch.rand(1)
        return record


def test_random_state_of_process_is_unchanged(videos: Path) -> None:
    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    assert try_pipelines([make_split(videos, ['0'], steps=[DrawFromGlobal()])]) == []
    after = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])

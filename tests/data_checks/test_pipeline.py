import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dsanet.data_checks.pipeline import ATTEMPTS, try_pipelines
from dsanet.data_checks.probe import FileFacts
from dsanet.data_checks.report import Finding
from dsanet.data_checks.splits import Split
from dsanet.datasets.annotation import VideoRecord
from dsanet.datasets.transforms import (
    CenterCrop,
    DecodeRawFrames,
    DecodeVideo,
    Flip,
    OpenVideo,
    PackInputs,
    SampleSnippets,
)
from dsanet.datasets.transforms.base import Record, Transform
from tests.make_videos import write_frames, write_video


@pytest.fixture(scope='module')
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of 72 x 128, one of 36 x 64, and files that are none."""
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


def test_pipelines_that_work_give_no_finding(videos: Path) -> None:
    labels = {'multi_hot': 3, 'records': [VideoRecord(str(videos / '1.mp4'), (0, 2), 'list.txt', 1)]}
    several = Split(
        'test', steps=[*make_split(videos, []).steps[:4], Flip(swap_labels=((0, 1),)), PackInputs()], **labels
    )
    assert try_pipelines([make_split(videos, ['0', '1'], name='train'), make_split(videos, ['2']), several]) == []


def test_a_step_that_fails_is_an_error_of_its_split(videos: Path) -> None:
    splits = [make_split(videos, ['0'], name='train'), make_split(videos, ['1', '2'], crop=80)]
    (found,) = try_pipelines(splits)
    assert (found.level, found.check, found.split) == ('error', 'pipeline', 'val')
    assert found.text == (
        'the pipeline fails, which ends a run: a crop of 80x80 (height x width) is larger than the frames, 72x128; '
        'put Resize with a larger short_side before it'
    )
    assert found.examples == (f'list.txt:1: {videos}/1.mp4',)


def test_a_decoder_that_is_not_installed_is_an_error(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'av', None)
    (found,) = try_pipelines([make_split(videos, ['0', '1'])])
    assert found.level == 'error'
    assert "decoder='pyav' cannot be imported" in found.text
    assert '\n' not in found.text


def test_folders_of_frames_are_tried_too(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / 'v', 6, start_index=0)
    steps = [SampleSnippets(2, 2), DecodeRawFrames(), CenterCrop(80), PackInputs()]
    frames = Split(
        'train', [VideoRecord(folder, (1,), 'x', 1, 6)], 2, steps=steps, filename_tmpl='img_{:05d}.jpg', start_index=0
    )
    assert 'is larger than the frames' in try_pipelines([frames])[0].text


def test_another_video_is_tried_in_place_of_a_bad_one(videos: Path) -> None:
    # The golden ratio begins at 0 and goes on at 3 of five.
    names = ['bad0', '1', '2', 'bad1', '0']
    assert [f.level for f in try_pipelines([make_split(videos, names, crop=80)])] == ['error']
    assert try_pipelines([make_split(videos, names)]) == []


def test_bad_videos_only_are_no_error_of_the_pipeline(videos: Path) -> None:
    (found,) = try_pipelines([make_split(videos, [f'bad{i}' for i in range(5)])])
    assert (found.level, len(found.examples)) == ('warning', ATTEMPTS)
    assert found.text == 'the pipeline could not be tried: none of 3 videos can be read'
    assert found.examples[0].startswith(f'list.txt:1: {videos}/bad0.mp4 cannot be opened with decoder=')


def test_missing_videos_are_left_to_another_check(videos: Path) -> None:
    assert try_pipelines([make_split(videos, ['nowhere', 'neither'])]) == []
    (found,) = try_pipelines([make_split(videos, ['nowhere', 'bad0'])])
    assert [example.split()[0] for example in found.examples] == ['list.txt:2:']


def test_of_known_videos_the_smallest_is_tried(videos: Path) -> None:
    split = make_split(videos, ['0', '1', 'small', 'bad0'], crop=40)
    assert try_pipelines([split]) == []
    sizes = [(72, 128), (72, 128), (36, 64), (0, 0)]
    facts = {
        split.job_of(record): FileFacts(record.path, 'ok' if height else 'unreadable', height=height, width=width)
        for record, (height, width) in zip(split.records, sizes, strict=True)
    }
    assert try_pipelines([split], facts)[0].examples == (f'list.txt:3: {videos}/small.mp4',)


def test_splits_with_wrong_lists_are_left_out(videos: Path) -> None:
    assert try_pipelines([make_split(videos, ['0'], crop=80, findings=(Finding('error', 'list', 'val', 'x'),))]) == []


class Stumble(Transform):
    """Die of a signal, never end, or raise what a step does not."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, record: Record) -> Record:
        if self.how == 'crash':
            os.kill(os.getpid(), signal.SIGKILL)
        while self.how == 'hang':
            signal.pause()
        raise IndexError('out of range')


def test_decoders_that_hang_or_crash_do_not_take_the_run_along(videos: Path) -> None:
    for how, level, said in (
        ('crash', 'warning', '1.mp4: the process died of SIGKILL'),
        ('hang', 'warning', '1.mp4: not done after 0.5 s'),
        ('raise', 'error', 'ends a run: out of range [IndexError]'),
    ):
        (found,) = try_pipelines([make_split(videos, ['1'], steps=[Stumble(how)])], time_limit=0.5)
        assert found.level == level
        assert said in str(found)


class DrawFromAll(Transform):
    """Draw from every global generator."""

    def __call__(self, record: Record) -> Record:
        random.random()
        np.random.rand()
        torch.rand(1)
        return record


def test_the_random_state_of_the_process_stays(videos: Path) -> None:
    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    assert try_pipelines([make_split(videos, ['0'], steps=[DrawFromAll()])]) == []
    after = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])

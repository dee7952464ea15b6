"""The decoding benchmark: all candidates read the same frames, and the table reports their times."""

import time
from pathlib import Path

import av
import numpy as np
import pytest

from dsanet.data_tools.video.decoding_benchmark import (
    FRAMES,
    TRANSCODED,
    Candidate,
    draw_texture,
    draw_video,
    make_table,
    measure,
    measure_in_worker,
    prepare,
    write_original,
)
from dsanet.datasets.video.readers import READERS, is_installed
from dsanet.datasets.video.subprocess_reader import can_isolate
from tests.make_videos import write_video

DECODERS = [decoder for decoder in READERS if is_installed(decoder)]


def test_texture_has_a_natural_spectrum():
    texture = draw_texture(np.random.default_rng(0), 128, 128)
    assert texture.shape == (128, 128, 3)
    assert 90 < texture.mean() < 150
    # Contrast falls with the frequency: neighbors are much alike, distant points are not.
    gray = texture.mean(axis=-1)
    assert np.abs(np.diff(gray, axis=1)).mean() < 0.3 * np.abs(gray[:, 64:] - gray[:, :64]).mean()


def test_videos_move_and_depend_on_the_seed():
    frames = list(draw_video(1, num_frames=6, height=64, width=96))
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * 6
    for one, other in zip(frames, draw_video(1, num_frames=6, height=64, width=96), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(frames[0], next(draw_video(2, num_frames=1, height=64, width=96)))
    near, far = (np.abs(frames[0].astype(int) - frames[k]).mean() for k in (1, 5))
    assert 0.5 < near < far


@pytest.mark.parametrize('gop', [4, 10])
def test_originals_have_the_requested_key_frames(tmp_path, gop):
    write_original(tmp_path / 'a.mp4', 0, gop, 24, 64, 96)
    with av.open(str(tmp_path / 'a.mp4')) as container:
        packets = sorted((p.pts, p.is_keyframe) for p in container.demux(video=0) if p.size)
    assert [number for number, (_, is_key) in enumerate(packets) if is_key] == list(range(0, 24, gop))


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    (tmp_path / 'videos' / 'b').mkdir(parents=True)
    write_video(tmp_path / 'videos' / 'a.mp4', 40)
    write_video(tmp_path / 'videos' / 'b' / 'c.avi', 40, codec='mpeg4')
    return tmp_path / 'videos'


def test_all_candidates_read_the_same_frames(originals, tmp_path):
    names = ['a.mp4', 'b/c.avi']
    own = tmp_path / 'work' / 'lists' / 'frames.txt'
    own.parent.mkdir(parents=True)
    own.write_text('of the user')
    candidates = prepare({'original': originals}, names, tmp_path / 'work', 0)
    assert own.read_text() == 'of the user'
    expected = [(source, decoder) for source in ('original', *TRANSCODED) for decoder in DECODERS]
    assert [(candidate.source, candidate.decoder) for candidate in candidates] == [*expected, (FRAMES, '-')]
    reference = candidates[-1].dataset[3, 1]['inputs'].float()
    assert reference.shape == (1, 4, 3, 8, 224, 224)
    for candidate in candidates:
        difference = (candidate.dataset[3, 1]['inputs'].float() - reference).abs().mean()
        assert difference < 6, (candidate.source, candidate.decoder)
    assert candidates[-1].disk_usage()[1] == 80
    assert candidates[0].disk_usage() == (sum((originals / name).stat().st_size for name in names), 2)


def test_name_with_line_break_is_an_error(originals, tmp_path):
    with pytest.raises(ValueError, match=r"'a\\nb\.mp4'"):
        prepare({'original': originals}, ['a\nb.mp4'], tmp_path / 'work', 0)


def test_conversion_failure_names_the_video(originals, tmp_path):
    (originals / 'a.mp4').write_text('no video')
    with pytest.raises(ValueError, match=r'a\.mp4.*text file'):
        prepare({'original': originals}, ['a.mp4'], tmp_path / 'work', 0)


class Samples:
    """A dataset that records its keys and may fail."""

    def __init__(self, asked: list, name: str, broken: bool = False) -> None:
        self.asked, self.name, self.broken = asked, name, broken

    def __getitem__(self, key: tuple[int, int]) -> None:
        self.asked.append((*key, self.name))
        if self.broken:
            raise ValueError('no such frame')


def test_measuring_alternates_and_ignores_the_first_round(tmp_path):
    asked: list = []
    candidates = [
        Candidate(name, 'pyav', Samples(asked, name, name == 'b'), tmp_path, ['1', '2']) for name in ('a', 'b', 'c')
    ]
    assert measure(candidates, 2) == ['b, pyav: no such frame']
    assert [len(candidate.times) for candidate in candidates] == [4, 0, 4]
    assert [entry for entry in asked if entry[2] == 'b'] == [(0, 0, 'b')]
    turns = [(epoch, index) for epoch in range(3) for index in range(2)]
    assert [entry[:2] for entry in asked if entry[2] == 'a'] == turns
    assert [entry[:2] for entry in asked if entry[2] == 'c'] == turns
    assert {asked[0][2], asked[3][2]} == {'a', 'c'}, 'each candidate is first once'


def test_table_has_medians_of_ratios(tmp_path):
    (tmp_path / 'a.mp4').write_bytes(bytes(1_500_000))
    slow = Candidate('slow', 'pyav', None, tmp_path, ['a.mp4'], [0.02, 0.04, 0.09])
    broken = Candidate('broken', 'decord', None, tmp_path, ['a.mp4'])
    frames = Candidate('frames', '-', None, tmp_path, ['a.mp4'], [0.01, 0.01, 0.03])
    lines = make_table([slow, broken, frames]).splitlines()[2:]
    assert [line.strip('| ').replace(' ', '').split('|') for line in lines] == [
        ['slow', 'pyav', '40.0', '3.00', '1.5', '1'],
        ['broken', 'decord', '-', '-', '1.5', '1'],
        ['frames', '-', '10.0', '1.00', '1.5', '1'],
    ]


class Where(Samples):
    """A slow dataset that asserts that it runs in a data worker."""

    def __getitem__(self, key: tuple[int, int]) -> None:
        assert can_isolate()
        time.sleep(0.01)


def test_measuring_runs_in_a_worker(tmp_path):
    candidates = [
        Candidate('a', 'pyav', Where([], 'a'), tmp_path, ['1', '2']),
        Candidate('b', 'pyav', Samples([], 'b', broken=True), tmp_path, ['1', '2']),
    ]
    assert measure_in_worker(candidates, 3) == ['b, pyav: no such frame']
    assert len(candidates[0].times) == 6
    assert min(candidates[0].times) >= 0.01
    assert candidates[1].times == []

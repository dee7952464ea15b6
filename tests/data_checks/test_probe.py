import errno
import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from dsanet.data_checks import probe
from dsanet.data_checks.probe import ProbeResult, ProbeTask, inspect_video, inspect_videos, read_facts, read_frames
from tests.data_checks.conftest import numbers
from tests.make_videos import draw_frame, read_index, rotate_video, write_frames, write_video


def fail(job: ProbeTask) -> ProbeResult:
    raise ZeroDivisionError('division')


def crash_or_inspect(job: ProbeTask) -> ProbeResult:
    if job.path.endswith('crash.mp4'):
        os._exit(9)
    if job.path.endswith('hang.mp4'):
        time.sleep(60)
    return inspect_video(job)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return Path(write_video(tmp_path / 'a.mp4', 40, 90, 160))


@pytest.mark.parametrize('decoder', ['pyav', 'decord', 'opencv'])
def test_video_is_inspected(video: Path, decoder: str) -> None:
    facts = inspect_video(ProbeTask(str(video), decoder))
    assert (facts.kind, facts.num_frames, facts.height, facts.width, facts.fps) == ('ok', 40, 90, 160, 25.0)
    assert facts.error is facts.warning is facts.digest is None


def test_size_is_that_of_rotated_video(video: Path) -> None:
    rotate_video(video)
    facts = inspect_video(ProbeTask(str(video), 'pyav'))
    assert (facts.height, facts.width) == (160, 90)


def test_unreadable_files_have_kind_and_error(tmp_path: Path, video: Path) -> None:
    (tmp_path / 'empty.mp4').touch()
    (tmp_path / 'text.mp4').write_text('no video')
    (tmp_path / 'cut.mp4').write_bytes(video.read_bytes()[:2000])
    kinds = {}
    for name in ('nowhere.mp4', 'empty.mp4', 'text.mp4', 'cut.mp4'):
        facts = inspect_video(ProbeTask(str(tmp_path / name), 'pyav'))
        kinds[name] = facts.kind
        assert str(tmp_path / name) in str(facts.error)
    assert kinds == {
        'nowhere.mp4': 'missing',
        'empty.mp4': 'missing',
        'text.mp4': 'unreadable',
        'cut.mp4': 'unreadable',
    }


def test_missing_decoder_package_raises(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__('sys').modules, 'decord', None)
    with pytest.raises(ImportError, match='decord'):
        inspect_video(ProbeTask(str(video), 'decord'))
    with pytest.raises(ImportError, match='decord'):
        inspect_videos([ProbeTask(str(video), 'decord')], None, 1, 60)


def test_unexpected_error_names_the_video(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, '_inspect', fail)
    with pytest.raises(RuntimeError, match=r'a\.mp4: ZeroDivisionError: division'):
        inspect_videos([ProbeTask(str(video), 'pyav')], None, 1, 60)


def test_dangling_frame_link_makes_video_unreadable(tmp_path: Path) -> None:
    job = ProbeTask(write_frames(tmp_path / 'v', 60), None, 60, 'img_{:05d}.jpg', 1, digest=True)
    frame = tmp_path / 'v' / 'img_00034.jpg'  # not one of the decoded frames, so that only the digest opens it
    frame.unlink()
    frame.symlink_to(tmp_path / 'nowhere.jpg')
    facts = inspect_videos([job], tmp_path / 'files.jsonl', 1, 60)[0][job]
    assert (facts.kind, facts.digest) == ('unreadable', None)
    assert 'img_00034.jpg' in str(facts.error)


def test_every_frame_finds_damage_between_decoded_frames(tmp_path: Path) -> None:
    # One of the MPEG-4 frames between two decoded ones is overwritten: decoders conceal that.
    file = Path(write_video(tmp_path / 'a.avi', 100, codec='mpeg4', g='1', bf='0'))
    with av.open(str(file)) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
    data = bytearray(file.read_bytes())
    start = packets[50].pos + 100
    data[start : start + 200] = bytes(200)
    file.write_bytes(bytes(data))
    assert inspect_video(ProbeTask(str(file), 'opencv')).warning is None
    facts = inspect_video(ProbeTask(str(file), 'opencv', every_frame=True))
    assert facts.kind == 'ok'
    assert re.search(r'a\.avi .*FFmpeg.*\b5\d\b', str(facts.warning))


def test_frame_folder_is_inspected(tmp_path: Path) -> None:
    write_frames(tmp_path / 'v', 20, 90, 160, 'f{:d}.png', 0)
    job = ProbeTask(str(tmp_path / 'v'), None, 20, 'f{:d}.png', 0)
    for every_frame in (False, True):
        facts = inspect_video(replace(job, every_frame=every_frame))
        assert (facts.kind, facts.num_frames, facts.height, facts.width) == ('ok', 20, 90, 160)
        assert facts.fps is facts.warning is None
    longer = inspect_video(replace(job, num_frames=15))
    assert re.search(r'f15\.png.*\b15\b', str(longer.warning))


def test_missing_and_damaged_frames_are_found(tmp_path: Path) -> None:
    job = ProbeTask(write_frames(tmp_path / 'v', 60), None, 60, 'img_{:05d}.jpg', 1)
    (tmp_path / 'v' / 'img_00034.jpg').write_bytes(b'')  # not one of the decoded frames
    assert inspect_video(job).kind == 'ok'
    facts = inspect_video(replace(job, every_frame=True))
    assert (facts.kind, 'img_00034.jpg' in str(facts.error)) == ('unreadable', True)
    (tmp_path / 'v' / 'img_00034.jpg').unlink()
    facts = inspect_video(job)
    assert (facts.kind, 'img_00034.jpg' in str(facts.error)) == ('unreadable', True)


def test_frames_of_different_sizes_are_found(tmp_path: Path) -> None:
    job = ProbeTask(write_frames(tmp_path / 'v', 40), None, 40, 'img_{:05d}.jpg', 1, every_frame=True)
    for number in range(33, 41):  # all of them in the second chunk
        cv2.imwrite(str(tmp_path / 'v' / f'img_{number:05d}.jpg'), draw_frame(1, 36, 64))
    assert inspect_video(job).kind == 'unreadable'


def test_read_frames_decodes_like_the_dataset(tmp_path: Path, video: Path) -> None:
    folder = write_frames(tmp_path / 'v', 20)
    for job in (ProbeTask(str(video), 'pyav'), ProbeTask(folder, None, 20, 'img_{:05d}.jpg', 1)):
        assert [read_index(frame) for frame in read_frames(job, np.array([3, 7, 19]))] == [3, 7, 19]


def test_digests_depend_on_content(tmp_path: Path, video: Path) -> None:
    (tmp_path / 'copy.mp4').write_bytes(video.read_bytes())
    write_video(tmp_path / 'other.mp4', 41)
    one, copy, other = (
        inspect_video(ProbeTask(str(tmp_path / name), 'pyav', digest=True)).digest
        for name in ('a.mp4', 'copy.mp4', 'other.mp4')
    )
    assert one == copy != other
    folders = [write_frames(tmp_path / name, n) for name, n in (('u', 5), ('v', 5), ('w', 6))]
    jobs = [ProbeTask(f, None, n, 'img_{:05d}.jpg', 1, digest=True) for f, n in zip(folders, (5, 5, 6), strict=True)]
    one, copy, other = (inspect_video(job).digest for job in jobs)
    assert one == copy != other


@pytest.fixture
def inspected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the videos that are not known yet."""
    paths: list[str] = []
    real = probe.run_in_processes
    monkeypatch.setattr(
        probe, 'run_in_processes', lambda work, tasks, *a: paths.extend(t.path for t in tasks) or real(work, tasks, *a)
    )
    return paths


def test_results_are_saved_and_reused(tmp_path: Path, video: Path, inspected: list[str]) -> None:
    kept = tmp_path / 'files.jsonl'
    other = write_video(tmp_path / 'b.mp4', 10)
    tasks = [
        ProbeTask(str(video), 'pyav'),
        ProbeTask(other, 'pyav'),
        ProbeTask(str(video), 'pyav'),
    ]  # the first and the last are equal
    facts, _ = inspect_videos(tasks, kept, 2, 60)
    assert inspected == [str(video), other]
    assert {f.num_frames for f in facts.values()} == {40, 10}
    kept.write_text(kept.read_text() + '{"key": "cut o')  # an incomplete line
    inspected.clear()
    assert inspect_videos(tasks, kept, 2, 60)[0] == facts
    assert inspected == []
    kept.write_text(''.join(kept.read_text().splitlines(keepends=True)[:1]) + '{"key": "cut o')
    assert inspect_videos(tasks, kept, 2, 60)[0].keys() == facts.keys()
    assert len(inspected) == 1
    inspect_videos(tasks, kept, 2, 60)
    assert len(inspected) == 1
    # A changed file, and an unchanged file with another option, are inspected again.
    write_video(other, 12)
    inspected.clear()
    changed, _ = inspect_videos([ProbeTask(str(video), 'pyav', digest=True), tasks[1]], kept, 1, 60)
    assert inspected == [str(video), other]
    assert changed[tasks[1]].num_frames == 12


def test_overwritten_frame_is_inspected_again(tmp_path: Path, inspected: list[str]) -> None:
    folder = write_frames(tmp_path / 'v', 8)
    frame = tmp_path / 'v' / 'img_00003.jpg'
    good = frame.read_bytes()
    tasks = [ProbeTask(folder, None, 8, 'img_{:05d}.jpg', 1)]
    kinds = []
    # Overwriting a file does not change the modification time of its folder; zeros of the same length keep the size.
    for content in (good, b'no picture', good, bytes(len(good)), good):
        frame.write_bytes(content)
        facts, _ = inspect_videos(tasks, tmp_path / 'files.jsonl', 1, 60)
        kinds += [one.kind for one in facts.values()]
        time.sleep(0.02)  # file systems have a coarse clock
    assert kinds == ['ok', 'unreadable', 'ok', 'unreadable', 'ok']
    inspect_videos(tasks, tmp_path / 'files.jsonl', 1, 60)
    assert len(inspected) == 5


def test_results_are_separate_per_decoder(tmp_path: Path, video: Path, inspected: list[str]) -> None:
    folder = write_frames(tmp_path / 'v', 8)
    tasks = [
        ProbeTask(str(video), 'pyav'),
        ProbeTask(str(video), 'decord'),
        ProbeTask(folder, None, 8, 'img_{:05d}.jpg', 1),
        ProbeTask(folder, None, 5, 'img_{:05d}.jpg', 1),
    ]
    for _ in range(2):
        facts, _ = inspect_videos(tasks, tmp_path / 'files.jsonl', 2, 60)
        assert len(inspected) == 4
        assert [facts[task].path for task in tasks] == [str(video)] * 2 + [folder] * 2
        assert facts[tasks[0]] is not facts[tasks[1]]
        assert [facts[task].num_frames for task in tasks[2:]] == [8, 5]
    # every_frame and digest are not part of the key.
    assert facts[replace(tasks[0], digest=True, every_frame=True)] is facts[tasks[0]]


def test_unreadable_videos_are_inspected_again(
    tmp_path: Path, video: Path, inspected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    task, kept = ProbeTask(str(video), 'pyav'), tmp_path / 'files.jsonl'
    with monkeypatch.context() as patch:
        patch.setattr(probe, 'OpenVideo', fail)
        assert inspect_videos([task], kept, 1, 60)[0][task].error == '[Errno 5] Input/output error'
    for _ in range(2):
        assert inspect_videos([task], kept, 1, 60)[0][task].kind == 'ok'
        assert len(inspected) == 2


def test_shortage_of_the_machine_ends_the_inspection(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(probe, 'OpenVideo', fail)
    with pytest.raises(RuntimeError, match='ulimit -n'):
        inspect_videos([ProbeTask(str(video), 'pyav')], tmp_path / 'files.jsonl', 1, 60)


def test_links_have_the_identity_of_their_file(tmp_path: Path, video: Path) -> None:
    (tmp_path / 'link.mp4').symlink_to(video)
    folder = write_frames(tmp_path / 'v', 3)
    (tmp_path / 'w').mkdir()
    os.link(tmp_path / 'v/img_00001.jpg', tmp_path / 'w/img_00001.jpg')
    paths = [str(video), str(tmp_path / 'link.mp4'), str(tmp_path / 'nowhere.mp4')]
    tasks = [ProbeTask(path, 'pyav') for path in paths]
    tasks += [ProbeTask(path, None, 3, 'img_{:05d}.jpg', 1) for path in (folder, str(tmp_path / 'w'))]
    _, found = inspect_videos(tasks, None, 2, 60)
    assert found[tasks[0]] == found[tasks[1]] == (video.stat().st_dev, video.stat().st_ino)
    assert tasks[2] not in found
    assert found[tasks[3]] == found[tasks[4]] != found[tasks[0]]


def test_hanging_and_crashing_decoders_affect_one_video(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, '_inspect', crash_or_inspect)
    names = ('crash.mp4', 'hang.mp4', 'a.mp4')
    kept = tmp_path / 'files.jsonl'
    jobs = [ProbeTask(str(tmp_path / name), 'pyav') for name in names]
    facts, _ = inspect_videos(jobs, kept, 1, time_limit=1)
    assert [facts[job].kind for job in jobs] == ['crashed', 'hung', 'ok']
    assert numbers(str(facts[jobs[1]].error).split(': ')[-1]) == ['1']


def test_saved_results_are_read_back(tmp_path: Path) -> None:
    facts = ProbeResult('a "b"\udcff', 'unreadable', 'why', num_frames=3, fps=29.97, digest='x')
    (tmp_path / 'x.jsonl').write_text(json.dumps({'key': 'k', **facts.__dict__}) + '\n[1]\n{"key": "j", "odd": 1}\n')
    assert read_facts(tmp_path / 'x.jsonl') == {'k': facts}
    assert read_facts(tmp_path / 'nowhere.jsonl') == {}


def test_span_is_inspected_alone(video: Path) -> None:
    facts = inspect_video(ProbeTask(str(video), 'pyav', span=(0.4, 0.8), digest=True))
    assert (facts.path, facts.kind, facts.num_frames, facts.fps) == (f'{video}#0.4-0.8', 'ok', 10, 25)
    assert facts.digest == inspect_video(ProbeTask(str(video), 'pyav', digest=True)).digest
    outside = inspect_video(ProbeTask(str(video), 'pyav', span=(0.4, 3)))
    assert (outside.path, outside.kind) == (f'{video}#0.4-3', 'bad_span')
    frames = read_frames(ProbeTask(str(video), 'pyav', span=(0.4, 0.8)), np.array([0, 9]))
    assert [read_index(frame) for frame in frames] == [10, 19]


def test_spans_of_a_file_are_different_tasks(tmp_path: Path, video: Path) -> None:
    tasks = [ProbeTask(str(video), 'pyav', span=span) for span in (None, (0, 0.4), (0.4, 1.2))]
    for _ in range(2):
        facts, identities = inspect_videos(tasks, tmp_path / 'files.jsonl', 1, 60)
        assert [facts[task].num_frames for task in tasks] == [40, 10, 20]
        assert len(set(identities.values())) == 1

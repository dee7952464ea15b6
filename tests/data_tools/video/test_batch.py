"""Process many videos: find them, run jobs in parallel, list failures, continue after an interruption."""

import errno
import json
import multiprocessing
import os
import platform
import re
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from dsanet.data_tools.lists.media_index import MediaIndex
from dsanet.data_tools.video import batch
from dsanet.data_tools.video.batch import (
    FAILURES_FILE,
    Outcome,
    VideoFailure,
    VideoJob,
    find_videos,
    plan_jobs,
    process_folder,
    read_failures,
    run_jobs,
    summarize_outcome,
)
from dsanet.data_tools.video.targets import SETTINGS_FILE, atomic_target
from dsanet.datasets.media_files import SkippedFiles


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def copy(job: VideoJob, seconds: float = 0.0) -> str | None:
    """Write a folder with the video's text in a file; the name of the video selects the fault."""
    with atomic_target(job.target) as part:
        part.mkdir()
        (part / 'begun').touch()
        time.sleep(seconds)
        (part / 'text').write_text(job.source.read_text())
        if 'broken' in job.name:
            raise ValueError('it is broken\nin two lines')
        if 'short' in job.name:
            raise KeyError(7)
        if 'crash' in job.name:
            os.kill(os.getpid(), signal.SIGKILL)  # SIGSEGV is the same, but pytest reports it
        if 'full' in job.name:
            while 'waits' in job.name and not list((job.target.parents[1] / 'b').rglob('begun')):  # by the other worker
                time.sleep(0.01)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'img_00001.jpg')
        if 'hang' in job.name:
            time.sleep(60)
        if 'interrupt' in job.name:
            raise KeyboardInterrupt
    return 'a scratch' if 'damaged' in job.name else None


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / 'out'


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return touch(tmp_path / 'videos', 'a.mp4', 'b/broken.avi', 'b/c.MKV', 'd/damaged.webm', 'd/e.mov')


def run(videos: Path, out: Path, num_workers: int = 0, **options: float) -> Outcome:
    return run_jobs(copy, plan_jobs(videos, out), out / FAILURES_FILE, num_workers, **options)


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob('*') if path.name.startswith('.')]


def test_videos_are_found_in_all_folders(tmp_path):
    touch(tmp_path, 'b/2.mp4', 'b/1.avi', 'a.MP4', 'notes.txt', '.hidden.mp4', '.trash/x.mp4', 'c/d/e.webm')
    skipped = SkippedFiles()
    assert find_videos(tmp_path, not_used=skipped) == ['a.MP4', 'b/1.avi', 'b/2.mp4', 'c/d/e.webm']
    assert skipped.counts == {'hidden': 2, 'extension .txt': 1}
    assert 'extension .txt: 1 (notes.txt)' in summarize_outcome(Outcome(4, not_used=skipped), tmp_path)


def test_unreadable_folder_is_an_error(tmp_path, monkeypatch):
    root = touch(tmp_path, 'a.mp4')
    media = MediaIndex(str(root), {'a.mp4': None}, {'secret': 'cannot be read: Permission denied'})
    monkeypatch.setattr(batch, 'index_media', lambda _: media)
    with pytest.raises(ValueError, match=f'{root}/secret .*Permission denied'):
        find_videos(root)


def test_list_file_selects_videos(videos, tmp_path):
    (tmp_path / 'list.txt').write_text('d/e.mov 3\n./a.mp4 0\nd/e.mov 1,2\nnot/there yet.mp4 1\n..x.mp4 0\n')
    assert find_videos(videos, tmp_path / 'list.txt') == ['..x.mp4', 'a.mp4', 'd/e.mov', 'not/there yet.mp4']


@pytest.mark.parametrize('path', ['../x.mp4', '/x.mp4'])
def test_list_paths_must_be_below_the_folder(videos, tmp_path, path):
    (tmp_path / 'list.txt').write_text(f'a.mp4 0\n{path} 1\n')
    with pytest.raises(ValueError, match=f'list.txt:2: .*{path}'):
        find_videos(videos, tmp_path / 'list.txt')


def test_missing_folder_or_videos_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=f'{tmp_path}/nowhere'):
        find_videos(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match=str(tmp_path)):
        find_videos(tmp_path)


def test_targets_keep_the_folder_structure(videos, out):
    jobs = plan_jobs(videos, out, suffix='.mp4')
    assert [job.target.relative_to(out).as_posix() for job in jobs] == [
        'a.mp4',
        'b/broken.mp4',
        'b/c.mp4',
        'd/damaged.mp4',
        'd/e.mp4',
    ]
    assert jobs[2] == VideoJob('b/c.MKV', videos / 'b/c.MKV', out / 'b/c.mp4')
    assert plan_jobs(videos, out)[0].target == out / 'a'


def test_two_videos_cannot_share_a_target(videos, out):
    touch(videos, 'a.avi')
    with pytest.raises(ValueError, match=r'a\.avi .*a\.mp4.*out/a\b'):
        plan_jobs(videos, out)


def test_target_cannot_be_inside_another_target(videos, out):
    touch(videos, 'd.mp4')
    with pytest.raises(ValueError, match=r'd\.mp4.*out/d\b.*d/damaged\.webm'):
        plan_jobs(videos, out)
    assert len(plan_jobs(videos, out, suffix='.mp4')) == 6
    touch(videos, 'x/y/z.mp4', 'x.avi')
    (videos / 'd.mp4').unlink()
    with pytest.raises(ValueError, match=r'x\.avi.*out/x\b.*x/y/z\.mp4'):
        plan_jobs(videos, out)


def test_output_folder_must_be_outside_the_videos(videos):
    for out in (videos, videos / 'small'):
        with pytest.raises(ValueError, match=f'^{out}.*{videos}'):
            plan_jobs(videos, out)


def test_partial_targets_of_dead_processes_are_removed(videos, out):
    dead = multiprocessing.get_context('fork').Process(target=int)
    dead.start()
    dead.join()
    here = platform.node()
    left = [f'.a.{here}-{dead.pid}.part/img_00001.jpg', f'b/.c.{here}-{dead.pid}.part', f'.x.{here}-{dead.pid}.part']
    theirs = [f'b/.c.{here}-{os.getpid()}.part', f'.a.elsewhere-{dead.pid}.part', '.mine.part']
    touch(out, *left, *theirs)
    run(videos, out)
    assert sorted(path.relative_to(out).as_posix() for path in hidden(out)) == sorted(theirs[1:])


@pytest.mark.parametrize('num_workers', [0, 1, 2, 9])
def test_jobs_are_run_and_failures_listed(videos, out, num_workers):
    outcome = run(videos, out, num_workers)
    assert (outcome.num_done, outcome.num_skipped, outcome.num_failed) == (4, 0, 1)
    expected = [
        VideoFailure('b/broken.avi', 'it is broken in two lines'),
        VideoFailure('d/damaged.webm', 'a scratch', True),
    ]
    assert outcome.failures == expected
    assert sorted(read_failures(out / FAILURES_FILE), key=lambda failure: failure.path) == expected
    assert (out / 'b/c/text').read_text() == 'b/c.MKV'
    assert not (out / 'b/broken').exists()
    assert hidden(out) == []


def test_second_run_does_the_remaining_jobs(videos, out):
    run(videos, out)
    (out / 'a/text').write_text('kept')
    touch(videos, 'new.mp4')
    outcome = run(videos, out)
    assert (outcome.num_done, outcome.num_skipped, outcome.num_failed) == (1, 4, 1)
    assert [failure.path for failure in outcome.failures] == ['b/broken.avi', 'd/damaged.webm']
    assert (out / 'a/text').read_text() == 'kept'
    (videos / 'b/broken.avi').rename(videos / 'b/repaired.avi')
    assert run(videos, out).failures == [VideoFailure('d/damaged.webm', 'a scratch', kept=True)]


def test_failures_of_other_lists_are_kept(videos, out, tmp_path):
    for name in ('b/broken.avi', 'd/damaged.webm'):
        (tmp_path / 'list.txt').write_text(f'{name} 0\n')
        jobs = plan_jobs(videos, out, tmp_path / 'list.txt')
        outcome = run_jobs(copy, jobs, out / FAILURES_FILE, 0, is_subset=True)
        assert [failure.path for failure in outcome.failures] == [name]
    assert [failure.path for failure in read_failures(out / FAILURES_FILE)] == ['b/broken.avi', 'd/damaged.webm']
    run_jobs(copy, jobs, out / FAILURES_FILE, 0)
    assert [failure.path for failure in read_failures(out / FAILURES_FILE)] == ['d/damaged.webm']


def test_missing_video_is_a_failure(videos, out, tmp_path):
    (tmp_path / 'list.txt').write_text('a.mp4 0\ngone.mp4 0\n')
    outcome = run_jobs(copy, plan_jobs(videos, out, tmp_path / 'list.txt'), out / FAILURES_FILE, 0)
    (failure,) = outcome.failures
    assert (failure.path, failure.kept) == ('gone.mp4', False)
    assert str(videos / 'gone.mp4') in failure.reason


@pytest.mark.parametrize('lines', ['gone.mp4 0\n', 'videos/a.mp4 0\n', 'a.mp4 40 0\nb/c.MKV 30 1\n'])
def test_list_without_existing_videos_is_an_error(videos, out, tmp_path, lines):
    (tmp_path / 'list.txt').write_text(lines)
    with pytest.raises(FileNotFoundError, match=rf'\b{lines.count(chr(10))}\b.*list\.txt.*{videos}'):
        plan_jobs(videos, out, tmp_path / 'list.txt')


def test_short_errors_include_their_type(videos, out):
    touch(videos, 'short.mp4')
    assert VideoFailure('short.mp4', 'KeyError: 7') in run(videos, out).failures


def test_crashing_worker_fails_one_video(videos, out):
    touch(videos, 'a crash.mp4', 'z.mp4')
    outcome = run(videos, out, 1)
    assert outcome.num_done == 5
    assert outcome.failures[0].path == 'a crash.mp4'
    assert 'SIGKILL' in outcome.failures[0].reason
    assert hidden(out) == []


def test_time_limit_fails_a_slow_video(videos, out):
    touch(videos, 'hang.mp4')
    outcome = run(videos, out, 2, time_limit=1)
    assert outcome.num_done == 4
    assert any(failure.path == 'hang.mp4' and '1 s' in failure.reason for failure in outcome.failures)
    assert hidden(out) == []


@pytest.mark.parametrize('num_workers', [0, 2])
def test_full_disk_stops_the_run(videos, out, num_workers):
    touch(videos, 'b/full.mp4', *(f'z/{number}.mp4' for number in range(20)))
    with pytest.raises(OSError, match=r'b/full.*No space left'):
        run(videos, out, num_workers)
    assert not (out / 'z/19').exists()
    assert hidden(out) == []


def test_full_disk_stops_all_workers_cleanly(tmp_path, out):
    videos = touch(tmp_path / 'videos', 'a/full_waits.mp4', 'b/hang.mp4')
    with pytest.raises(OSError, match='No space left'):
        run(videos, out, 2)
    assert not multiprocessing.active_children()
    assert hidden(out) == []


def test_truncated_line_of_failures_is_ignored(out):
    touch(out, FAILURES_FILE).joinpath(FAILURES_FILE).write_text('{"path": "a", "reason": "b", "kept": true}\n{"pa')
    assert read_failures(out / FAILURES_FILE) == [VideoFailure('a', 'b', kept=True)]


def test_interrupt_stops_the_run(videos, out):
    touch(videos, 'interrupt.mp4')
    with pytest.raises(KeyboardInterrupt):
        run(videos, out)
    assert hidden(out) == []


def _run_slowly(videos: Path, out: Path) -> None:
    # If a shell starts the tests in the background, they ignore this signal, and their children do too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_jobs(partial(copy, seconds=0.2), plan_jobs(videos, out), out / FAILURES_FILE, 2)


@pytest.mark.parametrize('by', [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.sweep), signal.SIGKILL])
def test_interrupted_run_can_be_continued(tmp_path, out, by, capfd):
    videos = touch(tmp_path / 'videos', *(f'{number}.mp4' for number in range(40)))
    process = multiprocessing.get_context('fork').Process(target=_run_slowly, args=(videos, out))
    process.start()
    while len(list(out.glob('[0-9]*'))) < 3:
        time.sleep(0.01)
    os.kill(process.pid, by)
    process.join()
    time.sleep(0.5)
    done = sorted(out.glob('[0-9]*'))
    assert 3 <= len(done) < 40
    assert all((folder / 'text').exists() for folder in done)
    time.sleep(0.5)
    assert sorted(out.glob('[0-9]*')) == done, 'workers continue without their parent'
    outcome = run(videos, out)
    assert (outcome.num_skipped, outcome.num_done) == (len(done), 40 - len(done))
    assert hidden(out) == []


def _run_one_slowly(videos: Path, out: Path) -> None:
    run_jobs(partial(copy, seconds=3), plan_jobs(videos, out), out / FAILURES_FILE, 1)


@pytest.mark.parametrize('by', [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.sweep)])
def test_killed_run_stops_its_workers(tmp_path, out, by):
    videos = touch(tmp_path / 'videos', 'a.mp4')
    process = multiprocessing.get_context('fork').Process(target=_run_one_slowly, args=(videos, out))
    process.start()
    while not [path for path in hidden(out) if (path / 'begun').exists()]:
        time.sleep(0.01)
    os.kill(process.pid, by)
    process.join()
    time.sleep(3.5)
    assert not (out / 'a').exists(), 'its worker continued'
    assert run(videos, out).num_done == 1
    assert (out / 'a/text').exists()
    assert hidden(out) == []


def test_summary_lists_failures(tmp_path):
    outcome = Outcome(5, 2, [VideoFailure('a', 'bad'), VideoFailure('b', 'scratched', kept=True)])
    counts, *failures, last = summarize_outcome(outcome, tmp_path).splitlines()
    assert re.findall(r'\d+', counts) == ['5', '2', '1', '1']
    assert failures == ['  a: bad', '  b: scratched']
    assert str(tmp_path) in last
    many = Outcome(0, 0, [VideoFailure(str(number), 'bad') for number in range(12)])
    assert len(summarize_outcome(many, tmp_path).splitlines()) == 12
    assert str(tmp_path) in summarize_outcome(many, tmp_path).splitlines()[-1]
    assert re.findall(r'\d+', summarize_outcome(Outcome(1, 0), tmp_path)) == ['1', '0', '0']


def test_settings_are_kept_in_the_output_folder(videos, out, tmp_path):
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb/c.MKV 1\n')
    options = {'list_file': tmp_path / 'list.txt', 'num_workers': 1, 'time_limit': 30}
    assert process_folder(copy, videos, out, '.x', {'size': 64}, **options).num_done == 2
    assert sorted(path.name for path in out.rglob('*.x')) == ['a.x', 'c.x']
    assert json.loads((out / SETTINGS_FILE).read_text()) == {'size': 64}
    with pytest.raises(ValueError, match=r'size\W+64\W.*\b65\b'):
        process_folder(copy, videos, out, '.x', {'size': 65}, **options)


@pytest.mark.parametrize(
    ('options', 'tokens'),
    [
        ({'num_workers': -1}, 'num_workers.*-1'),
        ({'time_limit': 0}, r'time_limit.*\b0'),
        ({'time_limit': float('nan')}, 'time_limit.*nan'),
    ],
)
def test_invalid_options_create_no_folder(videos, out, options, tokens):
    with pytest.raises(ValueError, match=tokens):
        process_folder(copy, videos, out, '.x', {}, **options)
    assert not out.exists()


def test_span_list_selects_each_video_once(videos, tmp_path):
    (tmp_path / 'list.csv').write_text('video,label,start,end\na.mp4,wave,0,1\nb/c.mp4,clap,2,3\na.mp4,clap,4,5\n')
    assert find_videos(videos, tmp_path / 'list.csv') == ['a.mp4', 'b/c.mp4']
    (tmp_path / 'list.csv').write_text('video,label\n../a.mp4,wave\n')
    with pytest.raises(ValueError, match=r'list\.csv:2'):
        find_videos(videos, tmp_path / 'list.csv')

"""Many videos: which ones, in parallel, with failures listed, and what an interrupted run leaves behind."""

import errno
import json
import multiprocessing
import os
import platform
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from dsanet.data_tools.video.batch import (
    FAILURES_FILE,
    SETTINGS_FILE,
    JobFailure,
    Outcome,
    VideoJob,
    claim_folder,
    find_videos,
    plan_jobs,
    process_folder,
    read_failures,
    run_jobs,
    summarize,
    writing,
)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def copy(job: VideoJob, seconds: float = 0.0) -> str | None:
    """Write a folder with the video's text in a file; what to do else stands in its name."""
    with writing(job.target) as part:
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
            while 'waits' in job.name and not list((job.target.parents[1] / 'b').rglob('begun')):  # of the other
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
    assert find_videos(tmp_path) == ['a.MP4', 'b/1.avi', 'b/2.mp4', 'c/d/e.webm']


def test_linked_folders_are_searched_once(tmp_path):
    touch(tmp_path / 'elsewhere', 'x.mp4')
    root = touch(tmp_path / 'root', 'a.mp4')
    (root / 'link').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere' / 'circle').symlink_to(root)
    assert find_videos(root) == ['a.mp4', 'link/x.mp4']


def test_folders_that_are_left_out_are_failures(tmp_path, out, monkeypatch):
    root = touch(tmp_path / 'root', 'a.mp4', 'secret/b.mp4', 'z/c.mp4')
    (root / 'z' / 'again').symlink_to(root / 'z')
    scandir = os.scandir

    def refuse(path):  # root may read everything, so permissions would not do
        if str(path).endswith('secret'):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'scandir', refuse)
        outcome = process_folder(copy, root, out, '', {})
    assert (outcome.num_done, outcome.num_failed) == (2, 2)
    assert outcome.failures == [
        JobFailure('secret', 'the folder cannot be read: Permission denied'),
        JobFailure('z/again', 'a link makes it the same folder as z, which is searched'),
    ]
    assert sorted(read_failures(out / FAILURES_FILE), key=lambda one: one.path) == outcome.failures


def test_a_list_says_which_videos(videos, tmp_path):
    (tmp_path / 'list.txt').write_text('d/e.mov 3\n./a.mp4 0\nd/e.mov 1,2\nnot/there yet.mp4 1\n')
    assert find_videos(videos, tmp_path / 'list.txt') == ['a.mp4', 'd/e.mov', 'not/there yet.mp4']


def test_names_may_begin_with_dots(videos, tmp_path):
    (tmp_path / 'list.txt').write_text('..x.mp4 0\n..y/a.mp4 1\n')
    assert find_videos(videos, tmp_path / 'list.txt') == ['..x.mp4', '..y/a.mp4']


@pytest.mark.parametrize('path', ['../x.mp4', '/x.mp4'])
def test_a_list_must_stay_below_the_folder(videos, tmp_path, path):
    (tmp_path / 'list.txt').write_text(f'a.mp4 0\n{path} 1\n')
    with pytest.raises(ValueError, match=r'list.txt:2: .* must lie below the folder of the videos'):
        find_videos(videos, tmp_path / 'list.txt')


def test_no_folder_and_no_video_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere is no folder'):
        find_videos(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match=r'has no video; looked in all its folders for \.3gp, '):
        find_videos(tmp_path)


def test_targets_lie_where_the_videos_lie(videos, out):
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


def test_two_videos_cannot_have_one_target(videos, out):
    touch(videos, 'a.avi')
    with pytest.raises(ValueError, match=r'a\.avi and a\.mp4 would both become .*out/a; rename one'):
        plan_jobs(videos, out)


def test_a_target_cannot_lie_in_that_of_another(videos, out):
    touch(videos, 'd.mp4')
    with pytest.raises(ValueError, match=r'd\.mp4 would become .*out/d, which is also the folder of d/damaged\.webm;'):
        plan_jobs(videos, out)
    assert len(plan_jobs(videos, out, suffix='.mp4')) == 6
    touch(videos, 'x/y/z.mp4', 'x.avi')
    (videos / 'd.mp4').unlink()
    with pytest.raises(ValueError, match=r'x\.avi would become .*out/x, which is also the folder of x/y/z\.mp4;'):
        plan_jobs(videos, out)


def test_targets_must_not_lie_among_the_videos(videos):
    for out in (videos, videos / 'small'):
        with pytest.raises(ValueError, match='the folder of the videos; choose another one'):
            plan_jobs(videos, out)


def test_a_folder_has_one_kind_of_targets(out):
    claim_folder(out, SETTINGS_FILE, {'size': (2, 3), 'fps': None})
    touch(out, 'a.mp4')
    claim_folder(out, SETTINGS_FILE, {'size': [2, 3], 'fps': None})
    with pytest.raises(ValueError, match=r'other settings \(fps None instead of 5, size \[2, 3\] instead of 4\); use'):
        claim_folder(out, SETTINGS_FILE, {'size': 4, 'fps': 5})


def test_a_folder_without_targets_may_be_claimed_anew(out):
    claim_folder(out, SETTINGS_FILE, {'size': 2})
    claim_folder(out, SETTINGS_FILE, {'size': 4})
    assert json.loads((out / SETTINGS_FILE).read_text()) == {'size': 4}
    (out / SETTINGS_FILE).write_text('{"size"')
    claim_folder(out, SETTINGS_FILE, {'size': 5})
    assert json.loads((out / SETTINGS_FILE).read_text()) == {'size': 5}


@pytest.mark.parametrize('content', [b'{"size"', b'[1]', b'', b'\xff'])
def test_damaged_settings_are_named(out, content):
    touch(out, 'a.mp4').joinpath(SETTINGS_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r'out/settings\.json is damaged: it should say in JSON what settings'):
        claim_folder(out, SETTINGS_FILE, {'size': 2})
    assert (out / SETTINGS_FILE).read_bytes() == content


def test_writing_renames_what_is_complete(out):
    with writing(out / 'folder' / 'file') as part:
        part.write_text('new')
        assert not (out / 'folder' / 'file').exists()
    assert (out / 'folder' / 'file').read_text() == 'new'
    with writing(out / 'folder' / 'file') as part:
        part.write_text('newer')
    assert (out / 'folder' / 'file').read_text() == 'newer'


def test_a_name_may_be_as_long_as_names_may_be(out):
    for name in ('x' * 255, 'ü' * 127):
        with writing(out / name) as part:
            part.touch()
        assert (out / name).is_file()


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_writing_leaves_nothing_behind_an_error(out, error):
    def fail(is_folder: bool) -> None:
        with writing(out / 'x') as part:
            part.mkdir() if is_folder else part.touch()
            raise error('no')

    for is_folder in (False, True):
        with pytest.raises(error, match='no'):
            fail(is_folder)
        assert list(out.iterdir()) == []


def test_two_processes_write_one_target_apart(out):
    with writing(out / 'x') as part:
        other = multiprocessing.get_context('fork').Process(target=_write_at_once, args=(out / 'x',))
        part.write_text('half')
        other.start()
        other.join()
        assert (out / 'x').read_text() == 'whole'
        with part.open('a') as file:
            file.write(' and the rest')
    assert (out / 'x').read_text() == 'half and the rest'


def _write_at_once(target: Path) -> None:
    with writing(target) as part:
        part.write_text('whole')


def test_a_run_removes_what_dead_processes_left_and_nothing_else(videos, out):
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
def test_jobs_are_done_and_failures_listed(videos, out, num_workers):
    outcome = run(videos, out, num_workers)
    assert (outcome.num_done, outcome.num_skipped, outcome.num_failed) == (4, 0, 1)
    expected = [
        JobFailure('b/broken.avi', 'it is broken in two lines'),
        JobFailure('d/damaged.webm', 'a scratch', True),
    ]
    assert outcome.failures == expected
    assert sorted(read_failures(out / FAILURES_FILE), key=lambda failure: failure.path) == expected
    assert (out / 'b/c/text').read_text() == 'b/c.MKV'
    assert not (out / 'b/broken').exists()
    assert hidden(out) == []


def test_a_second_run_does_what_is_left(videos, out):
    run(videos, out)
    (out / 'a/text').write_text('kept')
    touch(videos, 'new.mp4')
    outcome = run(videos, out)
    assert (outcome.num_done, outcome.num_skipped, outcome.num_failed) == (1, 4, 1)
    assert [failure.path for failure in outcome.failures] == ['b/broken.avi', 'd/damaged.webm']
    assert (out / 'a/text').read_text() == 'kept'
    (videos / 'b/broken.avi').rename(videos / 'b/repaired.avi')
    assert run(videos, out).failures == [JobFailure('d/damaged.webm', 'a scratch', kept=True)]


def test_failures_of_other_lists_stay_listed(videos, out, tmp_path):
    for name in ('b/broken.avi', 'd/damaged.webm'):
        (tmp_path / 'list.txt').write_text(f'{name} 0\n')
        jobs = plan_jobs(videos, out, tmp_path / 'list.txt')
        outcome = run_jobs(copy, jobs, out / FAILURES_FILE, 0, is_part=True)
        assert [failure.path for failure in outcome.failures] == [name]
    assert [failure.path for failure in read_failures(out / FAILURES_FILE)] == ['b/broken.avi', 'd/damaged.webm']
    run_jobs(copy, jobs, out / FAILURES_FILE, 0)
    assert [failure.path for failure in read_failures(out / FAILURES_FILE)] == ['d/damaged.webm']


def test_a_missing_video_is_a_failure(videos, out, tmp_path):
    (tmp_path / 'list.txt').write_text('a.mp4 0\ngone.mp4 0\n')
    outcome = run_jobs(copy, plan_jobs(videos, out, tmp_path / 'list.txt'), out / FAILURES_FILE, 0)
    assert outcome.failures == [JobFailure('gone.mp4', f'there is no file {videos / "gone.mp4"}')]


@pytest.mark.parametrize('lines', ['gone.mp4 0\n', 'videos/a.mp4 0\n', 'a.mp4 40 0\nb/c.MKV 30 1\n'])
def test_a_list_without_a_video_that_is_there_is_an_error(videos, out, tmp_path, lines):
    (tmp_path / 'list.txt').write_text(lines)
    with pytest.raises(
        FileNotFoundError, match=r'none of the . videos of .*list\.txt is there.*relative to .*/videos$'
    ):
        plan_jobs(videos, out, tmp_path / 'list.txt')


def test_errors_that_say_little_are_named(videos, out):
    touch(videos, 'short.mp4')
    assert JobFailure('short.mp4', 'KeyError: 7') in run(videos, out).failures


def test_a_crash_costs_one_video(videos, out):
    touch(videos, 'a crash.mp4', 'z.mp4')
    outcome = run(videos, out, 1)
    assert outcome.num_done == 5
    assert outcome.failures[0] == JobFailure('a crash.mp4', 'the process died of SIGKILL')
    assert hidden(out) == []


def test_a_video_that_takes_too_long_fails(videos, out):
    touch(videos, 'hang.mp4')
    outcome = run(videos, out, 2, time_limit=1)
    assert outcome.num_done == 4
    assert JobFailure('hang.mp4', 'not done after 1 s') in outcome.failures
    assert hidden(out) == []


@pytest.mark.parametrize('num_workers', [0, 2])
def test_a_full_disk_ends_the_run(videos, out, num_workers):
    touch(videos, 'b/full.mp4', *(f'z/{number}.mp4' for number in range(20)))
    with pytest.raises(OSError, match=r'^no room for .*b/full: .*No space left.*; run it again when there is room'):
        run(videos, out, num_workers)
    assert not (out / 'z/19').exists()
    assert hidden(out) == []


def test_workers_that_a_full_disk_stops_leave_nothing_behind(tmp_path, out):
    videos = touch(tmp_path / 'videos', 'a/full_waits.mp4', 'b/hang.mp4')
    with pytest.raises(OSError, match='No space left'):
        run(videos, out, 2)
    assert not multiprocessing.active_children()
    assert hidden(out) == []


def test_options_out_of_range_are_refused(videos, out):
    with pytest.raises(ValueError, match='num_workers is -1, must be 0 or more'):
        run(videos, out, -1)
    with pytest.raises(ValueError, match='time_limit is 0, must be above 0'):
        run(videos, out, 1, time_limit=0)


def test_a_line_that_was_cut_off_is_no_failure(out):
    touch(out, FAILURES_FILE).joinpath(FAILURES_FILE).write_text('{"path": "a", "reason": "b", "kept": true}\n{"pa')
    assert read_failures(out / FAILURES_FILE) == [JobFailure('a', 'b', kept=True)]


def test_an_interruption_ends_the_run(videos, out):
    touch(videos, 'interrupt.mp4')
    with pytest.raises(KeyboardInterrupt):
        run(videos, out)
    assert hidden(out) == []


def _run_slowly(videos: Path, out: Path) -> None:
    # A shell that starts the tests in the background has them ignore this signal, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_jobs(partial(copy, seconds=0.2), plan_jobs(videos, out), out / FAILURES_FILE, 2)


@pytest.mark.parametrize('by', [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.sweep), signal.SIGKILL])
def test_what_was_interrupted_goes_on(tmp_path, out, by, capfd):
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
    assert sorted(out.glob('[0-9]*')) == done, 'workers go on without their parent'
    outcome = run(videos, out)
    assert (outcome.num_skipped, outcome.num_done) == (len(done), 40 - len(done))
    assert hidden(out) == []


def _run_one_slowly(videos: Path, out: Path) -> None:
    run_jobs(partial(copy, seconds=3), plan_jobs(videos, out), out / FAILURES_FILE, 1)


@pytest.mark.parametrize('by', [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.sweep)])
def test_a_killed_run_ends_its_workers_in_the_middle_of_a_job(tmp_path, out, by):
    videos = touch(tmp_path / 'videos', 'a.mp4')
    process = multiprocessing.get_context('fork').Process(target=_run_one_slowly, args=(videos, out))
    process.start()
    while not [path for path in hidden(out) if (path / 'begun').exists()]:
        time.sleep(0.01)
    os.kill(process.pid, by)
    process.join()
    time.sleep(3.5)
    assert not (out / 'a').exists(), 'its worker went on alone'
    assert run(videos, out).num_done == 1
    assert (out / 'a/text').exists()
    assert hidden(out) == []


def test_the_summary_names_failures(tmp_path):
    outcome = Outcome(5, 2, [JobFailure('a', 'bad'), JobFailure('b', 'scratched', kept=True)])
    assert summarize(outcome, tmp_path).splitlines() == [
        '5 written, 2 there already, 1 failed, 1 damaged but kept',
        '  a: bad',
        '  b: scratched',
        f'listed in {tmp_path}',
    ]
    many = Outcome(0, 0, [JobFailure(str(number), 'bad') for number in range(12)])
    assert len(summarize(many, tmp_path).splitlines()) == 12
    assert summarize(many, tmp_path).endswith(f'..., all in {tmp_path}')
    assert summarize(Outcome(1, 0), tmp_path) == '1 written, 0 there already, 0 failed'


def test_a_folder_is_claimed_for_its_settings(videos, out, tmp_path):
    (tmp_path / 'list.txt').write_text('a.mp4 0\nb/c.MKV 1\n')
    options = {'list_file': tmp_path / 'list.txt', 'num_workers': 1, 'time_limit': 30}
    assert process_folder(copy, videos, out, '.x', {'size': 64}, **options).num_done == 2
    assert sorted(path.name for path in out.rglob('*.x')) == ['a.x', 'c.x']
    assert json.loads((out / SETTINGS_FILE).read_text()) == {'size': 64}
    with pytest.raises(ValueError, match='size 64 instead of 65'):
        process_folder(copy, videos, out, '.x', {'size': 65}, **options)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'num_workers': -1}, 'num_workers is -1'),
        ({'time_limit': 0}, 'time_limit is 0'),
        ({'time_limit': float('nan')}, 'time_limit is nan'),
    ],
)
def test_a_wrong_call_leaves_no_folder_behind(videos, out, options, text):
    with pytest.raises(ValueError, match=text):
        process_folder(copy, videos, out, '.x', {}, **options)
    assert not out.exists()

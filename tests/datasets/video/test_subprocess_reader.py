"""A decoder that hangs or crashes must not end its data worker."""

import ctypes
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from dsanet.datasets import VideoDataset, build_dataloader
from dsanet.datasets.transforms import DecodeVideo, OpenVideo, PackInputs, SampleSnippets
from dsanet.datasets.video import frame_index
from dsanet.datasets.video import subprocess_reader as module
from dsanet.datasets.video.readers import READERS, VideoReader, is_installed
from dsanet.datasets.video.subprocess_reader import IsolatedReader, can_isolate, shorten_error
from tests.make_videos import read_index, write_video

DECODERS = [name for name in READERS if is_installed(name)]


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp('video') / 'a.mp4', 40)


@pytest.fixture(autouse=True)
def _fresh():
    """Fork new processes for every test: idle ones do not see the test's changes to READERS."""
    yield
    while module._IDLE:
        module._IDLE.pop().end()


def hang():
    """Sleep in C code and keep the GIL, so that no Python signal handler and no thread can run."""
    ctypes.PyDLL(None).sleep(100)


class FaultyReader(VideoReader):
    """Five frames; the file name states which method fails and how, such as 'open-hang'."""

    acts = {
        'hang': hang,
        'crash': lambda: os.kill(os.getpid(), signal.SIGSEGV),
        'abort': os.abort,
        'kill': lambda: os.kill(os.getpid(), signal.SIGKILL),
        'leave': lambda: os._exit(3),
    }

    def __init__(self, path):
        self.path = path
        self.where, _, self.what = os.path.basename(path).partition('-')
        self.num_frames = 5
        self.act('open')

    def act(self, where):
        if where == self.where:
            self.acts[self.what]()

    def _read(self, indices):
        self.act('read')
        return np.broadcast_to(indices.astype(np.uint8)[:, None, None, None], (len(indices), 2, 3, 3))

    def close(self):
        self.act('close')


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.setitem(READERS, 'faulty', FaultyReader)


@pytest.mark.parametrize('decoder', DECODERS)
def test_frames_equal_those_of_the_decoder(video, decoder):
    with_help, alone = IsolatedReader(decoder, video, 60), READERS[decoder](video)
    assert with_help.num_frames == alone.num_frames == 40
    for indices in ([0, 17, 39], [3], list(range(3, 40))):
        if decoder == 'decord' or indices != [3]:
            assert (with_help.read(np.array(indices)) == alone.read(np.array(indices))).all()
    with_help.close()
    alone.close()


def test_process_is_reused_for_the_next_video(video):
    first = IsolatedReader('pyav', video, 60)
    second = IsolatedReader('pyav', video, 60)
    pids = {first._process._pid, second._process._pid}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert read_index(first.read(np.array([7]))[0]) == 7
    assert read_index(second.read(np.array([9]))[0]) == 9
    first.close()
    second.close()
    again = IsolatedReader('pyav', video, 60)
    assert again._process._pid in pids
    again.close()
    again.close()


def test_next_process_knows_the_number_of_frames(tmp_path, monkeypatch):
    path = write_video(tmp_path / 'a.avi', 20)
    first = IsolatedReader('pyav', path, 60)
    first._end_process()
    monkeypatch.setattr(frame_index, 'decode_all', None)  # in the next process, counting is an error
    again = IsolatedReader('pyav', path, 60)
    assert (first.num_frames, again.num_frames) == (20, 20)
    again.close()


def test_shared_memory_grows_and_is_released_if_large(video, monkeypatch):
    monkeypatch.setattr(module, '_MAX_SHARED_BYTES', 40 * 72 * 128 * 3 - 1)
    reader = IsolatedReader('pyav', video, 60)
    for count in (1, 5, 39):
        frames = reader.read(np.arange(count))
        assert [read_index(frame) for frame in frames] == list(range(count))
    reader.close()
    assert len(module._IDLE) == 1
    reader = IsolatedReader('pyav', video, 60)
    reader.read(np.arange(40))
    reader.close()
    assert module._IDLE == []


def test_process_is_replaced_after_a_number_of_videos(video, monkeypatch):
    monkeypatch.setattr(module, '_MAX_VIDEOS', 3)
    pids = []
    for _ in range(7):
        reader = IsolatedReader('pyav', video, 60)
        pids.append(reader._process._pid)
        reader.close()
    assert len(set(pids)) == 3
    assert pids[:3] == [pids[0]] * 3
    assert pids[3:6] == [pids[3]] * 3


@pytest.mark.parametrize(
    ('what', 'token'),
    [
        ('hang', r'time_limit=0\.3\b'),
        ('crash', r'\(SIGSEGV'),
        ('abort', r'\(SIGABRT'),
        ('kill', r'\(SIGKILL.*memory'),
        ('leave', r'crashed'),
    ],
)
def test_hang_and_crash_do_not_stop_next_video(faulty, what, token):
    started = time.monotonic()
    with pytest.raises(ValueError, match=token):
        IsolatedReader('faulty', f'open-{what}', 0.3)
    reader = IsolatedReader('faulty', f'read-{what}', 0.3)
    assert reader.num_frames == 5
    for expected in (token, 'ended'):
        with pytest.raises(ValueError, match=expected):
            reader.read(np.array([1, 2]))
    reader.close()
    reader = IsolatedReader('faulty', f'close-{what}', 0.3)
    assert reader.read(np.array([1, 4]))[:, 0, 0, 0].tolist() == [1, 4]
    reader.close()
    assert module._IDLE == []
    reader = IsolatedReader('faulty', 'good', 0.3)
    assert reader.read(np.array([0, 3]))[:, 0, 0, 0].tolist() == [0, 3]
    reader.close()
    assert time.monotonic() - started < 5


def test_process_that_ignores_its_alarm_is_killed(faulty, monkeypatch):
    monkeypatch.setattr(module, '_KILL_TIMEOUT_S', 0.2)
    monkeypatch.setattr(signal, 'setitimer', lambda *arguments: None)
    with pytest.raises(ValueError, match=r'time_limit=0\.1\b'):
        IsolatedReader('faulty', 'open-hang', 0.1)


def test_decoder_error_is_raised_and_process_ended(video, tmp_path):
    (tmp_path / 'bad.mp4').write_bytes(b'no video' * 100)
    with pytest.raises(ValueError, match='text file'):
        IsolatedReader('pyav', str(tmp_path / 'bad.mp4'), 60)
    assert module._IDLE == []
    reader = IsolatedReader('pyav', video, 60)
    with pytest.raises(ValueError, match=r'\b39\b.*\[40\]'):
        reader.read(np.array([40]))
    reader.close()


def test_missing_package_is_an_import_error(video, monkeypatch):
    def reader(path):
        raise ImportError('no module named x')

    monkeypatch.setitem(READERS, 'x', reader)
    with pytest.raises(ImportError, match='no module named x'):
        IsolatedReader('x', video, 60)


def test_decoder_error_is_shortened_to_one_line():
    assert shorten_error(StopIteration()) == 'StopIteration'
    text = '[21:11:45] video_reader.cc:151: Check failed:\nno stream\n\nStack trace returned 8 entries:\n[bt] (0) x'
    assert shorten_error(ValueError(text)) == '[21:11:45] video_reader.cc:151: Check failed: no stream'


def test_forked_process_does_not_reuse_parent_processes(video):
    IsolatedReader('pyav', video, 60).close()
    (process,) = module._IDLE
    process.owner = -1
    reader = IsolatedReader('pyav', video, 60)
    assert reader._process is not process
    reader.close()
    process.end()


def make_dataset(tmp_path, names, decoder, time_limit):
    for name in names:
        (tmp_path / name).write_text('content is not read')
    (tmp_path / 'list.txt').write_text(''.join(f'{name} 0\n' for name in names))
    pipeline = [OpenVideo(decoder, time_limit), SampleSnippets(1, 2), DecodeVideo(), PackInputs()]
    return VideoDataset(pipeline, str(tmp_path / 'list.txt'), str(tmp_path))


@pytest.mark.parametrize('what', ['hang', 'crash'])
@pytest.mark.parametrize('where', ['open', 'read'])
def test_training_continues_and_reports_the_file(faulty, tmp_path, where, what):
    dataset = make_dataset(tmp_path, ['good', 'fine', f'{where}-{what}'], 'faulty', 0.3)
    batches = list(build_dataloader(dataset, 1, 1, training=True))
    assert len(batches) == 3
    ((bad,),) = (cases for batch in batches for cases in batch['bad'])
    assert bad['path'] == dataset.records[2].path
    assert bad['source'] == f'{tmp_path}/list.txt:3'
    assert ('time_limit=0.3' if what == 'hang' else 'SIGSEGV') in bad['reason']
    assert all(os.path.basename(batch['path'][0]) in ('good', 'fine') for batch in batches)


def test_evaluation_error_names_the_file(faulty, tmp_path):
    dataset = make_dataset(tmp_path, ['good', 'open-hang'], 'faulty', 0.3)
    with pytest.raises(ValueError, match=r'list.txt:2: .*open-hang .*time_limit=0\.3\b'):
        list(build_dataloader(dataset, 1, 1, training=False))


class Where:
    """One sample: the result of can_isolate() in the data worker."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return can_isolate()


def test_only_data_workers_isolate_decoding(video):
    assert not can_isolate()
    assert list(DataLoader(Where(), num_workers=0))[0].tolist() == [False]
    assert list(DataLoader(Where(), num_workers=1))[0].tolist() == [True]


@pytest.mark.parametrize('is_frozen', [False, True])
def test_decoding_process_ends_with_its_worker(video, tmp_path, is_frozen):
    class Report(VideoReader):
        path = ''
        num_frames = 2

        def __init__(self, path):
            with open(tmp_path / 'pid', 'w') as file:
                file.write(str(os.getpid()))

        def _read(self, indices):
            return np.zeros((len(indices), 2, 2, 3), np.uint8)

        def close(self):
            pass

    READERS['report'] = Report
    try:
        dataset = make_dataset(tmp_path, ['good'], 'report', 5)
        loader = build_dataloader(dataset, 1, 1, training=False)
        list(loader)
    finally:
        del READERS['report']
    pid = int((tmp_path / 'pid').read_text())
    if is_frozen:
        os.kill(pid, signal.SIGSTOP)
    loader.kill_workers()
    assert pid != os.getpid()
    for _ in range(100):
        stat = Path(f'/proc/{pid}/stat')
        if not stat.exists() or ' Z ' in stat.read_text():
            return
        time.sleep(0.05)
    pytest.fail('the decoding process is still running')

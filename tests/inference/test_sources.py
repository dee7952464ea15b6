import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsanet.datasets.transforms.base import BadSample
from dsanet.inference.sources import find_frame_names, find_sources
from tests.make_videos import draw_frames, write_frames


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        content = source.read()
        outputfile.write(content[: len(content) // 2] if 'half' in self.path else content)


@pytest.fixture
def server(videos: Path) -> Iterator[str]:
    """The URL of a server of the videos on loopback."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(QuietHandler, directory=str(videos)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()
    thread.join()


def names_of(videos: Any, **options: Any) -> tuple[list[str], bool]:
    sources, is_single = find_sources(videos, **options)
    return [source.name for source in sources], is_single


def test_folder_means_all_videos_in_it(videos: Path) -> None:
    expected = [str(videos / name) for name in ('a.mp4', 'bad.mp4', 'sub/b c.mp4', 'sub/d.mkv')]
    assert names_of(str(videos)) == (expected, False)
    assert names_of(videos / 'a.mp4') == ([expected[0]], True)
    assert names_of([videos / 'a.mp4', videos / 'sub']) == ([expected[0], *expected[2:]], False)


@pytest.mark.parametrize(
    ('template', 'start'), [('img_{:05d}.jpg', 1), ('{:03d}.png', 0), ('frame{}.jpg', 7), ('a{{1}}_{:02d}.jpg', 98)]
)
def test_names_of_frames_are_found(tmp_path: Path, template: str, start: int) -> None:
    folder = tmp_path / 'frames'
    write_frames(folder, 12, filename_tmpl=template, start_index=start)
    names = find_frame_names(str(folder))
    assert names is not None
    assert [names.template.format(start + i) for i in range(12)] == [template.format(start + i) for i in range(12)]
    assert (names.start_index, names.count([file.name for file in folder.iterdir()])) == (start, (12, None))
    source = find_sources(folder)[0][0]
    assert (source.kind, find_sources(folder)[1]) == ('frames', True)
    with source.open() as record:
        assert (record['num_frames'], record['start_index']) == (12, start)


def test_missing_frame_is_a_bad_sample(tmp_path: Path) -> None:
    write_frames(tmp_path / 'frames', 12)
    (tmp_path / 'frames' / 'img_00005.jpg').unlink()
    source = find_sources(tmp_path / 'frames')[0][0]
    with pytest.raises(BadSample, match='5'), source.open():
        pass


def test_images_of_several_videos_are_refused(tmp_path: Path) -> None:
    for name in ('a_1.jpg', 'b_1.jpg'):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r'a_1\.jpg.*b_1\.jpg'):
        find_sources(tmp_path)
    (tmp_path / 'b_1.jpg').rename(tmp_path / 'a_02.jpg')
    with pytest.raises(ValueError, match=r'a_02\.jpg'):
        find_sources(tmp_path)


def test_other_images_do_not_stop_a_search(videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / 'results').mkdir()
    for name in ('results/plot.png', 'cover.jpg'):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match='cover'):
        find_sources(tmp_path)
    (tmp_path / 'some').symlink_to(videos / 'sub')
    (tmp_path / 'more').mkdir()
    (tmp_path / 'more' / 'a.mp4').symlink_to(videos / 'a.mp4')
    assert names_of(tmp_path) == ([str(tmp_path / 'more' / 'a.mp4')], False)
    assert [len(record.args or ()) for record in caplog.records] == [1, 1]


@pytest.mark.parametrize('fps', [0, -25, float('nan'), float('inf'), '25', True])
def test_wrong_frame_rates_raise(fps: Any) -> None:
    with pytest.raises(ValueError, match='fps'):
        find_sources(draw_frames(2), fps)


def test_lists_name_paths_with_or_without_labels(videos: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / 'some frames', 4)
    expected = [str(videos / 'sub' / 'b c.mp4'), str(videos / 'a.mp4'), str(videos / 'gone.mp4')]
    lines = ['sub/b c.mp4', '# comment', '', 'a.mp4 3', 'gone.mp4 17,2']
    file = tmp_path / 'list.txt'
    file.write_text('\n'.join([*lines, f'{tmp_path}/some frames 4 1']) + '\n')
    names, is_single = names_of(file, data_root=str(videos))
    assert (names, is_single) == ([*expected, f'{tmp_path}/some frames'], False)
    assert find_sources(file)[0][-1].kind == 'frames'
    beside = videos / 'list.txt'
    beside.write_text('\n'.join(lines) + '\n')
    assert names_of(str(beside))[0][:2] == expected[:2]
    beside.unlink()


def test_list_and_folder_without_videos_raise(tmp_path: Path) -> None:
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty.txt').write_text('# nothing\n')
    for name in ('empty', 'empty.txt'):
        with pytest.raises(ValueError, match=name):
            find_sources(tmp_path / name)
    with pytest.raises(FileNotFoundError, match='none'):
        find_sources(tmp_path / 'none.txt')


def test_arrays_are_open_videos() -> None:
    frames = draw_frames(5)
    sources, is_single = find_sources([frames, frames[:2]], fps=10)
    assert ([source.name for source in sources], is_single) == (['array 0', 'array 1'], False)
    with sources[0].open() as record:
        assert (record['num_frames'], record['reader'].fps) == (5, 10)
        assert np.array_equal(record['reader'].read(np.array([1, 3])), frames[[1, 3]])


@pytest.mark.parametrize(
    ('frames', 'text'),
    [
        (np.zeros((2, 4, 4, 3), np.float32), 'float32'),
        (np.zeros((4, 4, 3), np.uint8), r'\(4, 4, 3\)'),
        (np.zeros((2, 3, 4, 4), np.uint8), r'\(2, 3, 4, 4\)'),
        (np.zeros((0, 4, 4, 3), np.uint8), r'\(0, 4, 4, 3\)'),
        (b'', 'empty'),
        ('', 'empty'),
    ],
)
def test_wrong_contents_raise(frames: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        find_sources(frames)


def test_contents_become_temporary_files(videos: Path) -> None:
    content = (videos / 'a.mp4').read_bytes()
    with find_sources(content)[0][0].open() as record:
        file = Path(record['path'])
        assert file.read_bytes() == content
    assert not file.exists()


def test_urls_are_downloaded_only_if_allowed(server: str, videos: Path) -> None:
    with pytest.raises(ValueError, match='allow_urls'):
        find_sources(f'{server}/a.mp4')
    sources, is_single = find_sources([f'{server}/sub/b%20c.mp4', f'{server}/none.mp4'], allow_urls=True)
    assert (is_single, sources[0].name) == (False, f'{server}/sub/b%20c.mp4')
    with sources[0].open() as record:
        assert Path(record['path']).read_bytes() == (videos / 'sub' / 'b c.mp4').read_bytes()
    with pytest.raises(BadSample, match=r'none\.mp4 .*404'), sources[1].open():
        pass
    half = find_sources(f'{server}/a.mp4?half', allow_urls=True)[0][0]
    with pytest.raises(BadSample, match='bytes'), half.open():
        pass


def test_other_schemes_are_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ('file:///etc/passwd', 'ftp://127.0.0.1/x.mp4', '12:30:05.mp4'):
        source = find_sources(name, allow_urls=True)[0][0]
        with source.open() as record:
            assert record['path'] == name
        with pytest.raises(FileNotFoundError):
            source.check_exists()


def test_lists_have_labels(videos: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / 'frames 1', 3)
    lines = ['a.mp4 3', 'sub/b c.mp4 1,4', 'sub/d.mkv', f'{tmp_path}/frames 1 3 2', 'gone 7.mp4 5', 'a.mp4 x']
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    found = find_sources(tmp_path / 'list.txt', data_root=str(videos))[0]
    assert [source.labels for source in found] == [(3,), (1, 4), (), (2,), (5,), ()]
    assert found[4].name == str(videos / 'gone 7.mp4')


def test_labels_of_spans_may_be_names(tmp_path: Path) -> None:
    rows = ['video,label,start,end', 'a.mp4,clap,0,1', 'a.mp4,"wave, clap",,', 'a.mp4,"1,0",,', 'b.mp4,7,,', 'b.mp4,,,']
    (tmp_path / 'spans.csv').write_text('\n'.join(rows) + '\n')
    sources, _ = find_sources([tmp_path / 'spans.csv'], class_names=['wave', 'clap'])
    assert [source.labels for source in sources] == [(1,), (0, 1), (1, 0), (7,), ()]
    sources, _ = find_sources(tmp_path / 'spans.csv')
    assert [source.labels for source in sources] == [(), (), (1, 0), (7,), ()]
    with pytest.raises(ValueError, match=r"spans\.csv:2: .*'clap'"):
        find_sources(tmp_path / 'spans.csv', class_names=['wave'])


def test_secrets_of_urls_are_not_in_names() -> None:
    sources, _ = find_sources('https://user:word@example.org:81/a.mp4?token=secret#t=1', allow_urls=True)
    assert [source.name for source in sources] == ['https://example.org:81/a.mp4']
    with pytest.raises(ValueError, match=r'^https://example\.org:81/a\.mp4 '):
        find_sources('https://user:word@example.org:81/a.mp4?token=secret#t=1')


def test_data_root_without_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='data_root'):
        find_sources(['a.mp4'], data_root=str(tmp_path))
    (tmp_path / 'list.txt').write_text('b.mp4 0\n')
    sources, _ = find_sources(['a.mp4', str(tmp_path / 'list.txt')], data_root=str(tmp_path))
    assert len(sources) == 2

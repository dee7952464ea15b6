"""A path is the name of one video file: no address, no pattern, no playlist, no image and no archive."""

import gzip
import io
import os
import shutil
import socket
import zipfile
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from dsanet import commands
from dsanet.data_tools.video.batch import FAILURES_FILE, read_failures
from dsanet.datasets.transforms import DecodeVideo, OpenVideo, decoding
from dsanet.datasets.transforms.base import BadSample
from dsanet.datasets.video.opening import file_url, frame_rate, open_video, orientation
from dsanet.datasets.video.readers import READERS, is_installed
from tests.make_videos import draw_frame, read_index, write_video

DECODERS = tuple(name for name in READERS if is_installed(name))
NAMES = [
    b'12:30:05.mp4',
    b'file:x.mp4',
    b'pipe:0.mp4',
    b'http:x.mp4',
    b'concat:a.mp4|b.mp4',
    b'-i.mp4',
    b'-.mp4',
    b'%03d.mp4',
    b'%d%%.mp4',
    b'a*?[x].mp4',
    b'new\nline.mp4',
    b'quo\'te".mp4',
    b'back\\slash.mp4',
    b'comma,semi;.mp4',
    b' space .mp4',
    b'\x1b[31mred.mp4',
    'ü 漢.mp4'.encode(),
    b'latin \xe9\xff.mp4',
    b'n' * 250 + b'.mp4',
]
TEXTS = {
    'hls.m3u8': '#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n',
    'hls.mp4': '#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n',
    'bom.m3u8': '\ufeff#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n',
    'plain.m3u': 'a.mp4\n',
    'concat.ffconcat': "ffconcat version 1.0\nfile 'a.mp4'\n",
    'concat.mp4': "ffconcat version 1.0\nfile 'a.mp4'\n",
    'concat.txt': "file 'a.mp4'\n",
    'dash.mpd': '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation id="1"><BaseURL>a.mp4</BaseURL></Representation>'
    '</AdaptationSet></Period></MPD>',
    'session.sdp': 'v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n'
    'm=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n',
    'session.mp4': 'v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n'
    'm=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n',
    'media.asx': '<asx version="3.0"><entry><ref href="a.mp4"/></entry></asx>',
    'words.mp4': 'path label\n' * 100,
    'page.mp4': '<!DOCTYPE html><html><body>404 not found</body></html>',
    'subtitles.srt': '1\n00:00:00,000 --> 00:00:01,000\nhello\n',
    'words.nfo': 'hello\n' * 100,
}


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp('video') / 'a.mp4', 12)


def read(decoder, path):
    record = OpenVideo(decoder)({'path': str(path)})
    return DecodeVideo()(record | {'frame_indices': np.array([[[0, 7]]])})['frames']


@pytest.mark.parametrize('decoder', DECODERS)
@pytest.mark.parametrize('name', NAMES)
def test_any_name_is_read_or_refused(video, tmp_path, monkeypatch, decoder, name):
    (tmp_path / 'a:b').mkdir()
    monkeypatch.chdir(tmp_path / 'a:b')
    shutil.copy(video, name)
    path = os.fsdecode(name)
    if b'\xff' in name and decoder != 'pyav':
        with pytest.raises(BadSample, match='UTF-8'):
            read(decoder, path)
    else:
        assert [read_index(frame) for frame in read(decoder, path)] == [0, 7]


def test_isolated_reader_reads_any_name(video, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, 'can_isolate', lambda: True)
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        shutil.copy(video, name)
        assert [read_index(frame) for frame in read('pyav', os.fsdecode(name))] == [0, 7]
    with pytest.raises(BadSample, match='UTF-8'):
        read('opencv', os.fsdecode(b'latin \xe9\xff.mp4'))


def test_tools_convert_videos_with_any_name(video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'a:b'
    folder.mkdir()
    for name in NAMES:
        if len(name) < 250:  # the temporary name of the target would be too long
            shutil.copy(video, os.path.join(os.fsencode(folder), name))
    for command in ('transcode', 'extract-frames'):
        out = tmp_path / f'{command}:out'
        commands.main([command, 'a:b', f'{command}:out', '--workers', '0'])
        made = {name for name in os.listdir(os.fsencode(out)) if not name.endswith((b'.json', b'.jsonl'))}
        expected = {name for name in NAMES if len(name) < 250}
        assert made == (expected if command == 'transcode' else {name.removesuffix(b'.mp4') for name in expected})


def write_no_videos(folder):
    """Write files that are not videos, next to the video that some of them name; return their names."""
    write_video(folder / 'a.ts', 12, bf='0')
    write_video(folder / 'a.mp4', 12)
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    for kind in ('jpg', 'png', 'bmp', 'tiff', 'webp', 'ppm'):
        data = cv2.imencode(f'.{kind}', draw_frame(3))[1].tobytes()
        (folder / f'{kind}.mp4').write_bytes(data)
        (folder / f'image.{kind}').write_bytes(data)
    for number in range(3):  # a pattern of images
        cv2.imwrite(str(folder / f'{number:03d}.jpg'), draw_frame(number))
    shutil.copy(folder / '000.jpg', folder / '%03d.jpg')
    data = (folder / 'a.mp4').read_bytes()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('a.mp4', data)
    (folder / 'archive.mp4').write_bytes(archive.getvalue())
    (folder / 'packed.mp4').write_bytes(gzip.compress(data))
    (folder / 'utf16.mp4').write_bytes('#EXTM3U\na.ts\n'.encode('utf-16'))
    (folder / 'photo.heic').write_bytes(data.replace(b'ftypisom', b'ftypheic', 1))
    with av.open(str(folder / 'sound.m4a'), 'w', format='mp4') as container:
        stream = container.add_stream('aac', rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format='fltp', layout='mono')
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    names = {name for name in os.listdir(folder) if name not in ('a.ts', 'a.mp4')}
    assert len(names) > 30
    return sorted(names)


@pytest.mark.parametrize('decoder', DECODERS)
def test_what_is_no_video_is_refused(tmp_path, decoder):
    for name in write_no_videos(tmp_path):
        with pytest.raises(BadSample) as caught:
            OpenVideo(decoder)({'path': str(tmp_path / name)})
        reason = caught.value.reason.split(': ', 1)[1]
        assert len(reason) > 15, name
        assert 'decord' not in reason, 'PyAV refuses it before decord opens it'


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('hls.mp4', 'text'),
        ('concat.mp4', 'text'),
        ('session.mp4', 'text'),
        ('utf16.mp4', 'text'),
        ('jpg.mp4', 'JPEG'),
        ('png.mp4', 'PNG'),
        ('webp.mp4', 'WebP'),
        ('archive.mp4', 'ZIP'),
        ('packed.mp4', 'gzip'),
        ('photo.heic', 'image'),
        ('sound.m4a', 'no video stream'),
    ],
)
def test_error_says_what_the_file_is(tmp_path, name, kind):
    write_no_videos(tmp_path)
    with pytest.raises(ValueError, match=kind):
        open_video(str(tmp_path / name))


def test_tools_refuse_what_is_no_video(tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    write_no_videos(folder)
    texts = [name for name in TEXTS if name.endswith('.mp4')]
    for name in os.listdir(folder):
        if name not in texts:
            (folder / name).unlink()
    write_video(folder / 'a.ts', 12)
    for command in ('transcode', 'extract-frames'):
        out = tmp_path / command
        assert commands.main([command, str(folder), str(out), '--workers', '0']) != 0
        assert {failure.path for failure in read_failures(out / FAILURES_FILE)} == set(texts)


@pytest.mark.parametrize('decoder', DECODERS)
def test_playlists_open_no_connection(tmp_path, decoder):
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
        for name in ('a.m3u8', 'a.mp4'):
            (tmp_path / name).write_text(
                f'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n'
            )
            with pytest.raises(BadSample):
                OpenVideo(decoder)({'path': str(tmp_path / name)})
        server.settimeout(0.01)
        with pytest.raises(TimeoutError):
            server.accept()


def test_file_url_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert file_url('12:30.mp4') == f'file:{tmp_path}/12:30.mp4'


def test_missing_permission_is_no_damage(video, monkeypatch):
    def fail(*_, **__):
        raise av.error.PermissionError(13, 'Permission denied', video)

    monkeypatch.setattr(av, 'open', fail)
    with pytest.raises(PermissionError):
        open_video(video)


def test_frame_without_matrix_is_not_turned():
    assert orientation(av.VideoFrame(16, 16, 'rgb24')) == (False, False, False)


@pytest.mark.parametrize(
    ('name', 'average', 'guessed', 'expected'),
    [
        ('matroska,webm', Fraction(1000), Fraction(60), Fraction(60)),
        ('matroska,webm', Fraction(1000), Fraction(1000), None),
        ('avi', Fraction(600), Fraction(25), Fraction(25)),
        ('avi', Fraction(30), Fraction(25), Fraction(25)),
        ('mov,mp4', Fraction(2997, 100), Fraction(30), Fraction(2997, 100)),
        ('mov,mp4', None, Fraction(30000, 1001), Fraction(30000, 1001)),
        ('mpegts', None, None, None),
    ],
)
def test_frame_rate_is_not_the_timestamp_resolution(name, average, guessed, expected):
    container = SimpleNamespace(format=SimpleNamespace(name=name))
    assert frame_rate(container, SimpleNamespace(average_rate=average, guessed_rate=guessed)) == expected


@pytest.mark.parametrize('decoder', DECODERS)
def test_audio_file_with_a_cover_is_refused(decoder, tmp_path):
    file = tmp_path / 'song.mp4'
    with av.open(str(file), 'w') as container:
        sound = container.add_stream('aac', rate=44100, layout='mono')
        cover = container.add_stream('mjpeg', width=64, height=64, pix_fmt='yuvj420p')
        cover.disposition = av.stream.Disposition.attached_pic.value
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), 'fltp', 'mono')
        samples.sample_rate = 44100
        image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
        for stream, frame in ((sound, samples), (cover, image)):
            container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(BadSample, match='cover'):
        OpenVideo(decoder)({'path': str(file)})

import pytest

from dsanet.datasets.media_files import SkippedFiles, choose_videos, is_video


@pytest.mark.parametrize(
    'name',
    ['00001.MTS', 'a.m2ts', 'a.M2T', 'MOV001.MOD', 'MOV001.TOD', 'a.ogv', 'a.gif', 'a.3g2', 'a.asf', 'VTS_01_1.VOB']
    + ['clip.mxf', 'tape.dv', 'a.rm', 'a.rmvb', 'a.y4m', 'a.f4v', 'a.divx', 'a.mp4', 'a.b.MoV'],
)
def test_camera_and_ffmpeg_extensions_are_videos(name: str) -> None:
    assert is_video(name)


@pytest.mark.parametrize('name', ['a.jpg', 'a.txt', 'mp4', 'a.mp4.part', 'a.wav', 'a.srt', ''])
def test_other_files_are_not_videos(name: str) -> None:
    assert not is_video(name)


def test_skipped_files_are_counted_by_kind() -> None:
    skipped = SkippedFiles()
    assert not skipped
    assert str(skipped) == ''
    for path in ('a/1.TXT', 'a/2.txt', 'b/README'):
        skipped.add_file(path)
    other = SkippedFiles()
    other.add('hidden', '.cache')
    other.add_file('c/3.txt')
    skipped.merge(other)
    assert skipped.counts == {'extension .txt': 3, 'no extension': 1, 'hidden': 1}
    assert str(skipped) == 'extension .txt: 3 (a/1.TXT, ...), hidden: 1 (.cache), no extension: 1 (b/README)'


def test_previews_are_not_videos() -> None:
    skipped = SkippedFiles()
    names = ['a.gif', 'a.mp4', 'b.GIF', 'b.mkv', 'c.gif', 'd.gif', 'd.GIF', 'e.txt', 'f.gif', 'f.txt']
    assert choose_videos(names, 'walk', skipped) == ['a.mp4', 'b.mkv', 'c.gif', 'd.gif', 'd.GIF', 'f.gif']
    assert skipped.counts == {'GIF beside a video of the same name': 2, 'extension .txt': 2}
    assert '(walk/a.gif, ...)' in str(skipped)

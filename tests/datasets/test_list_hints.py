import gzip
import re
import unicodedata
from pathlib import Path

import pytest

from dsanet.datasets.annotation import parse_list_file
from dsanet.datasets.frame_names import FrameNames
from dsanet.datasets.list_hints import explain_missing
from tests.make_videos import write_frames


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with the videos walk/a 1.mp4 and Sit/Jum\u00e9.MTS."""
    for name in ('walk/a 1.mp4', 'Sit/Jum\u00e9.MTS'):
        (tmp_path / 'videos' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'videos' / name).touch()
    return tmp_path / 'videos'


@pytest.mark.parametrize(
    ('path', 'token'),
    [
        ('"walk/a 1.mp4"', 'quotes'),
        ('\u201cwalk/a 1.mp4\u201d', 'quotes'),
        ('walk\\a 1.mp4', '/ instead of'),
        ('walk/a 1.mp4 24', 'column'),
        ('walk/a 1.mp4 0 24', 'column'),
        ('"walk/a 1.mp4" 24', 'column.*quotes'),
        ('walk/a 1.mp4;', 'separator'),
        ('walk/a 1', 'need the extension'),
        ('walk/a 1.avi', 'extension differs'),
        ('walk/a 1.MP4', 'case'),
        ('WALK/A 1.mp4', 'case'),
        ('walk/a%201.mp4', '%-escapes'),
        ('\ufeffwalk/a 1.mp4', 'invisible'),
        ('videos/walk/a 1.mp4', 'leading folders'),
        ('/mnt/data/videos/walk/a 1.mp4', 'leading folders'),
        ('"D:\\videos\\walk\\a 1.mp4"', 'leading folders'),
    ],
)
def test_missing_path_is_explained_by_existing_one(root: Path, path: str, token: str) -> None:
    assert re.search(rf'{root}/walk/a 1\.mp4 exists: .*{token}', explain_missing(path, [str(root)]))


def test_unicode_form_of_path_is_compared(root: Path) -> None:
    hint = explain_missing(unicodedata.normalize('NFD', 'Sit/Jum\u00e9.MTS'), [str(root)])
    assert 'NFC' in hint
    assert f'{root}/Sit/Jum\u00e9.MTS' in hint


def test_right_data_root_is_found(root: Path) -> None:
    for roots in ([str(root.parent), ''], [str(root / 'Sit'), str(root)]):
        assert f"data_root='{root}'" in explain_missing('walk/a 1.mp4', roots)


@pytest.mark.parametrize('path', ['walk/b.mp4', 'nowhere/x', '', '\0', '~nobody/x.mp4', 'a' * 5000])
def test_unknown_paths_have_no_hint(root: Path, path: str) -> None:
    assert explain_missing(path, [str(root)]) == ''


def test_frame_folders_are_explained(root: Path) -> None:
    write_frames(root / 'frames' / 'clip', num_frames=3)
    names = FrameNames('img_{:05d}.jpg')
    assert re.search(r'\b3\b.*num_frames', explain_missing('frames/clip', [str(root)], names))
    assert "'img_00001.jpg'; set filename_tmpl" in explain_missing(
        'frames/clip', [str(root)], FrameNames('frame_{:d}.png')
    )
    assert 'VideoDataset' in explain_missing('walk/a 1.mp4', [str(root)], names)
    assert 'RawFramesDataset' in explain_missing('frames/clip 3', [str(root)])
    assert 'case' in explain_missing('Frames/Clip', [str(root)], names)


@pytest.mark.parametrize(
    ('line', 'token'),
    [
        ('path label', 'header'),
        ('video_path,label', 'header'),
        ('"a.mp4" "0"', 'quotes'),
        ('a b.mp4;0', 'semicolons'),
        ('a.mp4,0', 'commas'),
        ('"a.mp4","0"', 'commas'),
        ('a.mp4|0', '"|"'),
        ('a.mp4', 'label is missing'),
        ('0 a.mp4', 'last field'),
        ('a.mp4 1.0', 'Write 1'),
        ('a1.mp4 walk', 'build-list csv'),
        ('a.mp4 0 # walk', 'lines of their own'),
    ],
)
def test_malformed_line_has_a_hint(tmp_path: Path, line: str, token: str) -> None:
    (tmp_path / 'list.txt').write_text(f'{line}\nb.mp4 1\n')
    with pytest.raises(ValueError, match=rf'list\.txt:1: .*{re.escape(token)}'):
        parse_list_file(str(tmp_path / 'list.txt'))


def test_long_label_is_not_called_quoted(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text(f'a.mp4 {"9" * 23}\n')
    with pytest.raises(ValueError, match='23 digits; at most 9 are allowed$'):
        parse_list_file(str(tmp_path / 'list.txt'))


def test_binary_list_is_named(tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_bytes(gzip.compress(b'a.mp4 0\n'))
    with pytest.raises(ValueError, match='gzip'):
        parse_list_file(str(tmp_path / 'list.txt'))

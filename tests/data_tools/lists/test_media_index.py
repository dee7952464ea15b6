"""The tree of videos, read once, and the names that are looked up in it."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from dsanet.data_tools.lists.media_index import MediaIndex, index_media, simplify, stem
from dsanet.datasets.frame_names import FrameNames


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def index_of(*paths: str) -> MediaIndex:
    return MediaIndex('videos', dict.fromkeys(paths), {})


def test_only_extensions_of_videos_are_cut_off() -> None:
    assert [stem(name) for name in ('a.mp4', 'a.MKV', 'v1.2_clip', 'a.b.webm')] == ['a', 'a', 'v1.2_clip', 'a.b']
    assert simplify("Massaging person's_head (1)") == 'massagingpersonshead1'


def test_videos_are_found_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, 'a.mp4', 'x y/b.MKV', 'x y/z/c.webm', 'notes.txt', '.hidden/d.mp4', 'x y/.e.mp4', 'x y/f.jpg')
    media = index_media(str(tmp_path))
    assert media.num_frames == {'a.mp4': None, 'x y/b.MKV': None, 'x y/z/c.webm': None}
    assert media.problems == {}


def test_frames_are_counted_and_gaps_are_told(tmp_path: Path) -> None:
    frames = [f'clap/good/img_{n:05d}.jpg' for n in range(1, 13)]
    touch(tmp_path, *frames, 'clap/good/flow_x_00001.jpg', 'clap/good/img_1.jpg', 'clap/good/img_abcde.jpg')
    touch(tmp_path, *[f'clap/gap/img_{n:05d}.jpg' for n in (1, 2, 4, 7)], *[f'gap/img_{n:05d}.jpg' for n in (1, 3)])
    touch(tmp_path, *[f'zero/img_{n:05d}.jpg' for n in range(3)], 'other/00001.jpg', 'img_00001.jpg')
    media = index_media(str(tmp_path), FrameNames('img_{:05d}.jpg'))
    assert media.num_frames == {'clap/good': 12, 'clap/gap': 4, 'gap': 2, 'zero': 3}
    found = {name: re.findall(r'\d+', problem) for name, problem in media.problems.items()}
    assert found == {'clap/gap': ['1', '7', '3', '2'], 'gap': ['1', '3', '2'], 'zero': ['0', '1']}
    assert media.example == 'img_00001.jpg'
    assert 'zero' not in index_media(str(tmp_path), FrameNames('img_{:05d}.jpg', start_index=0)).problems


def test_links_are_followed_once_and_circles_end(tmp_path: Path) -> None:
    root = touch(tmp_path / 'root', 'a/1.mp4')
    elsewhere = touch(tmp_path / 'elsewhere', 'b/2.mp4')
    (root / 'linked').symlink_to(elsewhere)
    (elsewhere / 'b' / 'back').symlink_to(root)
    (elsewhere / 'again').symlink_to(elsewhere / 'b')
    (root / 'broken.mp4').symlink_to(tmp_path / 'nowhere')
    assert set(index_media(str(root)).num_frames) == {'a/1.mp4', 'linked/b/2.mp4', 'linked/again/2.mp4'}


def test_the_number_of_threads_makes_no_difference_and_progress_reaches_the_end(tmp_path: Path) -> None:
    touch(tmp_path, *[f'{a}/{b}/{c}.mp4' for a in 'abc' for b in 'def' for c in 'gh'])
    steps: list[tuple[int, int]] = []
    one = index_media(str(tmp_path), workers=1, progress=lambda done, known: steps.append((done, known)))
    many = index_media(str(tmp_path), workers=5)
    assert list(one.num_frames) == list(many.num_frames)
    assert len(one.num_frames) == 18
    assert steps[-1] == (13, 13)
    assert [done for done, _ in steps] == list(range(1, 14))
    with pytest.raises(ValueError, match='workers is 0, must be at least 1'):
        index_media(str(tmp_path), workers=0)


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, 'a/1.mp4', 'locked/2.mp4')
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith('locked'):
            raise PermissionError(13, 'Permission denied')
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    media = index_media(str(tmp_path))
    assert list(media.num_frames) == ['a/1.mp4']
    assert media.problems == {'locked': 'cannot be read: Permission denied'}


def test_there_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder '.*/nowhere'; looked for videos in it"):
        index_media(str(tmp_path / 'nowhere'))


def test_a_bare_name_is_found_in_any_folder() -> None:
    media = index_of('x/7.webm', 'y/7.mp4', '8.webm')
    assert media.find('8') == ['8.webm']
    assert media.find('8.avi') == ['8.webm']
    assert media.find('7') == ['x/7.webm', 'y/7.mp4']
    assert media.find('7.mp4') == ['y/7.mp4']
    assert media.find('9') == []


def test_a_folder_in_the_name_must_be_right() -> None:
    media = index_of('train/riding_a_bike/1.mp4', 'train/Riding a horse/1.mp4', 'val/clap/1.mp4', 'clap/2.mp4')
    assert media.find('riding a bike/1') == ['train/riding_a_bike/1.mp4']
    assert media.find('riding a horse/1.avi') == ['train/Riding a horse/1.mp4']
    assert media.find('clap/1') == ['val/clap/1.mp4']
    assert media.find('lap/1') == []
    assert media.find('train/clap/2') == []
    assert media.find('wave/1') == []


def test_the_nearest_folder_wins() -> None:
    media = index_of('clap/1.mp4', 'old/clap/1.mp4', 'Clap/1.mp4')
    assert media.find('clap/1') == ['clap/1.mp4']
    assert media.find('old/clap/1') == ['old/clap/1.mp4']
    assert media.find('CLAP/1') == ['Clap/1.mp4', 'clap/1.mp4', 'old/clap/1.mp4']
    both = index_of('a/clap/1.mp4', 'b/clap/1.mp4')
    assert both.find('clap/1') == ['a/clap/1.mp4', 'b/clap/1.mp4']


def test_folders_of_frames_may_keep_the_extension_of_the_video() -> None:
    media = MediaIndex('frames', {'clap/v_1.avi': 7}, {})
    assert media.find('clap/v_1') == media.find('clap/v_1.avi') == ['clap/v_1.avi']

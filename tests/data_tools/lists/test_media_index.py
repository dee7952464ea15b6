"""Index a folder of videos and look up names in it."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from dsanet.data_tools.lists.custom import read_class_tree
from dsanet.data_tools.lists.media_index import MediaIndex, index_media, simplify, stem
from dsanet.datasets.frame_names import FrameNames


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def index_of(*paths: str) -> MediaIndex:
    return MediaIndex('videos', dict.fromkeys(paths), {})


def test_stem_removes_only_video_extensions() -> None:
    assert [stem(name) for name in ('a.mp4', 'a.MKV', 'v1.2_clip', 'a.b.webm')] == ['a', 'a', 'v1.2_clip', 'a.b']
    assert simplify("Massaging person's_head (1)") == 'massagingpersonshead1'


def test_index_finds_videos_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path, 'a.mp4', 'x y/b.MKV', 'x y/z/c.webm', 'notes.txt', '.hidden/d.mp4', 'x y/.e.mp4', 'x y/f.jpg')
    media = index_media(str(tmp_path))
    assert media.num_frames == {'a.mp4': None, 'x y/b.MKV': None, 'x y/z/c.webm': None}
    assert media.problems == {}
    assert media.skipped.counts == {'hidden': 2, 'extension .txt': 1, 'extension .jpg': 1}


def test_frames_are_counted_and_gaps_reported(tmp_path: Path) -> None:
    frames = [f'clap/good/img_{n:05d}.jpg' for n in range(1, 13)]
    touch(tmp_path, *frames, 'clap/good/flow_x_00001.jpg', 'clap/good/img_1.jpg', 'clap/good/img_abcde.jpg')
    touch(tmp_path, *[f'clap/gap/img_{n:05d}.jpg' for n in (1, 2, 4, 7)], *[f'gap/img_{n:05d}.jpg' for n in (1, 3)])
    touch(tmp_path, *[f'zero/img_{n:05d}.jpg' for n in range(3)], 'other/00001.jpg', 'img_00001.jpg')
    media = index_media(str(tmp_path), FrameNames('img_{:05d}.jpg'))
    assert media.num_frames == {'clap/good': 12, 'clap/gap': 4, 'gap': 2, 'zero': 3}
    assert media.skipped.counts == {"not named 'img_{:05d}.jpg'": 4, 'frame outside of a folder': 1}
    assert list(media.empty_folders) == ['other']
    assert '(other/00001.jpg)' in media.empty_folders['other']
    numbers = {path: [int(number) for number in re.findall(r'\d+', text)] for path, text in media.problems.items()}
    assert numbers == {'clap/gap': [1, 7, 3, 2], 'gap': [1, 3, 2], 'zero': [0, 1]}
    assert 'zero' not in index_media(str(tmp_path), FrameNames('img_{:05d}.jpg', start_index=0)).problems


def test_broken_link_counts_as_empty_folder(tmp_path: Path) -> None:
    root = touch(tmp_path, 'a/1.mp4', 'b/sub/notes.txt')
    for name in ('c', 'a/x.mp4'):
        (root / name).symlink_to(tmp_path / 'nowhere')
    media = index_media(str(root))
    assert media.skipped.counts == {'broken link': 2, 'extension .txt': 1}
    text = 'extension .txt: 1 (b/sub/notes.txt)'
    assert media.empty_folders == {'b': text, 'b/sub': text, 'c': 'broken link: 1 (c)'}
    with pytest.raises(ValueError, match='class folder b .*notes.txt'):
        read_class_tree(list(media.num_frames), 0.5, None, media.empty_folders)


def test_each_linked_folder_is_read_once(tmp_path: Path) -> None:
    root = touch(tmp_path / 'root', 'a/1.mp4')
    elsewhere = touch(tmp_path / 'elsewhere', 'b/2.mp4')
    (root / 'linked').symlink_to(elsewhere)
    (elsewhere / 'b' / 'back').symlink_to(root)
    (elsewhere / 'again').symlink_to(elsewhere / 'b')
    (root / 'broken.mp4').symlink_to(tmp_path / 'nowhere')
    media = index_media(str(root))
    assert set(media.num_frames) == {'a/1.mp4', 'linked/b/2.mp4', 'linked/again/2.mp4'}
    assert media.skipped.counts == {'broken link': 1, 'link to a folder that is already used': 2}


def test_index_does_not_depend_on_thread_count(tmp_path: Path) -> None:
    touch(tmp_path, *[f'{a}/{b}/{c}.mp4' for a in 'abc' for b in 'def' for c in 'gh'])
    one, many = (index_media(str(tmp_path), workers=workers) for workers in (1, 5))
    assert list(one.num_frames) == list(many.num_frames)
    assert len(one.num_frames) == 18
    with pytest.raises(ValueError, match=r'workers.*\b0\b'):
        index_media(str(tmp_path), workers=0)


def test_unreadable_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, 'a/1.mp4', 'locked/2.mp4')
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith('locked'):
            raise PermissionError(13, 'Permission denied')
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    media = index_media(str(tmp_path))
    assert list(media.num_frames) == ['a/1.mp4']
    assert media.problems.keys() == {'locked'}
    assert 'Permission denied' in media.problems['locked']


def test_missing_folder_or_videos_are_errors(tmp_path: Path) -> None:
    (tmp_path / 'a.jpg').touch()
    with pytest.raises(ValueError, match=rf'{tmp_path}.*\ba\.jpg'):
        index_media(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f'{tmp_path}/nowhere'):
        index_media(str(tmp_path / 'nowhere'))


def test_bare_name_matches_any_folder() -> None:
    media = index_of('x/7.webm', 'y/7.mp4', '8.webm')
    assert media.find('8') == ['8.webm']
    assert media.find('8.avi') == ['8.webm']
    assert media.find('7') == ['x/7.webm', 'y/7.mp4']
    assert media.find('7.mp4') == ['y/7.mp4']
    assert media.find('9') == []


def test_folder_in_a_name_must_match() -> None:
    media = index_of('train/riding_a_bike/1.mp4', 'train/Riding a horse/1.mp4', 'val/clap/1.mp4', 'clap/2.mp4')
    assert media.find('riding a bike/1') == ['train/riding_a_bike/1.mp4']
    assert media.find('riding a horse/1.avi') == ['train/Riding a horse/1.mp4']
    assert media.find('clap/1') == ['val/clap/1.mp4']
    assert media.find('lap/1') == []
    assert media.find('train/clap/2') == []
    assert media.find('wave/1') == []


def test_exact_folder_wins_over_similar_ones() -> None:
    media = index_of('clap/1.mp4', 'old/clap/1.mp4', 'Clap/1.mp4')
    assert media.find('clap/1') == ['clap/1.mp4']
    assert media.find('old/clap/1') == ['old/clap/1.mp4']
    assert media.find('CLAP/1') == ['Clap/1.mp4', 'clap/1.mp4', 'old/clap/1.mp4']
    both = index_of('a/clap/1.mp4', 'b/clap/1.mp4')
    assert both.find('clap/1') == ['a/clap/1.mp4', 'b/clap/1.mp4']


def test_frame_folders_may_keep_the_video_extension() -> None:
    media = MediaIndex('frames', {'clap/v_1.avi': 7}, {})
    assert media.find('clap/v_1') == media.find('clap/v_1.avi') == ['clap/v_1.avi']

"""Index the videos of a folder: read the tree once, then look up names in memory."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from tqdm import tqdm

from dsanet.datasets.frame_names import FrameNames
from dsanet.datasets.media_files import BROKEN_LINK, VIDEO_EXTENSIONS, SkippedFiles, choose_videos, is_video


def stem(name: str) -> str:
    """Return ``name`` without a video extension; other dots are part of the name."""
    root, extension = os.path.splitext(name)
    return root if extension.lower() in VIDEO_EXTENSIONS else name


def simplify(name: str) -> str:
    """Return the letters and digits of ``name`` in lower case, so that 'Riding a bike' equals 'riding_a_bike'."""
    return re.sub(r'[\W_]+', '', name.casefold())


@dataclass(slots=True)
class MediaIndex:
    """The videos below a folder.

    Args:
        root: the folder.
        num_frames: path below ``root``, with '/', to number of frames; None for a video file.
        problems: path to problem, such as missing frames or an unreadable folder.
        skipped: files and folders that are not used.
        empty_folders: folders without a video in them or below, also broken links, and what is there.
    """

    root: str
    num_frames: dict[str, int | None]
    problems: dict[str, str]
    skipped: SkippedFiles = field(default_factory=SkippedFiles)
    empty_folders: dict[str, str] = field(default_factory=dict)
    _by_stem: dict[str, list[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._by_stem = defaultdict(list)
        for path in sorted(self.num_frames):
            self._by_stem[stem(path.rpartition('/')[2])].append(path)

    def find(self, name: str) -> list[str]:
        """Find the videos that match a name of a list.

        Args:
            name: 'video' matches in any folder. 'folder/video' matches the same path, else a path with the same end,
                else a path whose end has the same letters and digits. The extension only decides between several
                matches.

        Returns:
            The paths of all matches.
        """
        folder, _, last = name.rpartition('/')
        found = self._by_stem.get(stem(last), [])
        if folder:
            folders = [path.rpartition('/')[0] for path in found]
            found = (
                [path for path, actual in zip(found, folders, strict=True) if actual == folder]
                or [path for path, actual in zip(found, folders, strict=True) if f'/{actual}'.endswith(f'/{folder}')]
                or [path for path, actual in zip(found, folders, strict=True) if _is_similar(actual, folder)]
            )
        if len(found) > 1:
            found = [path for path in found if path.rpartition('/')[2] == last] or found
        return found


def _is_similar(actual: str, folder: str) -> bool:
    """Return whether the last folders of ``actual`` equal those of ``folder``, ignoring case and punctuation."""
    wanted = [simplify(part) for part in folder.split('/')]
    return [simplify(part) for part in actual.split('/')][-len(wanted) :] == wanted


@dataclass(slots=True)
class _Folder:
    """File names of a folder, its subfolders with a flag for symbolic links, and the rest by the reason to skip it."""

    files: list[str] = field(default_factory=list)
    subfolders: list[tuple[str, bool]] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)
    problem: str | None = None


def index_media(root: str, frame_names: FrameNames | None = None, workers: int = 8) -> MediaIndex:
    """Find all videos below a folder, with a progress bar.

    Links to folders are followed, each target once. Hidden files and folders are skipped, and counted like all other
    files that are not used.

    Args:
        root: the folder.
        frame_names: names of frames, to find folders of frames; None for video files.
        workers: number of threads, which mostly wait for the disk. The result does not depend on it.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f'folder of videos not found: {os.path.abspath(root)!r}')
    if workers < 1:
        raise ValueError(f'workers must be at least 1, got {workers}')
    num_frames: dict[str, int | None] = {}
    problems: dict[str, str] = {}
    contents: dict[str, SkippedFiles] = {}  # of each folder
    seen_links = {os.path.realpath(root)}
    level = ['']
    with ThreadPoolExecutor(workers) as pool, tqdm(desc='folders', unit='folder', disable=None, total=0) as bar:
        while level:
            bar.total += len(level)
            below: list[str] = []
            for path, folder in zip(level, pool.map(partial(_read_folder, root), level), strict=True):
                bar.update()
                if folder.problem is not None:
                    problems[path] = folder.problem
                contents[path] = SkippedFiles()
                for name, reason in folder.others:
                    may_be_folder = reason == BROKEN_LINK and not is_video(name)
                    place = _join(path, name) if may_be_folder else path
                    contents.setdefault(place, SkippedFiles()).add(reason, _join(path, name))
                videos, incomplete = _videos_of(path, folder.files, frame_names, contents[path])
                num_frames |= videos
                problems |= incomplete
                for name, is_link in folder.subfolders:
                    target = os.path.realpath(os.path.join(root, path, name)) if is_link else None
                    if target is None or target not in seen_links:
                        below.append(_join(path, name))
                        seen_links |= {target} if target else set()
                    else:
                        contents[path].add('link to a folder that is already used', _join(path, name))
            level = below
    skipped = _merge(contents.values())
    if not num_frames:
        wanted = 'video' if frame_names is None else f'folder of frames named {frame_names.template!r}'
        raise ValueError(f'no {wanted} in {os.path.abspath(root)!r}; found {skipped or "no files"}')
    used = {'/'.join(parts[:n]) for parts in (path.split('/') for path in num_frames) for n in range(1, len(parts) + 1)}
    empty = {
        path: problems.get(path) or str(_merge(contents[p] for p in contents if f'{p}/'.startswith(f'{path}/')))
        for path in sorted(contents)
        if path and path not in used
    }
    return MediaIndex(root, num_frames, problems, skipped, empty)


def _merge(parts: Iterable[SkippedFiles]) -> SkippedFiles:
    merged = SkippedFiles()
    for part in parts:
        merged.merge(part)
    return merged


def _join(path: str, name: str) -> str:
    return f'{path}/{name}' if path else name


def _read_folder(root: str, path: str) -> _Folder:
    folder = _Folder()
    try:
        with os.scandir(os.path.join(root, path)) as entries:
            for entry in entries:
                if entry.name.startswith('.'):
                    folder.others.append((entry.name, 'hidden'))
                elif entry.is_dir():
                    folder.subfolders.append((entry.name, entry.is_symlink()))
                elif entry.is_file():
                    folder.files.append(entry.name)
                else:
                    kind = BROKEN_LINK if entry.is_symlink() else 'neither file nor folder'
                    folder.others.append((entry.name, kind))
    except OSError as error:
        folder.problem = f'cannot be read: {error.strerror}'
    folder.subfolders.sort()
    folder.files.sort()
    folder.others.sort()
    return folder


def _videos_of(
    path: str, files: Sequence[str], frame_names: FrameNames | None, skipped: SkippedFiles
) -> tuple[dict[str, int | None], dict[str, str]]:
    """Return the videos in a folder, or the folder itself if it is a video, and the problems."""
    if frame_names is None:
        return {_join(path, name): None for name in choose_videos(files, path, skipped)}, {}
    count, problem = frame_names.count(files)
    if count < len(files):
        first = next(name for name in files if frame_names.number(name) is None)
        skipped.add(f'not named {frame_names.template!r}', _join(path, first), len(files) - count)
    if not count or not path:
        if count:
            skipped.add('frame outside of a folder', min(files), count)
        return {}, {}
    return {path: count}, {} if problem is None else {path: problem}

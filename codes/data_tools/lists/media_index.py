"""Where the videos of a folder lie: its tree is read once, then names are looked up in memory."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from dsanet.datasets.annotation import VIDEO_EXTENSIONS
from dsanet.datasets.frame_names import FrameNames


def stem(name: str) -> str:
    """Return ``name`` without the extension of a video; other dots belong to the name."""
    root, extension = os.path.splitext(name)
    return root if extension.lower() in VIDEO_EXTENSIONS else name


def simplify(name: str) -> str:
    """Return letters and digits of ``name`` in lower case: 'Riding a bike' and 'riding_a_bike' are alike."""
    return re.sub(r'[\W_]+', '', name.casefold())


@dataclass(slots=True)
class MediaIndex:
    """The videos below a folder.

    Args:
        root: the folder.
        num_frames: path below ``root``, with '/', to the number of frames; None for a video file.
        problems: path to what is wrong with it: frames that lack, folders that cannot be read.
        example: a file that was passed over because it is no video or frame; None if there is none.
    """

    root: str
    num_frames: dict[str, int | None]
    problems: dict[str, str]
    example: str | None = None
    _by_stem: dict[str, list[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._by_stem = defaultdict(list)
        for path in sorted(self.num_frames):
            self._by_stem[stem(path.rpartition('/')[2])].append(path)

    def find(self, name: str) -> list[str]:
        """Find the videos that a list can mean by ``name``.

        Args:
            name: 'video' for one in any folder, or 'folder/video' whose folder must be right: the same path, or its
                end, or at least the same letters and digits. The extension only decides between namesakes.

        Returns:
            Their paths: none, the one, or several that the name does not tell apart.
        """
        folder, _, last = name.rpartition('/')
        found = self._by_stem.get(stem(last), [])
        if folder:
            folders = [path.rpartition('/')[0] for path in found]
            found = (
                [path for path, there in zip(found, folders, strict=True) if there == folder]
                or [path for path, there in zip(found, folders, strict=True) if f'/{there}'.endswith(f'/{folder}')]
                or [path for path, there in zip(found, folders, strict=True) if _is_alike(there, folder)]
            )
        if len(found) > 1:
            found = [path for path in found if path.rpartition('/')[2] == last] or found
        return found


def _is_alike(there: str, folder: str) -> bool:
    """Return whether the last folders of ``there`` are called as those of ``folder``, but for blanks and case."""
    wanted = [simplify(part) for part in folder.split('/')]
    return [simplify(part) for part in there.split('/')][-len(wanted) :] == wanted


@dataclass(slots=True)
class _Folder:
    """What one folder holds: names of its files, and of its subfolders with whether they are links."""

    files: list[str] = field(default_factory=list)
    subfolders: list[tuple[str, bool]] = field(default_factory=list)
    problem: str | None = None


def index_media(
    root: str,
    frame_names: FrameNames | None = None,
    workers: int = 8,
    progress: Callable[[int, int], object] | None = None,
) -> MediaIndex:
    """Find all videos below a folder.

    Threads read the folders: that is waiting for the disk, or the network. Links to folders are followed, each target
    once. Hidden files and folders are passed over.

    Args:
        root: the folder.
        frame_names: how frames are called, then videos are folders of frames; None for video files.
        workers: number of threads.
        progress: called for every folder with the number of folders read and known.

    Returns:
        The index; it depends on the tree alone, not on the threads.

    Raises:
        FileNotFoundError: ``root`` is no folder.
        ValueError: ``workers`` is less than 1.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f'no folder {os.path.abspath(root)!r}; looked for videos in it')
    if workers < 1:
        raise ValueError(f'workers is {workers}, must be at least 1')
    num_frames: dict[str, int | None] = {}
    problems: dict[str, str] = {}
    example: str | None = None
    seen_links = {os.path.realpath(root)}
    done = known = 0
    level = ['']
    with ThreadPoolExecutor(workers) as pool:
        while level:
            known += len(level)
            below: list[str] = []
            for path, folder in zip(level, pool.map(partial(_read_folder, root), level), strict=True):
                done += 1
                if progress is not None:
                    progress(done, known)
                if folder.problem is not None:
                    problems[path] = folder.problem
                videos, lacking = _videos_of(path, folder.files, frame_names)
                num_frames |= videos
                problems |= lacking
                if not videos and folder.files and example is None:
                    example = _join(path, min(folder.files))
                for name, is_link in folder.subfolders:
                    target = os.path.realpath(os.path.join(root, path, name)) if is_link else None
                    if target is None or target not in seen_links:
                        below.append(_join(path, name))
                        seen_links |= {target} if target else set()
            level = below
    return MediaIndex(root, num_frames, problems, example)


def _join(path: str, name: str) -> str:
    return f'{path}/{name}' if path else name


def _read_folder(root: str, path: str) -> _Folder:
    folder = _Folder()
    try:
        with os.scandir(os.path.join(root, path)) as entries:
            for entry in entries:
                if entry.name.startswith('.'):
                    continue
                if entry.is_dir():
                    folder.subfolders.append((entry.name, entry.is_symlink()))
                elif entry.is_file():
                    folder.files.append(entry.name)
    except OSError as error:
        folder.problem = f'cannot be read: {error.strerror}'
    folder.subfolders.sort()
    return folder


def _videos_of(
    path: str, files: Sequence[str], frame_names: FrameNames | None
) -> tuple[dict[str, int | None], dict[str, str]]:
    """Return the videos of one folder, or the folder itself as a video, and what is wrong with it."""
    if frame_names is None:
        return {_join(path, name): None for name in files if name.lower().endswith(VIDEO_EXTENSIONS)}, {}
    count, problem = frame_names.count(files)
    if not count or not path:
        return {}, {}
    return {path: count}, {} if problem is None else {path: problem}

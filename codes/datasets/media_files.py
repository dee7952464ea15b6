"""Recognize videos by their file names, and count the files that are not used."""

import os
from collections import Counter
from collections.abc import Iterable

from dsanet.utils.text import printable

# Formats of cameras, phones, recorders and discs that FFmpeg reads.
VIDEO_EXTENSIONS = (
    *('.264', '.265', '.3g2', '.3gp', '.3gpp', '.amv', '.asf', '.avi', '.dav', '.dif', '.divx', '.dv', '.evo', '.f4v'),
    *('.flv', '.gif', '.h264', '.h265', '.hevc', '.insv', '.ivf', '.m1v', '.m2t', '.m2ts', '.m2v', '.m4v', '.mj2'),
    *('.mjpeg', '.mjpg', '.mkv', '.mod', '.mov', '.mp2v', '.mp4', '.mp4v', '.mpe', '.mpeg', '.mpg', '.mpv'),
    *('.mts', '.mxf', '.nut', '.ogm', '.ogv', '.qt', '.rm', '.rmvb', '.tod', '.tp', '.trp', '.ts', '.vob'),
    *('.vro', '.webm', '.wmv', '.wtv', '.y4m'),
)

BROKEN_LINK = 'broken link'  # why a file is not used, such as after moving the folder of the videos


def is_video(name: str) -> bool:
    """Return whether a file name has the extension of a video, ignoring case."""
    return name.lower().endswith(VIDEO_EXTENSIONS)


class SkippedFiles:
    """Counts the files and folders of a dataset that are not used, by reason, with an example of each.

    Attributes:
        counts: number by reason, such as ``{'extension .txt': 2, 'hidden': 1}``.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, reason: str, path: str, number: int = 1) -> None:
        """Count a path, relative to the folder of the dataset."""
        self.counts[reason] += number
        self._examples.setdefault(reason, path)

    def add_file(self, path: str) -> None:
        """Count a file whose name is not that of a video."""
        extension = os.path.splitext(path)[1].lower()
        self.add(f'extension {extension}' if extension else 'no extension', path)

    def merge(self, other: 'SkippedFiles') -> None:
        """Add the counts of another instance."""
        for reason, number in other.counts.items():
            self.add(reason, other._examples[reason], number)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """Return, e.g., ``'extension .txt: 2 (walk/notes.txt, ...), hidden: 1 (.cache)'``, empty if there are none."""
        return ', '.join(
            f'{printable(reason)}: {number} ({printable(self._examples[reason])}{", ..." if number > 1 else ""})'
            for reason, number in sorted(self.counts.items())
        )


def choose_videos(names: Iterable[str], folder: str, skipped: SkippedFiles) -> list[str]:
    """Return the names of the videos in a folder, and count the other files.

    A GIF beside a video of the same name is its preview, and would be the same sample twice.

    Args:
        names: of its files.
        folder: its path below the folder of the dataset.
        skipped: counts the other files.
    """
    names = list(names)
    stems = {os.path.splitext(name)[0] for name in names if is_video(name) and not name.lower().endswith('.gif')}
    chosen = []
    for name in names:
        stem, extension = os.path.splitext(name)
        if not is_video(name):
            skipped.add_file(os.path.join(folder, name))
        elif extension.lower() == '.gif' and stem in stems:
            skipped.add('GIF beside a video of the same name', os.path.join(folder, name))
        else:
            chosen.append(name)
    return chosen

"""The paths of many videos, in one text instead of an object for each."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_CHUNK = 65536  # paths that are in memory at a time


class RecordSource(NamedTuple):
    """What records have in common: their list file or class folder, the folder of relative paths, and a text.

    The text contains the paths, in UTF-8; it may be the content of the list file.
    """

    list_file: str
    root: str
    text: bytes


@dataclass(frozen=True, eq=False)
class PathColumns:
    """Paths as columns.

    Args:
        sources: at least one, unless there are no paths.
        begins: (len,) int64 or uint32, first byte of the path in the text of the source.
        sizes: (len,) int32, bytes of the path.
        numbers: (len,) int32, indices into ``sources``; None for the first one.
    """

    sources: tuple[RecordSource, ...]
    begins: npt.NDArray[np.int64] | npt.NDArray[np.uint32]
    sizes: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.begins)

    def take(self, indices: npt.NDArray[np.int64]) -> 'PathColumns':
        """Return some of the paths, in the order of the indices; the texts are shared."""
        numbers = None if self.numbers is None else self.numbers[indices]
        return replace(self, begins=self.begins[indices], sizes=self.sizes[indices], numbers=numbers)

    @staticmethod
    def concatenate(parts: Sequence['PathColumns']) -> 'PathColumns':
        """Return all paths of all parts; the texts are shared."""
        offsets = np.cumsum([0, *(len(part.sources) for part in parts[:-1])])
        numbers = [part._numbers(slice(None)) + offset for part, offset in zip(parts, offsets, strict=True)]
        return PathColumns(
            tuple(source for part in parts for source in part.sources),
            np.concatenate([part.begins for part in parts]),
            np.concatenate([part.sizes for part in parts]),
            np.concatenate(numbers).astype(np.int32),
        )

    def _numbers(self, part: slice) -> npt.NDArray[Any]:
        return np.zeros(len(self.begins[part]), np.int32) if self.numbers is None else self.numbers[part]

    def chunks(self, folder: str = '', skip: int = 0) -> Iterator[list[bytes]]:
        """Yield all paths in lists, in UTF-8: much faster than one after the other.

        Args:
            folder: put in front of relative paths.
            skip: number of bytes to remove from the beginning of each path.
        """
        folders = [os.path.join(folder, source.root, '').encode('utf-8', 'surrogateescape') for source in self.sources]
        return (self._paths(part, folders, skip) for part in self._parts())

    def _parts(self) -> Iterator[slice]:
        return (slice(first, first + _CHUNK) for first in range(0, len(self), _CHUNK))

    def _paths(self, part: slice, folders: Sequence[bytes], skip: int) -> list[bytes]:
        begins, ends = self.begins[part], self.begins[part] + self.sizes[part]
        if (is_absolute := self._are_absolute(part)) is not None:
            text, prefix = self.sources[0].text, b'' if is_absolute else folders[0]
            limits = zip((begins + max(skip - len(prefix), 0)).tolist(), ends.tolist(), strict=True)
            prefix = prefix[skip:]
            return [prefix + text[i:j] for i, j in limits] if prefix else [text[i:j] for i, j in limits]
        numbers = self._numbers(part).tolist()
        places = zip(numbers, begins.tolist(), ends.tolist(), strict=True)
        found = ((folders[n], self.sources[n].text[i:j]) for n, i, j in places)
        return [(path if path.startswith(b'/') else prefix + path)[skip:] for prefix, path in found]

    def _are_absolute(self, part: slice) -> bool | None:
        """Return whether the paths are absolute; None if only some are, or if there are several sources."""
        if len(self.sources) > 1 or not self.sizes[part].all():
            return None
        is_absolute = np.frombuffer(self.sources[0].text, np.uint8)[self.begins[part]] == ord('/')
        return None if is_absolute.any() and not is_absolute.all() else bool(is_absolute[0])

    def common_folder(self) -> bytes:
        """Return the common beginning of all paths up to the last ``/``, in UTF-8."""
        beginnings: list[bytes] = []
        folders = [os.path.join(source.root, '').encode('utf-8', 'surrogateescape') for source in self.sources]
        for part in self._parts():
            if (is_absolute := self._are_absolute(part)) is None:
                paths = self._paths(part, folders, 0)
                beginnings += [min(paths), max(paths)]
                continue
            text, begins = self.sources[0].text, self.begins[part]
            characters = np.frombuffer(text, np.uint8)
            length, shortest = 0, int(self.sizes[part].min())
            while length < shortest and np.ptp(characters[begins + length]) == 0:
                length += 1
            first = int(begins[0])
            beginnings.append((b'' if is_absolute else folders[0]) + text[first : first + length])
        common = os.path.commonprefix([one.decode('latin-1') for one in beginnings])  # one character per byte
        return common[: common.rfind('/') + 1].encode('latin-1')

    def are_normal(self) -> bool:
        """Return whether ``os.path.normpath`` changes no absolute path; False also if that is not certain."""
        if len(texts := {id(source.text): source.text for source in self.sources}) != 1:
            return False
        (text,) = texts.values()
        roots = {os.path.join('/', source.root, '').encode('utf-8', 'surrogateescape') for source in self.sources}
        if any(part in one for one in (text, *roots) for part in (b'//', b'/.')):
            return False
        characters = np.frombuffer(text, np.uint8)
        starts_with_dot = characters[self.begins] == ord('.')
        ends_with_slash = characters[self.begins + self.sizes - 1] == ord('/')
        return not (starts_with_dot.any() or ends_with_slash.any())

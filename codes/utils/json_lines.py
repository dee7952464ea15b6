"""Files of JSON lines that a run adds to; a crash or a full disk costs lines, and neither the run nor the file."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dsanet.utils.files import write_atomically

LOGGER = logging.getLogger(__name__)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines; none if there is no file. A line cut off by a crash is left out."""
    lines = []
    for text in file.read_text().splitlines() if file.is_file() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


class RecordFile:
    """A file of JSON lines that a run adds to. A full disk costs lines and is said once; it does not end the run.

    Args:
        file: its folder exists.
        keep: says which lines of an earlier run stay; the others go. None leaves the file as it is.
    """

    def __init__(self, file: Path, keep: Callable[[Mapping[str, Any]], bool] | None = None) -> None:
        self.file = file
        self._has_warned = False
        self._is_cut = False  # whether the last line may be incomplete
        if keep is not None and file.is_file():
            self.rewrite(line for line in read_lines(file) if keep(line))

    def rewrite(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Put these lines in the place of all others."""
        text = ''.join(json.dumps(line) + '\n' for line in lines)
        self.attempt(lambda: write_atomically(text.encode(), self.file))

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line."""
        data = f'{chr(10) * self._is_cut}{json.dumps(line)}\n'.encode()

        def write() -> None:
            self._is_cut = True
            with self.file.open('ab', buffering=0) as stream:
                if stream.write(data) == len(data):  # a disk that is nearly full takes a part of them
                    self._is_cut = False

        self.attempt(write)

    def attempt(self, write: Callable[[], None]) -> None:
        """Write something that a run can do without; says once that it could not be written."""
        try:
            write()
        except OSError as error:
            if not self._has_warned:
                LOGGER.warning('%s has gaps: %s', self.file, error)
            self._has_warned = True

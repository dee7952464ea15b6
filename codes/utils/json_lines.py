"""JSON lines files to which a run appends. Disk errors lose lines but never end the run or damage the file."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dsanet.utils.files import write_atomically

LOGGER = logging.getLogger(__name__)


def read_json_lines(file: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON lines file, without truncated lines; empty if the file does not exist."""
    lines = []
    for text in file.read_text().splitlines() if file.is_file() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


class RecordFile:
    """A JSON lines file to append to. If it cannot be written, one warning is logged.

    Args:
        file: path in an existing folder.
        keep: returns whether a line of an earlier run stays; None keeps the file as it is.
    """

    def __init__(self, file: Path, keep: Callable[[Mapping[str, Any]], bool] | None = None) -> None:
        self.file = file
        self._has_warned = False
        self._is_truncated = False  # whether the last line may be incomplete
        if keep is not None and file.is_file():
            self.rewrite(line for line in read_json_lines(file) if keep(line))

    def rewrite(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Replace all lines."""
        text = ''.join(json.dumps(line) + '\n' for line in lines)
        self.try_write(lambda: write_atomically(text.encode(), self.file))

    def append(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        data = f'{chr(10) * self._is_truncated}{json.dumps(line)}\n'.encode()

        def write() -> None:
            self._is_truncated = True
            with self.file.open('ab', buffering=0) as stream:
                if stream.write(data) == len(data):  # a nearly full disk accepts a part
                    self._is_truncated = False

        self.try_write(write)

    def try_write(self, write: Callable[[], None]) -> None:
        """Call a function that writes; log a warning if it fails for the first time."""
        try:
            write()
        except (OSError, UnicodeEncodeError) as error:  # TensorBoard requires paths in UTF-8
            if not self._has_warned:
                LOGGER.warning('Cannot write to %s: %s. Some entries will be missing', self.file, error)
            self._has_warned = True

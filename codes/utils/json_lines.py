"""JSON lines files to which a run appends. Disk errors lose lines but never end the run or damage the file."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsanet.utils.files import write_atomically
from dsanet.utils.text import count_noun

LOGGER = logging.getLogger(__name__)


def read_json_lines(file: Path, types: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the objects of a JSON lines file; empty if the file does not exist.

    Damaged lines are skipped, with a warning that lists their numbers.

    Args:
        file: the file.
        types: keys that each line must have, with the types of their values.

    Raises:
        OSError: the file cannot be read.
    """
    lines: list[dict[str, Any]] = []
    damaged: list[int] = []
    for number, data in enumerate(file.read_bytes().split(b'\n') if file.is_file() else (), 1):
        try:
            line = json.loads(data.decode())
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict) and all(
            key in line and isinstance(line[key], kind) for key, kind in (types or {}).items()
        ):
            lines.append(line)
        elif data.strip():
            damaged.append(number)
    warn_of_damaged_lines(file, damaged)
    return lines


def warn_of_damaged_lines(file: Path, numbers: Sequence[int]) -> None:
    """Log the numbers of lines that are skipped, if any."""
    if numbers:
        shown = ', '.join(map(str, numbers[:5])) + (', ...' if len(numbers) > 5 else '')
        LOGGER.warning('Skipping %s of %s: %s', count_noun(len(numbers), 'damaged line'), file, shown)


def read_json(file: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        ValueError: the file is damaged.
        OSError: the file cannot be read.
    """
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{file} is damaged: {error}; restore or remove it') from error
    if not isinstance(content, dict):
        raise ValueError(f'{file} is damaged: not a JSON object; restore or remove it')
    return content


def dump_json_line(content: Mapping[str, Any]) -> str:
    """Return a dict as a line of valid JSON, in which NaN and infinity are null."""
    return json.dumps(_finite(content), allow_nan=False) + '\n'


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class RecordFile:
    """A JSON lines file to append to. If it cannot be written, one warning is logged.

    Args:
        file: path in an existing folder.
        keep: returns whether a line of an earlier run stays; None keeps the file as it is. Damaged lines are removed.
        types: as for :func:`read_json_lines`, for ``keep``.
    """

    def __init__(
        self,
        file: Path,
        keep: Callable[[Mapping[str, Any]], bool] | None = None,
        types: Mapping[str, Any] | None = None,
    ) -> None:
        self.file = file
        self._has_warned = False
        self._is_truncated = file.is_file()  # whether the last line may be incomplete
        if keep is not None and file.is_file():
            self.rewrite(line for line in read_json_lines(file, types) if keep(line))

    def rewrite(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Replace all lines."""
        data = ''.join(map(dump_json_line, lines)).encode()

        def write() -> None:
            write_atomically(data, self.file)
            self._is_truncated = False

        self.try_write(write)

    def append(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        data = f'{chr(10) * self._is_truncated}{dump_json_line(line)}'.encode()

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

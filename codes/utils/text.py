"""Escape untrusted text, such as file and class names, list lines, config values and messages of decoders.

Such text may contain terminal escapes, line breaks that imitate other lines, marks that reverse the text
direction, invisible characters, or bytes that are not UTF-8. They are escaped wherever text is shown: by
:class:`EscapingFormatter` in logs, by :func:`escape_output` in what commands print, and by :func:`printable` where a
name must stay on its line. JSON files keep the original names.
"""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

# Control characters, bidirectional and invisible marks, line separators, tags and lone surrogates.
_UNSAFE = re.compile(
    '[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]'
)
_CURSOR_UP = re.compile(r'(\n|\x1b\[A)*')  # of progress bars


def printable(text: str) -> str:
    """Escape the characters that do not belong in one line of text."""
    return _UNSAFE.sub(lambda match: match[0].encode('unicode_escape').decode(), text)


def printable_lines(text: str, indent: str = '') -> str:
    """Escape a text that may have several lines; lines after the first one start with ``indent``."""
    return f'\n{indent}'.join(map(printable, text.split('\n')))


def error_line(error: object) -> str:
    """Return the line ``error: ...`` for stderr. Further lines are indented, so that they cannot imitate others."""
    return f'error: {printable_lines(str(error), "    ")}\n'


def count_noun(number: int, noun: str, plural: str = 's') -> str:
    """Return a number and its noun, with the plural ending unless it is 1, such as '2 videos'."""
    return f'{number:,} {noun}{plural * (number != 1)}'


def strip_worker_traceback(error: BaseException) -> str:
    """Return the message of an error without the traceback that torch adds in a data worker."""
    # The last line of the traceback starts with the name of the error; without a traceback, torch writes "Original".
    return re.split(rf'\n(?:Original )?(?:[\w.]+\.)?{type(error).__qualname__}: ', str(error))[-1].strip()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; its type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class EscapingFormatter(logging.Formatter):
    """A log formatter that escapes text; further lines of a message are indented."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record), '    ')


class _EscapingStream:
    """A text stream that escapes what is written to it, except line breaks, tabs and the controls of progress bars."""

    def __init__(self, stream: TextIO, kept: str) -> None:
        self._stream = stream
        self._kept = re.compile(f'([{kept}])')

    def write(self, text: str) -> int:
        if not _CURSOR_UP.fullmatch(text):
            text = ''.join(part if i % 2 else printable(part) for i, part in enumerate(self._kept.split(text)))
        encoding = self._stream.encoding or 'utf-8'
        self._stream.write(text.encode(encoding, 'backslashreplace').decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def escape_output() -> Iterator[None]:
    """Escape what this process writes to stdout and stderr."""
    with ExitStack() as stack:
        if sys.stdout is not None:  # None if it was closed before Python started
            stack.enter_context(redirect_stdout(cast(TextIO, _EscapingStream(sys.stdout, '\n\t'))))
        if sys.stderr is not None:
            stack.enter_context(redirect_stderr(cast(TextIO, _EscapingStream(sys.stderr, '\n\t\r'))))
        yield

"""A command whose output is no longer read, as in ``dsanet summary CONFIG | head``, ends without a message."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

STATUS = 141  # 128 + SIGPIPE, as in shells


class ConsoleClosed(BaseException):  # noqa: N818 - not an error
    """The output is no longer read. Code that handles errors of files and of other processes does not catch this."""


class _Console(io.TextIOWrapper):
    """Standard output or standard error that raises :class:`ConsoleClosed` instead of BrokenPipeError.

    SIGPIPE is not an alternative: it would also end a process that writes to a data worker that has died.
    """

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            self._discard()

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> NoReturn:
        """Discard all further output, so that Python does not complain about it at exit."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        raise ConsoleClosed('the output is no longer read')


class LastingOutput:
    """Calls functions that print; if the output is closed, files can still be completed before the command ends.

    Args:
        has_files: whether there are files to complete; if not, the command ends at once.
    """

    def __init__(self, has_files: bool) -> None:
        self._has_files = has_files
        self._closed: ConsoleClosed | None = None

    def __call__(self, function: Callable[..., object], *arguments: object) -> bool:
        """Call a function; return whether the output is still read."""
        try:
            function(*arguments)
        except ConsoleClosed as closed:
            if not self._has_files:
                raise
            self._closed = closed
        return self._closed is None

    def end(self) -> None:
        """Raise :class:`ConsoleClosed` if the output was closed."""
        if self._closed is not None:
            raise self._closed


def open_closed_streams() -> None:
    """Connect standard streams that were closed before the program started, as after ``>&-``, to the null device.

    Python sets them to None, on which libraries fail, and the next file that is opened would get the text of C code.
    """
    for descriptor, name in enumerate(('stdin', 'stdout', 'stderr')):
        if getattr(sys, name) is not None:
            continue
        null = os.open(os.devnull, os.O_RDWR)  # usually has this number already
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)
        setattr(sys, name, open(descriptor, 'w' if descriptor else 'r', encoding='utf-8', closefd=False))


@contextmanager
def quiet_if_closed() -> Iterator[None]:
    """Context, or decorator of a main function, that exits with status 141 when standard output or error is closed."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_wrap, before)
    try:
        try:
            yield
        except SystemExit:
            _flush()
            raise
        _flush()
    except ConsoleClosed:
        raise SystemExit(STATUS) from None
    finally:
        for stream in {sys.stdout, sys.stderr} - {*before}:
            if isinstance(stream, _Console):
                stream.detach()  # otherwise it closes the file
        sys.stdout, sys.stderr = before


def _flush() -> None:
    if sys.stdout is not None:  # as after ">&-"
        sys.stdout.flush()


def _wrap(stream: TextIO) -> TextIO:
    if type(stream) is not io.TextIOWrapper:  # replaced by a test or a notebook, or there is no console
        return stream
    return _Console(stream.buffer, stream.encoding, stream.errors, None, stream.line_buffering, stream.write_through)

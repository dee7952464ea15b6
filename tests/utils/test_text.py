import io
import logging
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
from torch._utils import ExceptionWrapper

from dsanet.datasets.transforms.base import BadSample, MissingSample
from dsanet.utils.text import (
    EscapingFormatter,
    count_noun,
    error_line,
    escape_output,
    printable,
    printable_lines,
    strip_worker_traceback,
)

NOT_UTF8 = b'jum\xe9.mp4'.decode('utf-8', 'surrogateescape')
HOSTILE = ['\x1b[31m', '\x1b]0;title\x07', '\r', '\n', '\t', '\x7f', '\x9b2J', '\u202e', '\u2066', '\u2028', '\u200b']


def test_non_utf8_text_is_escaped() -> None:
    assert printable(NOT_UTF8) == 'jum\\udce9.mp4'


@pytest.mark.parametrize('text', ['日本 é', 'a b\u00a0c', '👩\u200d🚀', 'क्\u200cष', 'שלום', '\\x1b'])
def test_ordinary_text_is_kept(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize('text', HOSTILE)
def test_controls_are_escaped(text: str) -> None:
    shown = printable(f'a{text}b')
    assert shown.isprintable()
    assert shown.startswith('a\\')
    assert printable(shown) == shown
    assert printable_lines(f'1\na{text}b').split('\n')[0] == '1'


def test_further_lines_are_indented() -> None:
    assert error_line('no video\nerror: forged\x1b[2K') == 'error: no video\n    error: forged\\x1b[2K\n'
    record = logging.LogRecord('dsanet', logging.INFO, '', 0, 'read %s', ('x\n2024 top1 99\u202e',), None)
    assert EscapingFormatter('%(message)s').format(record) == 'read x\n    2024 top1 99\\u202e'


def test_output_of_commands_is_escaped() -> None:
    out, err = io.TextIOWrapper(io.BytesIO(), encoding='ascii'), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        with escape_output():
            sys.stdout.write(f'\x1b[31m {NOT_UTF8} é \ta\r\n')
            sys.stderr.write('\rbar')
            sys.stderr.write('\n\x1b[A')
            sys.stderr.writelines(['\x1b[Ax', '\n'])
        assert sys.stdout is out
    out.flush()
    assert out.buffer.getvalue() == b'\\x1b[31m jum\\udce9.mp4 \\xe9 \ta\\r\n'
    assert err.getvalue() == '\rbar\n\x1b[A\\x1b[Ax\n'


@pytest.mark.parametrize('kind', [BadSample, MissingSample, OSError, FileNotFoundError])
def test_worker_traceback_is_stripped(kind: type[Exception]) -> None:
    text = 'list.txt:3: no video: x\nat all'
    assert strip_worker_traceback(kind(text)) == text
    try:
        try:
            raise kind('the original error')
        except kind as first:
            raise kind(text) from first
    except kind:
        wrapper = ExceptionWrapper(where='in DataLoader worker process 0')  # as sent by a data worker
    with pytest.raises(kind, match='Caught .* in DataLoader worker process 0') as caught:
        wrapper.reraise()
    assert strip_worker_traceback(caught.value) == text


def test_error_without_traceback_is_stripped() -> None:
    wrapper = ExceptionWrapper((OSError, OSError('no space'), None), 'in DataLoader worker process 0')
    with pytest.raises(OSError, match='Caught ') as caught:
        wrapper.reraise()
    assert strip_worker_traceback(caught.value) == 'no space'


def test_noun_has_plural_ending_unless_one() -> None:
    assert [count_noun(n, 'video') for n in (0, 1, 2000)] == ['0 videos', '1 video', '2,000 videos']
    assert [count_noun(n, 'class', 'es') for n in (1, 2)] == ['1 class', '2 classes']

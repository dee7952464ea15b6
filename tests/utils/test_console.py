import os
import subprocess
import sys

import pytest

from dsanet.utils.console import STATUS

SUMMARY = ['summary', 'demo/dsanet_ordered_actions']


@pytest.mark.parametrize(
    ('arguments', 'lines'),
    [(['--help'], 0), (['score', '--help'], 1), pytest.param(SUMMARY, 0, marks=pytest.mark.sweep)],
    ids=['program', 'command', 'printed at work'],
)
@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_closed_output_ends_quietly(arguments: list[str], lines: int, unbuffered: str) -> None:
    command = [sys.executable, *['-u'] * bool(unbuffered), '-m', 'dsanet', *arguments]
    reading, writing = os.pipe()
    if not lines:
        os.close(reading)
    process = subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    if lines:
        with open(reading) as output:
            for _ in range(lines):
                output.readline()
    _, errors = process.communicate()
    assert errors == ''
    assert process.returncode in ((STATUS, 0) if lines else (STATUS,))  # all may be written before the pipe is closed


@pytest.mark.parametrize(
    ('closed', 'argument', 'status'), [('>&-', '--version', 0), ('2>&-', 'nothing', 2), ('<&- >&- 2>&-', 'nothing', 2)]
)
def test_streams_closed_before_the_start_are_opened(closed: str, argument: str, status: int) -> None:
    code = (
        'import os, sys, dsanet.__main__; '
        'status = dsanet.__main__.main(sys.argv[1:]); sys.stdout.flush(); sys.stderr.isatty(); '
        'number = os.open(os.devnull, os.O_RDONLY); sys.exit(status if number > 2 else 77)'
    )
    command = f'exec "$0" -c "$1" {argument} {closed}'
    done = subprocess.run(['sh', '-c', command, sys.executable, code], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert 'Traceback' not in done.stderr


def test_closed_output_passes_handlers_of_errors() -> None:
    code = """
import os
import sys
from dsanet.utils.console import quiet_if_closed

@quiet_if_closed()
def main():
    try:
        while True:
            print('x' * 100_000)
    except OSError as error:  # as the commands report a full disk
        sys.exit(2)

main()
"""
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b''
    assert process.wait() == STATUS
    process.stderr.close()


def test_broken_pipe_of_another_process_is_an_error() -> None:
    code = """
import os
from dsanet.utils.console import quiet_if_closed

@quiet_if_closed()
def main():
    print('before')
    reader, writer = os.pipe()
    os.close(reader)
    os.write(writer, b'x')

main()
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, 'before\n')
    assert 'BrokenPipeError' in done.stderr


def test_command_without_a_console_succeeds() -> None:
    command = f'{sys.executable} -m dsanet --help >&- 2>&-'
    assert subprocess.run(['bash', '-c', command], check=False).returncode == 0

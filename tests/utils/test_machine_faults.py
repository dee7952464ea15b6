import errno
import subprocess
import sys

import av
import pytest

from dsanet.utils.machine_faults import (
    MachineError,
    explain_shared_memory,
    explain_shortage,
    format_size,
    is_machine_fault,
)


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        OSError(errno.EMFILE, 'x'),
        OSError(errno.ENOSPC, 'x'),
        OSError(errno.ECONNRESET, 'x'),
        PermissionError(errno.EACCES, 'x'),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError('unable to mmap 9 bytes from file <x>: Cannot allocate memory (12)'),
        RuntimeError('Open file failed with strerror: Too many open files'),
        MachineError('x'),
    ],
)
def test_shortage_is_a_machine_fault(error: Exception) -> None:
    assert is_machine_fault(error)
    later = ValueError('x')
    later.__cause__ = error
    assert is_machine_fault(later)


@pytest.mark.parametrize(
    'error', [ValueError('x'), FileNotFoundError(errno.ENOENT, 'x'), RuntimeError('failed finding central directory')]
)
def test_damage_is_no_machine_fault(error: Exception) -> None:
    assert not is_machine_fault(error)


@pytest.mark.parametrize(
    ('error', 'part'),
    [
        (OSError(errno.EMFILE, 'x'), 'ulimit -n'),
        (RuntimeError('received 0 items of ancdata'), 'ulimit -n'),
        (MemoryError(), 'memory'),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: Cannot allocate memory (12)"), 'memory'),
        (OSError(errno.ESTALE, 'x'), 'network drive'),
        (RuntimeError('unable to allocate shared memory(shm) for file </x>: No space left on device (28)'), '/dev/shm'),
        (RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed. '), 'process 7 '),
        (RuntimeError('DataLoader worker (pid(s) 7, 8) exited unexpectedly'), 'process 7, 8 '),
        (MachineError('Caught MachineError in DataLoader worker process 0.\nTraceback\nx.MachineError: why'), 'why'),
    ],
)
def test_shortage_is_explained_in_one_line(error: Exception, part: str) -> None:
    later = ValueError('cannot be read')
    later.__cause__ = error
    for one in (error, later):
        text = explain_shortage(one)
        assert text is not None
        assert part in text
        assert '\n' not in text
        assert 'Traceback' not in text


@pytest.mark.parametrize(
    'error',
    [
        ValueError('x'),
        FileNotFoundError(errno.ENOENT, 'x'),
        PermissionError(errno.EACCES, 'x'),  # of one file
        OSError(errno.EIO, 'x'),
        av.error.MemoryError(errno.ENOMEM, 'x'),  # FFmpeg, for an impossible size in a damaged file
    ],
)
def test_faults_of_one_file_are_no_shortage(error: Exception) -> None:
    assert explain_shortage(error) is None


LIMITED = """
import errno, os, resource, av
from dsanet.utils.machine_faults import check_spare_files, explain_shortage
error = av.error.MemoryError(errno.ENOMEM, 'x')
size = int(open('/proc/self/statm').read().split()[0]) * os.sysconf('SC_PAGE_SIZE')
resource.setrlimit(resource.RLIMIT_AS, (size + 2**24, resource.RLIM_INFINITY))
assert 'memory' in explain_shortage(error)
assert explain_shortage(ValueError('x')) is None
check_spare_files(3)
count = len(os.listdir('/proc/self/fd'))
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 1, count + 1))
assert 'ulimit -n' in explain_shortage(ValueError('x'))
try:
    check_spare_files(3)
except OSError as error:
    assert 'ulimit -n' in str(error)
    print('refused')
"""


def test_process_at_its_limits_notices() -> None:
    done = subprocess.run([sys.executable, '-c', LIMITED], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ('refused\n', '')


def test_sizes_are_short() -> None:
    sizes = (0, 999, 64_000_000, 8_600_000_000)
    assert [format_size(size) for size in sizes] == ['0 bytes', '999 bytes', '64 MB', '8.6 GB']
    assert '98.3 kB' in explain_shared_memory(98_304)

import errno

import pytest

from dsanet.utils.machine_faults import is_machine_fault


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        OSError(errno.EMFILE, 'x'),
        OSError(errno.ENOSPC, 'x'),
        PermissionError(errno.EACCES, 'x'),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError('unable to mmap 9 bytes from file <x>: Cannot allocate memory (12)'),
        RuntimeError('Open file failed with strerror: Too many open files'),
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

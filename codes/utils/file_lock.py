"""A lock file that names the process that holds it. A lock whose process has ended blocks nobody.

It works on network file systems and between machines, which do not see each other's processes: the holder renews the
file's time every few seconds, and a lock is stale if its time does not change while another process waits. Times are
never compared with a clock, because the clocks of machines and file servers do not agree.
"""

import glob
import hashlib
import json
import logging
import os
import platform
import stat
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsanet.utils.processes import is_alive, start_time
from dsanet.utils.text import printable

LOGGER = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
STALE_S = 30.0  # without a heartbeat
POLL_S = 0.2
_START = b'{"id": "'
_KEYS = {'id', 'host', 'pid', 'started', 'place', 'since', 'job'}


class LockHeldError(ValueError):
    """The lock is held by a running process, which the message names."""


class FileLock:
    """A lock file, held by this process between :meth:`acquire` and :meth:`release`.

    Args:
        file: the lock file, in an existing folder.
        protects: the file or folder that only the holder may write, for messages.
    """

    def __init__(self, file: Path, protects: Path) -> None:
        self.file = file
        self.protects = protects
        pid = os.getpid()
        self._owner: dict[str, Any] = {
            'id': uuid.uuid4().hex,
            'host': platform.node(),
            'pid': pid,
            'started': start_time(pid),
            'place': _place(),
            'since': time.strftime('%Y-%m-%d %H:%M:%S'),
            'job': _slurm_job(),
        }
        self._is_released = threading.Event()
        self._heart: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lock. If a process of another machine holds it, wait up to ``STALE_S`` for its next heartbeat.

        Raises:
            LockHeldError: it is held by a running process.
            ValueError: the file exists, but is not a lock.
            OSError: the file cannot be written.
        """
        seen: _Found | None = None
        deadline = 0.0
        while not self._create(self.file):
            try:
                found = self._holder()
            except FileNotFoundError:
                continue
            owner = self._parse(found.data)
            # A process of this machine is known to run, even if it has not renewed the lock for a while.
            is_known = owner and owner['place'] == self._owner['place'] and owner['started'] is not None
            is_same = found == seen
            if owner and _is_gone(owner):
                is_stale = True
            elif owner and (is_known or (seen is not None and not is_same)):
                raise LockHeldError(f'{self.protects} is in use by {_describe(owner)}')
            else:
                is_stale = is_same and time.monotonic() > deadline
            if is_stale:
                if self._take_over(found):
                    return
            else:
                if seen is None and owner:
                    LOGGER.info('Waiting up to %g s for a heartbeat of %s', STALE_S, _describe(owner))
                if not is_same:
                    seen, deadline = found, time.monotonic() + STALE_S
                time.sleep(POLL_S)

    def start_heartbeat(self) -> None:
        """Renew the lock in a thread from now on. Call this after processes have been forked.

        Raises:
            LockHeldError: another process has taken the lock.
        """
        if other := self.taken_by():
            raise LockHeldError(f'{self.protects} is in use by {other}')
        self._beat()
        self._heart = threading.Thread(target=self._keep_beating, name='heartbeat', daemon=True)
        self._heart.start()

    def taken_by(self) -> str | None:
        """Return who has taken over the lock while this machine was not responding; None if nobody has."""
        with suppress(OSError, ValueError):
            owner = self._parse(_read(self.file).data)
            if owner and owner['id'] != self._owner['id']:
                return _describe(owner)
        return None

    def release(self) -> None:
        """Remove the file, unless it has been removed or taken meanwhile."""
        self._is_released.set()
        if self._heart is not None:
            self._heart.join(POLL_S)  # not longer: the disk may not respond
        self._remove_own()

    def _remove_own(self) -> None:
        with suppress(OSError, ValueError):
            if self._parse(_read(self.file).data).get('id') == self._owner['id']:
                # Claims of processes that were killed; nobody has a right to one while this process holds the lock.
                for file in self.file.parent.glob(f'.{glob.escape(self.file.name)}.*'):
                    file.unlink(missing_ok=True)
                self.file.unlink()

    def _keep_beating(self) -> None:
        while not self._is_released.wait(HEARTBEAT_S):
            if self.taken_by() is None:
                self._beat()
                if self._is_released.is_set():  # on a slow disk, the file may have been written again afterward
                    self._remove_own()

    def _beat(self) -> None:
        """Renew the file; write it again if it was removed. The run does not depend on it."""
        with suppress(OSError):
            try:
                os.utime(self.file)
            except FileNotFoundError:
                self._create(self.file)

    def _create(self, file: Path) -> bool:
        """Write the owner to a file; return False if it exists. ``O_EXCL`` lets only one succeed, also over NFS."""
        try:
            handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        try:
            with open(handle, 'wb') as stream:
                stream.write(json.dumps(self._owner).encode())
        except OSError as error:  # a full disk
            with suppress(OSError):
                file.unlink()
            raise OSError(error.errno, error.strerror, str(file)) from error
        return True

    def _parse(self, data: bytes) -> dict[str, Any]:
        """Return the owner; empty if the file is being written, or was when its machine crashed."""
        try:
            owner = json.loads(data)
        except ValueError:
            text = data.strip(b'\0')
            if text.startswith(_START) or _START.startswith(text):
                return {}
            owner = None
        if not isinstance(owner, dict) or not owner.keys() >= _KEYS or not isinstance(owner['pid'], int):
            raise _not_a_lock(self.file)
        return owner

    def _holder(self) -> '_Found':
        """Return the lock, or the last claim to it if a takeover is under way or was interrupted."""
        found = _read(self.file)
        while True:
            try:
                found = _read(self._claim_on(found))
            except FileNotFoundError:
                return found

    def _take_over(self, stale: '_Found') -> bool:
        """Put this process in the place of a stale holder; return False if another process was faster."""
        claim = self._claim_on(stale)
        if not self._create(claim):
            return False
        # A slow process may claim a lock that has long been replaced: then no chain of claims leads to its own.
        if self._parse(self._holder_or_none()).get('id') != self._owner['id']:
            # Otherwise a faster process has claimed it in turn.
            if not self._claim_by_id(self._owner['id']).exists():
                claim.unlink(missing_ok=True)
            return False
        try:
            os.replace(claim, self.file)
        except FileNotFoundError:  # the holder was only slow, and has ended meanwhile
            return False
        LOGGER.info('Removed the stale lock %s', self.file)
        return True

    def _holder_or_none(self) -> bytes:
        try:
            return self._holder().data
        except FileNotFoundError:
            return b''

    def _claim_on(self, found: '_Found') -> Path:
        """Return the file that the successor of a holder creates. Ids never return; without one, the time decides."""
        owner = self._parse(found.data)
        name = owner['id'] if owner else hashlib.sha256(repr(found).encode()).hexdigest()[:32]
        return self._claim_by_id(name)

    def _claim_by_id(self, name: str) -> Path:
        return self.file.with_name(f'.{self.file.name}.{name}')


@dataclass(frozen=True)
class _Found:
    """Content and time of a lock file."""

    data: bytes
    time_ns: int


def _read(file: Path) -> _Found:
    """Return content and time of a file. Opening it also updates the attributes that NFS caches."""
    if not stat.S_ISREG(file.lstat().st_mode):  # opening a pipe would wait for ever
        raise _not_a_lock(file)
    with file.open('rb') as stream:
        return _Found(stream.read(), os.fstat(stream.fileno()).st_mtime_ns)


def _not_a_lock(file: Path) -> ValueError:
    return ValueError(f'{file} exists, but is not a lock file of DSANet; move it away')


def _place() -> str:
    """Return a name for the scope of process ids: a machine since its last boot, and the container in it."""
    try:
        boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
        return f'{boot} {os.readlink("/proc/self/ns/pid")}'
    except OSError:  # not Linux
        return platform.node()


def _slurm_job() -> list[str]:
    """Return the Slurm job and how often it was requeued."""
    return [os.environ.get(name, '') for name in ('SLURM_JOB_ID', 'SLURM_RESTART_COUNT')]


def _is_gone(owner: dict[str, Any]) -> bool:
    """Return whether the owner has certainly ended."""
    if owner['place'] == _place():
        return not is_alive(owner['pid']) or start_time(owner['pid']) not in (None, owner['started'])
    job, restarts = _slurm_job()
    # Slurm requeues a job only after all its processes have ended.
    return job != '' and owner['job'] != [job, restarts] and owner['job'][:1] == [job]


def _describe(owner: dict[str, Any]) -> str:
    return printable(f'process {owner["pid"]} on {owner["host"]}, running since {owner["since"]}')

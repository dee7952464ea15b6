"""Whole runs for the tests of faults: started, watched, and never left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 150  # seconds for whatever is waited for; the runs take a tenth of it on a quiet machine


class Job:
    """A command under way, with its output.

    Args:
        command: what a user types.
        output: the file for what it prints.
        environment: variables on top of the present ones.
    """

    def __init__(self, command: Sequence[object], output: Path, **environment: object) -> None:
        self.output = output
        variables = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable}
        with output.open('w') as stream:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd=ROOT,
                env=variables | {name: str(value) for name, value in environment.items()},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> int:
        """Return the exit status."""
        return self.process.wait(LIMIT)

    def lines(self) -> list[str]:
        """Return what was printed, without torch's own remarks."""
        return [line for line in self.output.read_text().splitlines() if not re.match(r'\[?[WE]\d{4} ', line)]

    def wait_for(self, text: str) -> None:
        """Wait until something has been printed."""
        wait_until(lambda: text in self.output.read_text() or self.process.poll() is not None)
        assert text in self.output.read_text(), self.output.read_text()

    def workers(self) -> dict[int, int]:
        """Return the process ids of the run's processes by rank."""
        found = {}
        for children in Path(f'/proc/{self.process.pid}/task').glob('*/children'):
            for pid in map(int, children.read_text().split()):
                variables = Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
                ranks = [int(value[5:]) for value in variables if value.startswith(b'RANK=')]
                found.update(dict.fromkeys(ranks, pid))
        return found

    def stop(self) -> None:
        """End the launcher, which ends the processes, whatever state they are in."""
        if self.process.poll() is None:
            for pid in self.workers().values():
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f'waited in vain for {LIMIT} seconds'
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Say whether there is a process of this number that is not just waiting to be forgotten."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False

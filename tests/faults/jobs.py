"""Whole runs for the fault tests: started, watched and always ended."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 150  # of every wait; the runs take a tenth of it on an idle machine


class Job:
    """A running command and its output.

    Args:
        command: program and arguments.
        output: file for stdout and stderr.
        environment: variables added to the current ones.
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
        return self.process.wait(TIMEOUT_S)

    def lines(self) -> list[str]:
        """Return the printed lines, without the log lines of torch."""
        return [line for line in self.output.read_text().splitlines() if not re.match(r'\[?[WE]\d{4} ', line)]

    def wait_for(self, text: str) -> None:
        """Wait until a text has been printed."""
        wait_until(lambda: text in self.output.read_text() or self.process.poll() is not None)
        assert text in self.output.read_text(), self.output.read_text()

    def workers(self) -> dict[int, int]:
        """Return the ids of the processes by rank."""
        found = {}
        for children in Path(f'/proc/{self.process.pid}/task').glob('*/children'):
            for pid in map(int, children.read_text().split()):
                variables = Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
                ranks = [int(value[5:]) for value in variables if value.startswith(b'RANK=')]
                found.update(dict.fromkeys(ranks, pid))
        return found

    def stop(self) -> None:
        """Kill the launcher and its processes."""
        if self.process.poll() is None:
            for pid in self.workers().values():
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f'nothing happened within {TIMEOUT_S} seconds'
        time.sleep(0.05)

"""Transforms that hang, crash or fail, in a module that a process imports quickly."""

import os
import signal
import time

from dsanet.datasets.transforms.base import Record, Transform


class Hang(Transform):
    """A decoder that does not return, and cannot be interrupted from Python."""

    def __call__(self, record: Record) -> Record:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        while True:
            time.sleep(10)


class Crash(Transform):
    def __call__(self, record: Record) -> Record:
        os.abort()


class Bug(Transform):
    def __call__(self, record: Record) -> Record:
        raise KeyError('x')

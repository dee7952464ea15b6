"""Setup for all tests: fixed seeds, one thread, and GPU tests skipped without a GPU."""

import logging
import os
import random
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import torch

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background by a script; tests need SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _fixed_seeds() -> Iterator[None]:
    """Make each test independent of the tests that ran before it."""
    random.seed(0)
    np.random.seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def _default_logging() -> Iterator[None]:
    """Undo what commands do to the logger, so that no log lines are in the output of other tests."""
    _reset_logging()
    yield
    _reset_logging()


def _reset_logging() -> None:
    logger = logging.getLogger('dsanet')
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip ``needs_gpu`` tests without a GPU, unless FAIL_WITHOUT_GPU is set."""
    if torch.cuda.is_available() or os.environ.get('FAIL_WITHOUT_GPU'):
        return
    for item in items:
        if item.get_closest_marker('needs_gpu'):
            item.add_marker(pytest.mark.skip(reason='no CUDA device'))

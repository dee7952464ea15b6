"""Import every module of DSANet and print the global state that changed. Run by test_package.py.

Arguments: third-party modules to import first, because their side effects are not ours.
"""

import atexit
import gc
import importlib
import locale
import logging
import multiprocessing.util
import os
import pkgutil
import random
import signal
import sys
import threading
import warnings
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch


def state() -> dict[str, Any]:
    """Return the global state of the process that an import could change."""
    loggers = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    return {
        'argv': sys.argv[:],
        'atexit': atexit._ncallbacks(),
        'cv2 threads': cv2.getNumThreads(),
        'environment': dict(os.environ),
        'excepthook': (sys.excepthook, sys.unraisablehook, threading.excepthook),
        'finalizers': set(multiprocessing.util._finalizer_registry),
        'folder': os.getcwd(),
        'garbage collection': (gc.isenabled(), gc.get_threshold()),
        'locale': locale.setlocale(locale.LC_ALL),
        'log handlers': {one.name: one.handlers[:] for one in (logging.root, *loggers) if one.handlers},
        'log levels': {one.name: one.level for one in (logging.root, *loggers) if one.level},
        'log settings': (logging.getLoggerClass(), logging.root.manager.disable, logging.raiseExceptions),
        'matplotlib': matplotlib.rcParams.copy(),  # dict(rcParams) would choose a backend
        'numpy': (np.geterr(), np.get_printoptions()),
        'path': (sys.path[:], sys.meta_path[:], sys.path_hooks[:]),
        'pyplot': 'matplotlib.pyplot' in sys.modules,
        'random numbers': (random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()),
        'recursion limit': sys.getrecursionlimit(),
        'signals': {number: signal.getsignal(number) for number in signal.valid_signals()},
        'signal mask': signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        'start method': multiprocessing.get_start_method(allow_none=True),
        'threads': threading.active_count(),
        'torch': (torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled()),
        'torch.backends': (
            torch.backends.cudnn.enabled,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.allow_tf32,
            torch.backends.mkldnn.enabled,
            torch.get_float32_matmul_precision(),
        ),
        'torch sharing': torch.multiprocessing.get_sharing_strategy(),
        'torch threads': (torch.get_num_threads(), torch.get_num_interop_threads()),
        'warnings': (warnings.filters[:], warnings.showwarning),
    }


if __name__ == '__main__':
    for name in sys.argv[1:]:
        importlib.import_module(name)
    before = state()

    import dsanet

    for module in pkgutil.walk_packages(dsanet.__path__, 'dsanet.'):
        if module.name != 'dsanet.__main__' and not module.name.startswith('dsanet.configs.'):
            importlib.import_module(module.name)
    sys.stdout.writelines(f'{k}: {before[k]} -> {value}\n' for k, value in state().items() if value != before[k])

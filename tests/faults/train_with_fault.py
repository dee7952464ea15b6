"""dsanet train with a fault in one process: train_with_fault.py FAULT RANK PLACE NUMBER [arguments]

FAULT is raise, kill (SIGKILL) or freeze (SIGSTOP). PLACE is iteration or validation, NUMBER counts them from 0. The
fault happens in the first attempt only.
"""

import os
import signal
import sys

from dsanet.commands import main
from dsanet.engine import train_step, validation
from dsanet.utils import distributed

FAULT, RANK, PLACE, NUMBER = sys.argv.pop(1), int(sys.argv.pop(1)), sys.argv.pop(1), int(sys.argv.pop(1))
SIGNALS = {'kill': signal.SIGKILL, 'freeze': signal.SIGSTOP}
SEED_ITERATION, PREDICT = train_step.seed_iteration, validation.predict
VALIDATIONS = iter(range(1000))


def fail(number: int) -> None:
    if number == NUMBER and not distributed.is_restart() and distributed.rank() == RANK:
        if FAULT == 'raise':
            raise LookupError('this is the fault')
        os.kill(os.getpid(), SIGNALS[FAULT])


def seed_and_fail(seed: int, iteration: int, *place: int) -> None:
    if PLACE == 'iteration':
        fail(iteration)
    SEED_ITERATION(seed, iteration, *place)


def predict_and_fail(*args: object, **options: object) -> object:
    if PLACE == 'validation':
        fail(next(VALIDATIONS))
    return PREDICT(*args, **options)


train_step.seed_iteration = seed_and_fail
validation.predict = predict_and_fail
sys.exit(main(['train', *sys.argv[1:]]))

"""Run dsanet test and kill rank 0 in a batch, counted from 0: score_and_die.py BATCH [arguments]"""

import itertools
import os
import signal
import sys

import torch

from dsanet.commands import main
from dsanet.models.recognizers.recognizer3d import Recognizer3D

BATCH = int(sys.argv.pop(1))
COUNTER = itertools.count()
FORWARD = Recognizer3D.forward


def forward_or_die(self: Recognizer3D, inputs: torch.Tensor) -> object:
    if next(COUNTER) == BATCH and os.environ.get('RANK', '0') == '0':
        os.kill(os.getpid(), signal.SIGKILL)
    return FORWARD(self, inputs)


Recognizer3D.forward = forward_or_die
if __name__ == '__main__':
    sys.exit(main(['test', *sys.argv[1:]]))

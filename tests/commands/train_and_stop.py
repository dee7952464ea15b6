"""Run dsanet train and exit after an epoch, to test resuming: train_and_stop.py EPOCH [arguments]"""

import os
import sys

from dsanet.commands import main
from dsanet.engine.trainer import Trainer

EPOCH = int(sys.argv.pop(1))
ORIGINAL = Trainer._train_epoch


def train_or_exit(self: Trainer, *args: object) -> None:
    if self.state.epoch == EPOCH:
        os._exit(9)
    ORIGINAL(self, *args)


Trainer._train_epoch = train_or_exit
if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))

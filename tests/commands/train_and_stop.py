"""dsanet train that dies behind an epoch, for tests of resuming: train_and_stop.py EPOCH [arguments]"""

import os
import sys

from dsanet.commands import main
from dsanet.engine.trainer import Trainer

EPOCH = int(sys.argv.pop(1))
ORIGINAL = Trainer._train_epoch


def die_behind_the_epoch(self: Trainer, *args: object) -> None:
    if self.state.epoch == EPOCH:
        os._exit(9)
    ORIGINAL(self, *args)


Trainer._train_epoch = die_behind_the_epoch
if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))

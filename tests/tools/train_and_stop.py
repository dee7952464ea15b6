"""tools/train_recognizer.py that dies behind an epoch, for tests of resuming: train_and_stop.py EPOCH [arguments]"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dsanet.engine.trainer import Runner  # noqa: E402
from tools import train_recognizer  # noqa: E402

EPOCH = int(sys.argv.pop(1))
ORIGINAL = Runner._train_epoch


def die_behind_the_epoch(self: Runner, *args: object) -> None:
    if self.epoch == EPOCH:
        os._exit(9)
    ORIGINAL(self, *args)


Runner._train_epoch = die_behind_the_epoch
train_recognizer.main()

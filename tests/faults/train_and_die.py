"""dsanet train that kills itself at a chosen moment: train_and_die.py MOMENT NUMBER [arguments]

MOMENT is checkpoint (half of its bytes written), rename (complete, but with its temporary name), renamed, log (half of
a line written), or validation; NUMBER counts them from 1. With several processes rank 0 dies.
"""

import os
import signal
import sys

from dsanet.commands import main
from dsanet.engine import validation
from dsanet.engine.logging import ScalarWriter
from dsanet.utils import checkpoint_io

MOMENT, NUMBER = sys.argv.pop(1), int(sys.argv.pop(1))
COUNT = iter(range(1, 10**6))
REPLACE, WRITE, SCALARS, PREDICT = os.replace, checkpoint_io._Stream.write, ScalarWriter.write, validation.predict


def is_now(moment: str) -> bool:
    return moment == MOMENT and os.environ.get('RANK', '0') == '0' and next(COUNT) == NUMBER


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_half(self: object, data: memoryview) -> int:
    # The tensors come in pieces; the large ones are the weights.
    if len(data) > 1000 and is_now('checkpoint'):
        WRITE(self, bytes(data)[: len(data) // 2])
        self._stream.flush()
        die()
    return WRITE(self, data)


def replace(source: object, target: object) -> None:
    is_checkpoint = str(target).endswith('.pth')
    if is_checkpoint and is_now('rename'):
        die()
    REPLACE(source, target)
    if is_checkpoint and is_now('renamed'):
        die()


def log_half(self: ScalarWriter, *arguments: object) -> None:
    if is_now('log'):
        with self._record.file.open('ab', buffering=0) as stream:
            stream.write(b'{"epoch": 1, "iterat')
        die()
    SCALARS(self, *arguments)


def predict(*arguments: object) -> object:
    if is_now('validation'):
        die()
    return PREDICT(*arguments)


os.replace, checkpoint_io._Stream.write, ScalarWriter.write, validation.predict = replace, write_half, log_half, predict
if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))

"""Start a tool on several processes: launch.py GPUS TOOL [args of the tool]

Without any GPU, GPUS is the number of processes on the CPU. The environment says the rest:

  MAX_RESTARTS  how often all processes are started again after one of them failed; default 0
  NNODES        number of machines; default 1. With more, start this on each of them, with:
  NODE_RANK     its number, from 0
  MASTER_ADDR   name or address of machine 0
  PORT          of machine 0; default 29500, on a single machine a free one
  JOIN_TIMEOUT  seconds to wait for the other machines; default 600
  STOP_TIMEOUT  seconds for the processes to end by themselves after SIGTERM or SIGINT; default 150

Exit status: 0; 2 after a mistake in what was asked for; 143 and 130 after SIGTERM and SIGINT; 1 after other failures.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

from dsanet.engine import launching  # noqa: E402
from dsanet.engine.logging import setup_logging  # noqa: E402
from dsanet.utils.distributed import check_device_count  # noqa: E402


def main(argv: list[str]) -> None:
    if argv[:1] == ['--help']:
        print(f'usage: {__doc__}')
        return
    if len(argv) < 2 or not argv[0].isdecimal() or int(argv[0]) < 1:
        print(f'{__doc__}\nGPUS must be a whole number of at least 1, got {argv[:1]}', file=sys.stderr)
        sys.exit(launching.MISTAKE)
    gpus = int(argv[0])
    try:
        check_device_count(gpus, torch.cuda.device_count())
        launch = launching.read_environment(gpus, os.environ)
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(launching.MISTAKE)
    # Processes of one machine share its cores, and each leaves one to its data workers; without this each would start
    # a thread for every core, and they would wait for each other.
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, torch.get_num_threads() // gpus - 1)))
    setup_logging(None, is_main=True)
    status, text = launching.run(launch, [sys.executable, '-u', *argv[1:]])
    if text:
        sys.stdout.flush()
        print(text, file=sys.stderr)
    sys.exit(status)


if __name__ == '__main__':
    main(sys.argv[1:])

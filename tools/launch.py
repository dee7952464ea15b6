"""Start a tool on several processes with torchrun: launch.py GPUS TOOL [args of the tool]

Without any GPU, GPUS is the number of processes on the CPU. The environment says the rest:
PORT (a free one by default; 29500 on several machines), NNODES, NODE_RANK, MASTER_ADDR.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from torch.distributed import run  # noqa: E402
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: E402

from codes.engine.distributed import check_device_count  # noqa: E402


def torchrun_arguments(gpus: int, environment: Mapping[str, str]) -> list[str]:
    """Return the options of torchrun for a run on ``gpus`` processes of this machine.

    Raises:
        ValueError: no number where one belongs; several machines, but not which is which.
    """
    numbers = {'NNODES': 1, 'NODE_RANK': 0, 'PORT': 29500}
    for name in numbers:
        value = environment.get(name, str(numbers[name]))
        if not value.isdecimal():
            raise ValueError(f'{name}={value!r} must be a whole number')
        numbers[name] = int(value)
    num_nodes = numbers['NNODES']
    options = [f'--nnodes={num_nodes}', f'--nproc-per-node={gpus}']
    if num_nodes > 1 and not {'MASTER_ADDR', 'NODE_RANK'} <= environment.keys():
        raise ValueError(
            f'NNODES={num_nodes} machines need NODE_RANK, 0 to {num_nodes - 1}, and MASTER_ADDR, where 0 is'
        )
    if num_nodes == 1 and 'PORT' not in environment:
        # Port 0 takes a free one, so that two runs on one machine do not meet.
        return [*options, '--rdzv-backend=c10d', '--rdzv-endpoint=127.0.0.1:0', '--local-addr=127.0.0.1']
    return [
        *options,
        f'--node-rank={numbers["NODE_RANK"]}',
        f'--master-addr={environment.get("MASTER_ADDR", "127.0.0.1")}',
        f'--master-port={numbers["PORT"]}',
    ]


def main(argv: list[str]) -> None:
    if argv[:1] == ['--help']:
        print(f'usage: {__doc__}')
        return
    if len(argv) < 2 or not argv[0].isdecimal() or int(argv[0]) < 1:
        sys.exit(f'{__doc__}\nGPUS must be a whole number of at least 1, got {argv[:1]}')
    gpus = int(argv[0])
    try:
        check_device_count(gpus, torch.cuda.device_count())
        options = torchrun_arguments(gpus, os.environ)
    except ValueError as error:
        sys.exit(f'error: {error}')
    # Processes of one machine share its cores, and each leaves one to its data workers; without this each would start
    # a thread for every core, and they would wait for each other.
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, torch.get_num_threads() // gpus - 1)))
    try:
        run.main([*options, *argv[1:]])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.exit(f'process {rank} was the first to fail, with exit status {failure.exitcode}; its message stands above')


if __name__ == '__main__':
    main(sys.argv[1:])

"""Run a Python program in several processes on this machine: dsanet launch GPUS PROGRAM [arguments of the program]

On a machine without GPUs, GPUS is the number of CPU processes. Environment variables:

  MAX_RESTARTS  how often to restart all processes after a failure (default: 0)
  NNODES        number of nodes (default: 1); for more than 1, run this command on each node, and set:
  NODE_RANK     number of this node, from 0
  MASTER_ADDR   host name or address of node 0
  PORT          port on node 0 (default: 29500; a free port if NNODES is 1)
  JOIN_TIMEOUT  seconds to wait for the other nodes (default: 600)
  STOP_TIMEOUT  seconds to wait for the processes to exit after SIGTERM or SIGINT (default: 150)

Exit status: 0 success; 2 invalid arguments, config or data; 143 after SIGTERM; 130 after SIGINT; 141 if the output is
no longer read; 1 other failures.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from dsanet.commands.arguments import UsageError, num_processes
from dsanet.utils.text import error_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('gpus', metavar='GPUS', type=num_processes(1), help='number of processes, one per GPU')
    parser.add_argument('program', metavar='PROGRAM', help='Python file')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, metavar='...', help='arguments of the program')


def run(args: argparse.Namespace) -> int:
    return launch(args.gpus, [args.program, *args.arguments])


def launch(gpus: int, program: Sequence[str]) -> int:
    """Run a Python program in several processes on this machine, and return the exit status.

    Args:
        gpus: number of processes; the machine must have as many GPUs, or none.
        program: arguments of the Python interpreter.
    """
    import torch

    from dsanet.engine import launching
    from dsanet.engine.logging import setup_logging
    from dsanet.utils.distributed import check_device_count

    try:
        check_device_count(gpus, torch.cuda.device_count())
        cfg = launching.read_environment(gpus, os.environ)
    except ValueError as error:
        sys.stderr.write(error_line(error))
        return launching.USAGE_ERROR
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE'):
        os.environ.pop(name, None)  # left over from another program; each process gets its own
    # Divide the cores among the processes, and leave one core per process to data workers. By default, each process
    # would start a thread per core.
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, torch.get_num_threads() // gpus - 1)))
    setup_logging()
    status, text = launching.run(cfg, [sys.executable, '-u', *program])
    if text:
        sys.stdout.flush()
        sys.stderr.write(f'{text}\n')
    return status


def launch_command(args: argparse.Namespace) -> int | None:
    """Start the processes of ``--gpus`` and return the exit status.

    Returns:
        None if the command is to run in this process: without ``--gpus``, or if this process was launched.
    """
    if args.gpus is None:
        return None
    from dsanet.utils import distributed

    try:
        world_size = distributed.local_world_size() if distributed.is_launched() else None
    except ValueError as error:
        raise UsageError(str(error)) from None
    if world_size is None:
        return launch(args.gpus, ['-m', 'dsanet', *args.argv])
    if world_size != args.gpus:
        raise UsageError(
            f'--gpus {args.gpus} conflicts with the LOCAL_WORLD_SIZE={world_size} of the launcher; remove --gpus'
        )
    return None

"""Start a program on several processes of this machine: dsanet launch GPUS PROGRAM [arguments of the program]

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

import argparse
import os
import sys
from collections.abc import Sequence

from dsanet.commands.arguments import UsageError, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('gpus', metavar='GPUS', type=positive, help='processes, one for each GPU')
    parser.add_argument('program', metavar='PROGRAM', help='a Python file')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, metavar='...', help='of the program')


def run(args: argparse.Namespace) -> int:
    return launch(args.gpus, [args.program, *args.arguments])


def launch(gpus: int, program: Sequence[str]) -> int:
    """Run a Python program on several processes of this machine, and return the exit status.

    Args:
        gpus: processes; there are as many GPUs, or none.
        program: arguments of Python.
    """
    import torch

    from dsanet.engine import launching
    from dsanet.engine.logging import setup_logging
    from dsanet.utils.distributed import check_device_count

    try:
        check_device_count(gpus, torch.cuda.device_count())
        cfg = launching.read_environment(gpus, os.environ)
    except ValueError as error:
        sys.stderr.write(f'error: {error}\n')
        return launching.MISTAKE
    # Processes of one machine share its cores, and each leaves one to its data workers; without this each would start
    # a thread for every core, and they would wait for each other.
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, torch.get_num_threads() // gpus - 1)))
    setup_logging(None, is_main=True)
    status, text = launching.run(cfg, [sys.executable, '-u', *program])
    if text:
        sys.stdout.flush()
        sys.stderr.write(f'{text}\n')
    return status


def launch_command(args: argparse.Namespace) -> int | None:
    """Run a command on several processes if ``--gpus`` asks for it; return the exit status.

    Returns:
        None where the command runs in this process: without ``--gpus``, and in the processes that were started.

    Raises:
        UsageError: another launcher has started another number of processes.
    """
    if args.gpus is None:
        return None
    started = os.environ.get('LOCAL_WORLD_SIZE')
    if started is None:
        return launch(args.gpus, ['-m', 'dsanet', *args.argv])
    if int(started) != args.gpus:
        raise UsageError(f'--gpus {args.gpus}, but the launcher has started {started} processes: leave it out')
    return None

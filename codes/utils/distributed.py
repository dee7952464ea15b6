"""Rank, device and collective operations, which also work in a single process without a process group."""

import logging
import os
import socket
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dsanet.utils.signals import default_sigint

LOGGER = logging.getLogger(__name__)
_STORE: dist.Store | None = None  # shared by the processes of this attempt


# Filters with one position or one input channel have the same memory layout for different strides. Some kernels return
# gradients with other strides than the weights, for example in mixed precision, and DDP warns that this may be slow.
SAME_MEMORY = r'Grad strides do not match[^[]*\ngrad\.sizes\(\) = \[\d+, (\d+(, 1)+|1(, \d+)+)\]'


def _read_variable(name: str, default: int, smallest: int, largest: int) -> int:
    value = os.environ.get(name) or str(default)
    if not (value.isascii() and value.isdecimal()) or not smallest <= int(value) <= largest:
        raise ValueError(
            f'environment variable {name}={value!r} must be an integer from {smallest} to {largest}; launchers set it; '
            f'for a single process, unset it'
        )
    return int(value)


def is_launched() -> bool:
    """Return whether environment variables describe a process group, such as those that a launcher sets.

    Raises:
        ValueError: the description is incomplete, for example left over from another program.
    """
    given = [name for name in ('RANK', 'WORLD_SIZE') if os.environ.get(name)]
    if not given:
        return False
    if missing := [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if not os.environ.get(name)]:
        values = ' and '.join(f'{name}={os.environ[name]}' for name in given)
        raise ValueError(
            f'environment variables {values} are set, but not {", ".join(missing)}: for a single process, '
            f'unset {" ".join(given)}; for several, use dsanet launch or torchrun'
        )
    return True


def rank() -> int:
    """Return the rank of this process, 0 in a single process; works before :func:`init_process_group`."""
    if dist.is_initialized():
        return dist.get_rank()
    return _read_variable('RANK', 0, 0, world_size() - 1) if is_launched() else 0


def world_size() -> int:
    """Return the number of processes; works before :func:`init_process_group`."""
    if dist.is_initialized():
        return dist.get_world_size()
    return _read_variable('WORLD_SIZE', 1, 1, 10**6) if is_launched() else 1


def local_rank() -> int:
    """Return the rank of this process among those of this machine."""
    if not is_launched():
        return 0
    # Scripts that start processes without a launcher often set LOCAL_RANK only.
    num_processes = local_world_size() if 'LOCAL_WORLD_SIZE' in os.environ else world_size()
    return _read_variable('LOCAL_RANK', 0, 0, num_processes - 1)


def local_world_size() -> int:
    """Return the number of processes on this machine."""
    return _read_variable('LOCAL_WORLD_SIZE', 1, 1, world_size()) if is_launched() else 1


def is_restart() -> bool:
    """Return whether the launcher has restarted this run after a failure."""
    return _read_variable('TORCHELASTIC_RESTART_COUNT', 0, 0, 10**9) > 0


def check_device_count(requested: int, available: int) -> None:
    """Check that this machine has enough GPUs. Without GPUs, processes share the CPU."""
    if 0 < available < requested:
        raise ValueError(f'{requested} GPUs requested, but this machine has {available}')


def find_device() -> torch.device:
    """Return the device of this process: its GPU, or the CPU if the machine has no GPU."""
    check_device_count(local_world_size(), torch.cuda.device_count())
    if not torch.cuda.is_available():
        return torch.device('cpu')
    device = torch.device('cuda', local_rank())
    torch.cuda.set_device(device)
    return device


def init_process_group(timeout_minutes: float = 10) -> None:
    """Join the process group that the launcher's environment variables describe, if any.

    This starts threads, so data workers must be forked first.

    Args:
        timeout_minutes: how long to wait for the other processes, here and in each collective operation.

    Raises:
        ValueError: ``MASTER_PORT`` is not a port.
        ConnectionError: they cannot be reached, and no launcher reports why.
    """
    global _STORE
    if dist.is_initialized() or not is_launched():
        return
    timeout = timedelta(minutes=timeout_minutes)
    has_launcher = 'TORCHELASTIC_RUN_ID' in os.environ
    others = f'the processes (WORLD_SIZE={world_size()}) at {os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
    hint = 'for a single process, unset RANK and WORLD_SIZE'
    if not has_launcher:
        port = _read_variable('MASTER_PORT', 0, 0, 65535)
        try:  # torch tries for the whole timeout, and prints a stack trace
            socket.getaddrinfo(os.environ['MASTER_ADDR'], port)
        except OSError as error:
            raise ConnectionError(f'cannot join {others}: {error.strerror}; {hint}') from error
    if not has_launcher and world_size() > 1:
        LOGGER.info('Waiting up to %g minutes for %s; %s', timeout_minutes, others, hint)
    try:
        with default_sigint():  # torch waits in C++, where Python cannot handle Ctrl-C
            store, number, processes = next(dist.rendezvous('env://', timeout=timeout))
            store.set_timeout(timeout)
    except (dist.DistError, ValueError) as error:
        if has_launcher:
            raise
        reason = str(error).splitlines()[0]
        raise ConnectionError(f'cannot join {others}: {reason}; {hint}') from error
    # The store of the launcher keeps the addresses of the processes of failed attempts.
    _STORE = dist.PrefixStore(f'attempt {os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}', store)
    # The CPU part of the group is for objects such as file names.
    backend = 'cpu:gloo,cuda:nccl' if torch.cuda.is_available() else 'gloo'
    dist.init_process_group(backend, store=_STORE, rank=number, world_size=processes, timeout=timeout)


def destroy_process_group() -> None:
    """Leave the process group, if there is one, after a barrier that detects a frozen process."""
    global _STORE
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()
        _STORE = None


def wrap_ddp(model: nn.Module, device: torch.device, find_unused_parameters: bool = False) -> nn.Module:
    """Wrap a model in DistributedDataParallel if there is a process group."""
    if not dist.is_initialized():
        return model
    warnings.filterwarnings('ignore', SAME_MEMORY)
    device_ids = [device.index] if device.type == 'cuda' else None
    return nn.parallel.DistributedDataParallel(
        model, device_ids=device_ids, find_unused_parameters=find_unused_parameters
    )


def broadcast_buffers(model: nn.Module) -> None:
    """Copy the buffers of rank 0 to all processes.

    The running statistics of each process are from its own batches, so without this the validated models would differ.
    """
    if not dist.is_initialized():
        return
    of_type: dict[torch.dtype, list[Tensor]] = {}
    for buffer in model.buffers():
        of_type.setdefault(buffer.dtype, []).append(buffer)
    for buffers in of_type.values():  # one operation each, as each one takes as long as sending a message
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        dist.broadcast(flat, src=0)
        for buffer, part in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(part.view_as(buffer))


def all_reduce_mean(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes."""
    if dist.is_initialized():
        value = value.detach().clone()
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value


def start_all_reduce_max(values: Sequence[float]) -> Callable[[], list[float]]:
    """Start to compute the maximum of each value over all processes; the returned function waits for the result.

    Meanwhile the process can compute and exchange gradients. All processes start and finish their reductions in the
    same order.
    """
    if not dist.is_initialized():
        return lambda: list(values)
    result = torch.tensor(values, dtype=torch.float64)  # on the CPU, so that the GPU is not waited for
    work = dist.all_reduce(result, op=dist.ReduceOp.MAX, async_op=True)

    def finish() -> list[float]:
        work.wait()
        return result.tolist()

    return finish


def all_gather_object(value: Any) -> list[Any]:
    """Return the values of all processes, ordered by rank. The value must be picklable.

    If processes may get out of step by more than the timeout of the group, call :func:`barrier` more often.
    """
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def gather_object(value: Any) -> list[Any] | None:
    """Return the values of all processes, ordered by rank, on rank 0; None on others. The value must be picklable."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(value, values)
    return values


def compute_on_main(function: Callable[[], Any]) -> Any:
    """Call a function on rank 0 only, and return its result, or raise its exception, on all ranks."""
    result: list[Any] = [None, None]
    if rank() == 0:
        try:
            result = [function(), None]
        except Exception as error:
            result = [None, error]
    if dist.is_initialized():
        dist.broadcast_object_list(result)
    if result[1] is not None:
        raise result[1]
    return result[0]


def store() -> dist.Store | None:
    """Return the store shared by the processes of this attempt; None in a single process."""
    return _STORE


def barrier() -> None:
    """Wait for all processes, at most for the timeout of the group. Does not wait for the GPU."""
    if dist.is_initialized():
        dist.all_reduce(torch.zeros(1))

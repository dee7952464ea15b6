"""One process or many: who am I, where do I compute, how do results come together.

Everything works the same in a single process without a process group.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_STORE: dist.Store | None = None  # what the processes of this attempt know of each other


# Filters of one position, and those of one channel, lie in memory alike whatever their strides say. Gradients say now
# one order, now the other, as their kernels like it, in mixed precision for one, and torch warns that it might be slow.
SAME_MEMORY = r'Grad strides do not match[^[]*\ngrad\.sizes\(\) = \[\d+, (\d+(, 1)+|1(, \d+)+)\]'


def rank() -> int:
    """Return this process's number, 0 in a single process; known before :func:`init_process_group`."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get('RANK', 0))


def world_size() -> int:
    """Return the number of processes; known before :func:`init_process_group`."""
    return dist.get_world_size() if dist.is_initialized() else int(os.environ.get('WORLD_SIZE', 1))


def is_restart() -> bool:
    """Say whether the launcher has started this run before, and a process of it failed."""
    return int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)) > 0


def check_device_count(asked: int, present: int) -> None:
    """Refuse more processes on this machine than it has GPUs. Without any GPU, processes share the CPU.

    Raises:
        ValueError: ``asked`` > ``present`` > 0.
    """
    if 0 < present < asked:
        raise ValueError(f'{asked} GPUs were asked for, but this machine has {present}')


def find_device() -> torch.device:
    """Return the device of this process: its GPU, or the CPU if the machine has none.

    Raises:
        ValueError: more processes than GPUs.
    """
    check_device_count(int(os.environ.get('LOCAL_WORLD_SIZE', 1)), torch.cuda.device_count())
    if not torch.cuda.is_available():
        return torch.device('cpu')
    device = torch.device('cuda', int(os.environ.get('LOCAL_RANK', 0)))
    torch.cuda.set_device(device)
    return device


def init_process_group(timeout_minutes: float = 10) -> None:
    """Join the process group that the launcher announces in the environment, if there is one.

    It brings threads along, so data workers start before (``datasets.loader.start_workers``).

    Args:
        timeout_minutes: how long a collective operation waits for a process before all give up.
    """
    global _STORE
    if 'WORLD_SIZE' not in os.environ or dist.is_initialized():
        return
    timeout = timedelta(minutes=timeout_minutes)
    store, number, processes = next(dist.rendezvous('env://', timeout=timeout))
    store.set_timeout(timeout)
    # The launcher's store outlives a failed attempt, and holds the addresses of processes that are gone.
    _STORE = dist.PrefixStore(f'attempt {os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}', store)
    # The CPU half of the group carries objects such as file names, so that they need not pass through the GPU.
    backend = 'cpu:gloo,cuda:nccl' if torch.cuda.is_available() else 'gloo'
    dist.init_process_group(backend, store=_STORE, rank=number, world_size=processes, timeout=timeout)


def destroy_process_group() -> None:
    """Leave the process group, if there is one, together: a process that froze on its last steps is noticed."""
    global _STORE
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()
        _STORE = None


def wrap_ddp(model: nn.Module, device: torch.device, find_unused_parameters: bool = False) -> nn.Module:
    """Return the model for training: as DistributedDataParallel in a process group, otherwise as it is.

    Args:
        model: what is trained.
        device: where it is.
        find_unused_parameters: look for parameters without a gradient in each iteration.
    """
    if not dist.is_initialized():
        return model
    warnings.filterwarnings('ignore', SAME_MEMORY)
    device_ids = [device.index] if device.type == 'cuda' else None
    return nn.parallel.DistributedDataParallel(
        model, device_ids=device_ids, find_unused_parameters=find_unused_parameters
    )


def broadcast_buffers(model: nn.Module) -> None:
    """Give all processes the buffers of rank 0.

    Each process counts its own batch into the running statistics; without this they would validate different models.
    """
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def all_reduce_mean(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes."""
    if dist.is_initialized():
        value = value.detach().clone()
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value


def all_reduce_max(numbers: Sequence[int]) -> list[int]:
    """Return for each place the largest number that any process has there. Waits for all processes."""
    if not dist.is_initialized():
        return list(numbers)
    value = torch.tensor(numbers)  # on the CPU, where these numbers are needed
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value.tolist()  # (len(numbers),)


def start_all_reduce_max(number: int) -> Callable[[], int]:
    """Start :func:`all_reduce_max` of one number; the returned function waits for the result.

    Meanwhile the process can compute and exchange gradients. All processes start and finish their reductions in the
    same order.
    """
    if not dist.is_initialized():
        return lambda: number
    value = torch.tensor([number])  # on the CPU, so that the GPU is not waited for
    work = dist.all_reduce(value, op=dist.ReduceOp.MAX, async_op=True)

    def finish() -> int:
        work.wait()
        return int(value)

    return finish


def all_gather_object(value: Any) -> list[Any]:
    """Return the list of every process's value, ordered by rank, in all of them. The value must pickle.

    Processes that drift apart for longer than the group's timeout must meet at :func:`barrier` in between.
    """
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def store() -> dist.Store | None:
    """Return what the processes of this attempt know of each other; None in a single process."""
    return _STORE


def barrier() -> None:
    """Wait for all processes, at most for the group's timeout. On the CPU, whatever the GPU has still to do."""
    if dist.is_initialized():
        dist.all_reduce(torch.zeros(1))

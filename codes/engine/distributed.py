"""One process or many: who am I, where do I compute, and how do results come together.

Everything works the same in a single process without a process group.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_PATIENT: Any = None  # the group for gather


def rank() -> int:
    """Return this process's number, 0 in a single process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def check_device_count(asked: int, present: int) -> None:
    """Refuse more processes on this machine than it has GPUs. Without any GPU, processes share the CPU.

    Raises:
        ValueError: ``asked`` > ``present`` > 0.
    """
    if 0 < present < asked:
        raise ValueError(f'{asked} GPUs were asked for, but this machine has {present}')


def setup(timeout_minutes: float = 10) -> torch.device:
    """Join the process group that torchrun announces in the environment, if there is one.

    Args:
        timeout_minutes: how long a collective operation waits for a process before all give up.

    Returns:
        The device of this process: its GPU, or the CPU (gloo) if there is none.

    Raises:
        ValueError: more processes than GPUs.
    """
    global _PATIENT
    local_rank = int(os.environ.get('LOCAL_RANK', 0))
    check_device_count(int(os.environ.get('LOCAL_WORLD_SIZE', 1)), torch.cuda.device_count())
    has_gpu = torch.cuda.is_available()
    device = torch.device('cuda', local_rank) if has_gpu else torch.device('cpu')
    if has_gpu:
        torch.cuda.set_device(device)
    if 'WORLD_SIZE' in os.environ and not dist.is_initialized():
        # The CPU half of the group carries objects such as file names, so that they need not pass through the GPU.
        backend = 'cpu:gloo,cuda:nccl' if has_gpu else 'gloo'
        dist.init_process_group(backend, timeout=timedelta(minutes=timeout_minutes))
        # Results are gathered at the end of hours of testing, in which processes may drift far apart.
        _PATIENT = dist.new_group(backend='gloo', timeout=timedelta(days=2))
    return device


def teardown() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def wrap(model: nn.Module, device: torch.device, find_unused_parameters: bool = False) -> nn.Module:
    """Return the model for training: as DistributedDataParallel in a process group, otherwise as it is.

    Args:
        model: what is trained.
        device: where it is.
        find_unused_parameters: look for parameters without a gradient in each iteration.
    """
    if not dist.is_initialized():
        return model
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


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes."""
    if dist.is_initialized():
        value = value.detach().clone()
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value


def largest(numbers: Sequence[int]) -> list[int]:
    """Return for each place the largest number that any process has there. Waits for all processes."""
    if not dist.is_initialized():
        return list(numbers)
    value = torch.tensor(numbers)  # on the CPU, where these numbers are needed
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value.tolist()  # (len(numbers),)


def gather(value: Any) -> list[Any]:
    """Return the list of every process's value, ordered by rank, in all of them. The value must pickle."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value, group=_PATIENT)
    return values

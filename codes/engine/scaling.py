"""What a training run needs on many machines, computed from parts that were measured on one.

Every formula is a plain estimate, with its assumption in its docstring. None of them describes a particular machine.
"""

from dataclasses import dataclass

# Training videos: all videos of the release minus those for validation and test (50 and 100 per class).
TRAINING_VIDEOS = {
    'Kinetics-400': 306_245 - 400 * 150,  # arXiv 1705.06950, table 1
    'Kinetics-700': 650_317 - 700 * 150,  # arXiv 1907.06987, table 1
}
BACKWARD_SHARE = 2 / 3  # of a step: the backward pass computes two products for each one of the forward pass
LAST_BUCKET_BYTES = 25 * 2**20  # bucket_cap_mb of DistributedDataParallel


@dataclass(frozen=True)
class Parts:
    """Measured parts of a run.

    Args:
        step_s: seconds for one training step of one GPU, without waiting for data or other GPUs.
        batch_size: videos per step of one GPU.
        decode_s: CPU seconds of one core to load one video: read, decode, augment.
        video_bytes: mean size of a video in storage.
        gradient_bytes: bytes of all gradients; 4 per trainable parameter, also with mixed precision.
        network_bytes_s: bytes/s of the network of one machine, in each direction.
        link_bytes_s: bytes/s between two GPUs of one machine, in each direction.
        storage_bytes_s: bytes/s that the storage delivers to all machines together.
        cores: CPU cores of one machine for loading videos; None for as many as needed.
        gpus_per_machine: GPUs of one machine.

    Raises:
        ValueError: a number is not positive.
    """

    step_s: float
    batch_size: int
    decode_s: float
    video_bytes: float
    gradient_bytes: float
    network_bytes_s: float
    link_bytes_s: float
    storage_bytes_s: float
    cores: int | None = None
    gpus_per_machine: int = 8

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 < value < float('inf'):
                raise ValueError(f'{name}={value!r} must be a positive number')


@dataclass(frozen=True)
class Estimate:
    """A run on some number of GPUs; see :func:`estimate`.

    Args:
        gpus, machines: their numbers.
        iteration_s: seconds per iteration with what there is: the longest of ``limits``.
        limits: seconds per iteration that each part needs on its own: 'GPUs', 'CPU cores' (if their number is known),
            'storage' and 'network'.
        exposed_s: seconds per step in which the GPUs wait for gradients; part of ``limits['GPUs']``.
        videos_per_s: of all GPUs, at ``iteration_s``.
        cores_needed: CPU cores of one machine that keep its GPUs busy.
        read_bytes_s: bytes/s that all machines read while the GPUs are busy.
        network_bytes_s: bytes/s into one machine while the GPUs are busy: gradients and videos.
    """

    gpus: int
    machines: int
    iteration_s: float
    limits: dict[str, float]
    exposed_s: float
    videos_per_s: float
    cores_needed: float
    read_bytes_s: float
    network_bytes_s: float

    @property
    def bottleneck(self) -> str:
        """The part that an iteration waits for; 'GPUs' is the best case."""
        return max(self.limits, key=self.limits.__getitem__)

    def epoch_s(self, num_videos: int) -> float:
        """Return the seconds for one pass through ``num_videos``; assumes that validation takes no time."""
        return num_videos / self.videos_per_s


def all_reduce_bytes(gradient_bytes: float, members: int) -> float:
    """Return the bytes that each member of a ring all-reduce sends, and receives: 2 (n-1)/n of the gradient.

    Assumes a ring, which needs the fewest bytes. Source: Patarasu and Yuan, J. Parallel Distrib. Comput. 69 (2009),
    section 3.
    """
    return 2 * (members - 1) / members * gradient_bytes


def all_reduce_s(parts: Parts, gpus: int) -> float:
    """Return the seconds for averaging the gradients once.

    Assumes bandwidth only: no latency, which grows with the number of GPUs. Within one machine, the ring passes through
    the links between GPUs; with several machines, through the network of each machine once in each direction. A ring is
    as fast as its slowest link.
    """
    slowest = parts.link_bytes_s
    if gpus > parts.gpus_per_machine:
        slowest = min(slowest, parts.network_bytes_s)
    return all_reduce_bytes(parts.gradient_bytes, gpus) / slowest


def exposed_s(parts: Parts, gpus: int) -> float:
    """Return the seconds per step in which the GPUs wait for the all-reduce.

    Assumes that DistributedDataParallel averages all buckets of gradients during the backward pass, two thirds of a
    step, except for the last bucket of 25 MiB, whose gradients are complete only at its end.
    """
    total = all_reduce_s(parts, gpus)
    last = total * min(1.0, LAST_BUCKET_BYTES / parts.gradient_bytes)
    return max(last, total - BACKWARD_SHARE * parts.step_s)


def estimate(parts: Parts, gpus: int) -> Estimate:
    """Estimate a run on ``gpus`` GPUs.

    Assumes that loading, reading and training overlap completely, so that an iteration takes as long as its slowest
    part; that every video is read once per epoch and not cached; and that work divides evenly.

    Raises:
        ValueError: ``gpus`` is neither at most ``gpus_per_machine`` nor a multiple of it.
    """
    if gpus < 1 or (gpus > parts.gpus_per_machine and gpus % parts.gpus_per_machine):
        raise ValueError(f'gpus={gpus} must be at most gpus_per_machine={parts.gpus_per_machine}, or a multiple of it')
    machines = max(1, gpus // parts.gpus_per_machine)
    videos = gpus * parts.batch_size  # of one iteration
    wait_s = exposed_s(parts, gpus)
    busy_s = parts.step_s + wait_s
    incoming = videos / machines * parts.video_bytes
    if machines > 1:
        incoming += all_reduce_bytes(parts.gradient_bytes, gpus)
    limits = {'GPUs': busy_s}
    if parts.cores is not None:
        limits['CPU cores'] = videos / machines * parts.decode_s / parts.cores
    limits['storage'] = videos * parts.video_bytes / parts.storage_bytes_s
    limits['network'] = incoming / parts.network_bytes_s
    iteration_s = max(limits.values())
    return Estimate(
        gpus=gpus,
        machines=machines,
        iteration_s=iteration_s,
        limits=limits,
        exposed_s=wait_s,
        videos_per_s=videos / iteration_s,
        cores_needed=videos / machines * parts.decode_s / busy_s,
        read_bytes_s=videos * parts.video_bytes / busy_s,
        network_bytes_s=incoming / busy_s,
    )

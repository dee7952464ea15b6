"""Write the videos of a list to WebDataset shards, see :class:`~dsanet.datasets.web_videos.WebVideoDataset`."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dsanet.datasets.media_files import is_video
from dsanet.datasets.records import VideoRecord


def write_shards(records: Sequence[VideoRecord], folder: Path, num_shards: int, seed: int = 0) -> str:
    """Write shards of equal numbers of videos, give or take one, in random order.

    The order is random because videos of one class often follow each other in a list, and a stream is shuffled only
    within its shards and a small buffer.

    Args:
        records: the videos, each with one label.
        folder: is created; must be empty.
        num_shards: number of shards, at least one per data worker of all processes.
        seed: of the order.

    Returns:
        The paths of the shards as one pattern with braces.

    Raises:
        FileNotFoundError: a video does not exist.
        ValueError: ``webdataset`` is not installed, a record has several labels or a span, ``folder`` is not empty or
            has braces or ``::`` in its name, or there are fewer videos than shards.
    """
    try:
        import webdataset
    except ImportError as error:
        raise ValueError(f'shards require webdataset ({error}); pip install webdataset') from error
    if not 1 <= num_shards <= len(records):
        raise ValueError(f'num_shards={num_shards} must be from 1 to {len(records)}, the number of videos')
    for record in records:
        if len(record.labels) != 1 or record.span is not None:
            raise ValueError(f'{record.source}: {record.key!r} has several labels or a span; shards hold whole videos')
        if not Path(record.path).is_file():
            raise FileNotFoundError(f'{record.source}: {record.path!r} does not exist, or is not a file')
    if found := re.search(r'[{}]|::', str(folder)):
        raise ValueError(f'folder {str(folder)!r} must not contain {found.group()!r}, which has a meaning in `shards`')
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f'{str(folder)!r} is not empty; choose a new folder')
    order = np.random.default_rng(seed).permutation(len(records))
    width = len(str(num_shards - 1))
    names = [f'shard-{number:0{width}}.tar' for number in range(num_shards)]
    for name, part in zip(names, np.array_split(order, num_shards), strict=True):
        with webdataset.TarWriter(str(folder / name)) as writer:
            for index in part.tolist():
                path = Path(records[index].path)
                # A key ends at the first dot, and must be unique.
                key = f'{index:08}_{re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)}'
                # Decoders do not need the suffix, but readers of shards find the video by it.
                suffix = path.suffix[1:].lower() if is_video(path.name) else 'mp4'
                writer.write({'__key__': key, suffix: path.read_bytes(), 'cls': str(records[index].label)})
    numbers = f'{{{"0" * width}..{num_shards - 1}}}' if num_shards > 1 else '0'
    return str(folder / f'shard-{numbers}.tar')

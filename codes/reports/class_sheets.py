"""Contact sheets of a dataset with the middle frames of some videos per class."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from dsanet.data_checks.existence import golden_ratio_order
from dsanet.data_checks.probe import ProbeResult, ProbeTask, read_frames
from dsanet.data_checks.report import count_noun
from dsanet.data_checks.splits import Split
from dsanet.data_tools.visualization import Image, draw_classes, fit_into, save_png
from dsanet.datasets.annotation import VideoRecord
from dsanet.utils.worker_pool import WorkerFailure, run_in_processes

CELL = (144, 108)  # width and height of a frame in pixels
CLASSES_PER_SHEET = 24


def shrink_middle_frame(job: tuple[ProbeTask, int]) -> Image:
    """Return the middle frame of a video, resized to a cell."""
    cv2.setNumThreads(0)
    video, num_frames = job
    return fit_into(read_frames(video, np.array([num_frames // 2]))[0], *CELL)


def choose_samples(split: Split, facts: Mapping[ProbeTask, ProbeResult], number: int) -> dict[int, list[VideoRecord]]:
    """Choose ``number`` readable videos of each class, spread over the list."""
    by_class: dict[int, list[VideoRecord]] = {label: [] for label in range(split.num_classes or 0)}
    for record in split.records:
        if facts[split.probe_task(record)].kind == 'ok':
            for label in record.labels:
                by_class.setdefault(label, []).append(record)
    return {
        label: [records[i] for i in sorted(golden_ratio_order(len(records))[:number])]
        for label, records in by_class.items()
    }


def name_sample(record: VideoRecord) -> str:
    """Return the caption of a video: its line in the list, or its file name if there is no list."""
    return os.path.basename(record.path if record.line is None else record.source)


def write_class_sheets(
    split: Split,
    facts: Mapping[ProbeTask, ProbeResult],
    out: Path,
    number: int,
    title: str,
    num_workers: int,
    time_limit: float,
) -> list[Path]:
    """Write contact sheets with the middle frames of some videos of each class; return the files.

    The files are ``classes_<page>.png``, or ``classes_<part>_<page>.png`` for a part of a mixed dataset.

    Args:
        split: split whose videos are shown.
        facts: results of the file checks, by ``Split.probe_task``.
        out: output folder.
        number: number of videos per class.
        title: title of the sheets.
        num_workers: processes that decode.
        time_limit: seconds per video.
    """
    chosen = choose_samples(split, facts, number)
    videos = dict.fromkeys(split.probe_task(record) for records in chosen.values() for record in records)
    jobs = [(video, facts[video].num_frames) for video in videos]
    frames: dict[ProbeTask, Image] = {}
    done = run_in_processes(shrink_middle_frame, jobs, num_workers, time_limit)
    for place, result in tqdm(done, total=len(jobs), desc='samples', unit='video', disable=None):
        if not isinstance(result, WorkerFailure):
            frames[jobs[place][0]] = result
    files: list[Path] = []
    for start in range(0, len(chosen), CLASSES_PER_SHEET):
        blocks = []
        for label in sorted(chosen)[start : start + CLASSES_PER_SHEET]:
            of_label = [(frames.get(split.probe_task(r)), name_sample(r)) for r in chosen[label]]
            shown = [(frame, source) for frame, source in of_label if frame is not None]
            blocks.append((f'{split.class_name(label)}: {count_noun(split.counts[label], "video")}', shown))
        file = out / f'classes_{split.name.partition(".")[2]}{"_" * ("." in split.name)}{len(files) + 1}.png'
        save_png(draw_classes(blocks, title, number, CELL), file)
        files.append(file)
    return files


def find_sheets(out: Path) -> list[Path]:
    """Return the files in a folder that are named like class sheets."""
    return [file for file in out.glob('classes_*.png') if re.fullmatch(r'classes_(\d+_)?\d+\.png', file.name)]


def remove_old_sheets(out: Path, written: Sequence[Path]) -> None:
    """Remove the sheets of an earlier check, which may show other videos."""
    for file in find_sheets(out):
        if file not in written:
            file.unlink()

"""Contact sheets of a dataset with the first, middle and last frames of some videos per class."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from dsanet.data_checks.existence import golden_ratio_order
from dsanet.data_checks.probe import ProbeResult, ProbeTask, read_frames
from dsanet.data_checks.splits import Split
from dsanet.data_tools.visualization import MARGIN, Image, Sheet, fit_into, save_png, wrap_to_width
from dsanet.datasets.records import VideoRecord
from dsanet.utils.worker_pool import WorkerFailure, run_in_processes

CELL = (96, 72)  # width and height of a frame in pixels
CLASSES_PER_SHEET = 12
LEGEND = (
    'Each sample: the first, middle and last frame of a video or span (a movement and its reverse look alike in the '
    'middle). Below it: its file or its line in the list, the numbers of these frames, counted from 0, and its length.'
)


def shown_indices(num_frames: int) -> list[int]:
    """Return the indices of the first, middle and last frame of a video."""
    return [0, num_frames // 2, num_frames - 1]


def shrink_frames(job: tuple[ProbeTask, int]) -> list[Image]:
    """Return the first, middle and last frame of a video, resized to a cell."""
    cv2.setNumThreads(0)
    video, num_frames = job
    return [fit_into(frame, *CELL) for frame in read_frames(video, np.array(shown_indices(num_frames)))]


@dataclass(frozen=True)
class ClassBlock:
    """The samples of a class on a sheet.

    Args:
        heading: name of the class and number of videos.
        samples: the frames of each sample, in their order in the video, and its caption.
    """

    heading: str
    samples: Sequence[tuple[Sequence[Image], str]]


def draw_classes(
    blocks: Sequence[ClassBlock], title: str, legend: str, columns: int, frames: int, cell: tuple[int, int]
) -> Image:
    """Draw a row for each class: a heading, and the frames of some samples side by side with a caption.

    Args:
        blocks: the classes.
        title: title of the sheet.
        legend: explains what the sheet shows; wrapped to its width.
        columns: samples per class.
        frames: frames per sample.
        cell: width and height of a frame in pixels.

    Returns:
        The sheet, (H, W, 3).
    """
    width, height = cell
    between, gap, heading, caption = 2, 14, 24, 16  # pixels between frames and between samples, and of the texts
    sample_width = frames * (width + between) - between
    block_height = heading + height + caption + 12
    inner = max(columns * (sample_width + gap) - gap, 420)  # minimum width for the legend
    lines = wrap_to_width(legend, inner, 12)
    top = MARGIN + 30 + len(lines) * 16 + 8
    sheet = Sheet(2 * MARGIN + inner, top + len(blocks) * block_height + MARGIN)
    sheet.write(title, MARGIN, MARGIN, size=18, weight='bold', width=inner)
    for number, line in enumerate(lines):
        sheet.write(line, MARGIN, MARGIN + 30 + number * 16, size=12, color='dimgray')
    for block in blocks:
        sheet.write(block.heading, MARGIN, top, size=15, width=inner)
        for column, (shown, text) in enumerate(block.samples):
            left = MARGIN + column * (sample_width + gap)
            for place, frame in enumerate(shown):
                sheet.paste(fit_into(frame, width, height), left + place * (width + between), top + heading)
            sheet.write(text, left, top + heading + height + 2, size=11, color='dimgray', width=sample_width)
        if not block.samples:
            sheet.write('no readable video', MARGIN, top + heading + 8, color='tab:red', width=inner)
        top += block_height
    return sheet.draw()


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


def describe_length(video: ProbeResult) -> str:
    """Return the numbers of the shown frames, and the length of the video in seconds if its frame rate is known."""
    text = f'frames {", ".join(map(str, shown_indices(video.num_frames)))}'
    return f'{text} ({video.num_frames / video.fps:.1f} s)' if video.fps else text


def write_class_sheets(
    split: Split,
    facts: Mapping[ProbeTask, ProbeResult],
    out: Path,
    number: int,
    title: str,
    num_workers: int,
    time_limit: float,
) -> list[Path]:
    """Write contact sheets with the first, middle and last frames of some videos of each class; return the files.

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
    frames: dict[ProbeTask, list[Image]] = {}
    done = run_in_processes(shrink_frames, jobs, num_workers, time_limit)
    for place, result in tqdm(done, total=len(jobs), desc='samples', unit='video', disable=None):
        if not isinstance(result, WorkerFailure):
            frames[jobs[place][0]] = result
    files: list[Path] = []
    for start in range(0, len(chosen), CLASSES_PER_SHEET):
        blocks = []
        for label in sorted(chosen)[start : start + CLASSES_PER_SHEET]:
            shown = []
            for record in chosen[label]:
                video = split.probe_task(record)
                if video in frames:
                    shown.append((frames[video], f'{name_sample(record)}, {describe_length(facts[video])}'))
            blocks.append(ClassBlock(f'{split.class_name(label)}: {split.count(split.counts[label])}', shown))
        file = out / f'classes_{split.name.partition(".")[2]}{"_" * ("." in split.name)}{len(files) + 1}.png'
        columns = max((len(block.samples) for block in blocks), default=0)
        save_png(draw_classes(blocks, title, LEGEND, max(columns, 1), 3, CELL), file)
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

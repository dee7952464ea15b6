"""Check whether the data of a config are fit to train on, before hours are spent on them.

Reads every line of the lists, compares labels with the number of classes, looks for duplicates and for training
videos among those of validation or test, opens every file as in training, decodes some of its frames, and pushes a
video of each split through its pipeline. Writes
report.txt, report.json, report.png (histograms) and classes_*.png (training samples of each class). The results of
the files are kept in files.jsonl: a run that was interrupted goes on where it was, and a later one opens only what is
new, was changed or could not be read.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if __name__ == '__main__':  # before the imports, which take seconds
    from dsanet.utils.signals import end_at_once_if_interrupted, run_interruptible

    end_at_once_if_interrupted()

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

from dsanet.config.loading import LOADERS, load_config  # noqa: E402
from dsanet.data_checks.existence import spread_order  # noqa: E402
from dsanet.data_checks.pipeline import try_pipelines  # noqa: E402
from dsanet.data_checks.probe import FileFacts, Identity, Inspection, Job, read_frames  # noqa: E402
from dsanet.data_checks.reading import read_split  # noqa: E402
from dsanet.data_checks.report import Report, number_of  # noqa: E402
from dsanet.data_checks.run import full_report, quick_report  # noqa: E402
from dsanet.data_checks.splits import Split  # noqa: E402
from dsanet.data_tools.visualization import Image, draw_classes, fit_into, pages, save_png  # noqa: E402
from dsanet.datasets.annotation import VideoRecord  # noqa: E402
from dsanet.engine.logging import plain_errors  # noqa: E402
from dsanet.reports.dataset_report import draw_report  # noqa: E402
from dsanet.utils.files import (
    check_writable,  # noqa: E402
    write_atomically,  # noqa: E402
)
from dsanet.utils.text import printable  # noqa: E402
from dsanet.utils.worker_pool import Failure, run_guarded  # noqa: E402

CELL = (144, 108)  # pixels of a sample, width and height
CLASSES_A_PAGE = 24


def read_splits(config: Mapping[str, Any]) -> list[Split]:
    """Return the data sets of a config's training, validation and test."""
    num_classes = config['model'].get('cls_head', {}).get('num_classes')
    return [split for name in LOADERS if name in config for split in read_split(name, config[name], num_classes)]


def inspect(
    splits: Sequence[Split], args: argparse.Namespace
) -> tuple[Mapping[Job, FileFacts], Mapping[Job, Identity]]:
    """Inspect the files of all splits, with progress bars; returns also which file each path leads to."""
    jobs = [split.job_of(record, args.every_frame, args.hash) for split in splits for record in split.records]
    with tqdm(total=len(set(jobs)), desc='looking', unit='video', disable=None) as bar:
        inspection = Inspection(jobs, args.out / 'files.jsonl', args.workers, args.time_limit, bar.update)
    if inspection.known:
        print(f'{inspection.known:,} videos are known from {args.out / "files.jsonl"}')
    with tqdm(total=len(inspection.open_jobs), desc='videos', unit='video', disable=None) as bar:
        return inspection.run(bar.update), inspection.identities


def shrink_middle_frame(job: tuple[Job, int]) -> Image:
    """Return the middle frame of a video, small."""
    cv2.setNumThreads(0)
    question, num_frames = job
    return fit_into(read_frames(question, np.array([num_frames // 2]))[0], *CELL)


def choose_samples(split: Split, facts: Mapping[Job, FileFacts], number: int) -> dict[int, list[VideoRecord]]:
    """Choose videos of each class, spread over the list."""
    by_class: dict[int, list[VideoRecord]] = {label: [] for label in range(split.num_classes or 0)}
    for record in split.records:
        if facts[split.job_of(record)].kind == 'ok':
            for label in record.labels:
                by_class.setdefault(label, []).append(record)
    return {
        label: [records[i] for i in sorted(spread_order(len(records))[:number])] for label, records in by_class.items()
    }


def name_sample(record: VideoRecord) -> str:
    """Return what finds a video again: its line in the list, or its own name if there is no list."""
    return os.path.basename(record.path if record.line is None else record.source)


def draw_samples(split: Split, facts: Mapping[Job, FileFacts], args: argparse.Namespace, title: str) -> list[Path]:
    """Write contact sheets with the middle frames of some videos of each class; returns the files.

    They are called ``classes_<page>.png``, or ``classes_<part>_<page>.png`` of a part of a mixed data set.
    """
    chosen = choose_samples(split, facts, args.samples)
    questions = dict.fromkeys(split.job_of(record) for records in chosen.values() for record in records)
    jobs = [(question, facts[question].num_frames) for question in questions]
    frames: dict[Job, Image] = {}
    done = run_guarded(shrink_middle_frame, jobs, args.workers, args.time_limit)
    for number, result in tqdm(done, total=len(jobs), desc='samples', unit='video', disable=None):
        if not isinstance(result, Failure):
            frames[jobs[number][0]] = result
    files = []
    for page, labels in enumerate(pages(sorted(chosen), CLASSES_A_PAGE), start=1):
        blocks = []
        for label in labels:
            of_label = [(frames.get(split.job_of(r)), name_sample(r)) for r in chosen[label]]
            shown = [(frame, source) for frame, source in of_label if frame is not None]
            blocks.append((f'{split.class_name(label)}: {number_of(split.counts[label], "video")}', shown))
        file = args.out / f'classes_{split.name.partition(".")[2]}{"_" * ("." in split.name)}{page}.png'
        save_png(draw_classes(blocks, title, args.samples, CELL), file)
        files.append(file)
    return files


def remove_old_sheets(out: Path, written: Sequence[Path]) -> None:
    """Remove sheets of an earlier check, which may show other videos than the report is about."""
    for file in out.glob('classes_*.png'):
        if re.fullmatch(r'classes_(\d+_)?\d+\.png', file.name) and file not in written:
            file.unlink()


def write_report(report: Report, out: Path) -> None:
    """Write the report as text and as JSON."""
    for name, text in (('report.txt', report.text() + '\n'), ('report.json', json.dumps(report.to_dict(), indent=1))):
        write_atomically(text.encode(), out / name)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Exit status: 0 if the data are fit to train on, 1 if not, 2 if they cannot be checked, such as for a '
        'wrong call, 130 if interrupted.',
    )
    add = parser.add_argument
    add('config', help='a config such as configs/custom/small_from_scratch.py')
    add('--quick', action='store_true', help='open one video a split only: seconds for hundreds of thousands of videos')
    add('--hash', action='store_true', help='compare the content of files too, to find copies under other names')
    add('--every-frame', action='store_true', help='decode all frames: slow, finds damage in the middle of a video')
    add(
        '--samples', type=int, default=6, metavar='N', help='videos of a class on the sheets (default: 6; 0: no sheets)'
    )
    add('--out', type=Path, metavar='DIR', help='where the report goes; default work_dirs/<name of the config>/check')
    add('--workers', type=int, default=os.cpu_count() or 1, metavar='N', help='processes (default: one a core)')
    add('--time-limit', type=float, default=60, metavar='S', help='seconds a video may take (default: 60)')
    add('--strict', action='store_true', help='warnings too make the data unfit')
    add('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override values of the config')
    args = parser.parse_args(argv)
    if args.samples < 0 or args.workers < 1 or args.time_limit <= 0:
        parser.error('--samples must be at least 0, --workers at least 1, --time-limit above 0')
    args.out = args.out or Path('work_dirs') / Path(args.config).stem / 'check'
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    facts: Mapping[Job, FileFacts] = {}
    with plain_errors():
        config = load_config(args.config, args.cfg_options)
        check_writable(args.out, '--out')
        splits = read_splits(config)
        args.out.mkdir(parents=True, exist_ok=True)
    title = Path(args.config).stem
    if args.quick:
        report = quick_report(splits, tried=try_pipelines(splits, time_limit=args.time_limit))
    else:
        try:
            facts, identities = inspect(splits, args)
        except ImportError as error:
            sys.stderr.write(f'error: the decoder of the config cannot be imported: {error}\n')
            return 2
        except (OSError, RuntimeError) as error:  # such as a full disk, or no memory for a worker
            sys.stderr.write(f'error: the videos cannot be inspected: {printable(str(error))}\n')
            return 2
        report = full_report(splits, facts, identities, try_pipelines(splits, facts, args.time_limit))
    files: list[Path] = []
    try:
        write_report(report, args.out)
        save_png(draw_report(report, splits, facts, title), args.out / 'report.png')
        if not args.quick and args.samples:
            for split in [split for split in splits if split.is_training and split.records]:
                files += draw_samples(split, facts, args, f'{title}, {split.name}: middle frames')
        remove_old_sheets(args.out, files)
    except OSError as error:  # such as a full disk
        sys.stderr.write(f'error: the report cannot be written: {printable(str(error))}\n')
        return 2
    print(report.text())
    print(f'\nwritten to {args.out}: report.txt, report.json, report.png {" ".join(f.name for f in files)}')
    return 0 if report.is_fit and not (args.strict and report.of_level('warning')) else 1


if __name__ == '__main__':
    sys.exit(run_interruptible(main, 'interrupted; the same command goes on where it was'))

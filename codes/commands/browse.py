"""Show samples of a config's dataset after augmentation, as the network sees them.

Crops, flips and colors are the same as in training with the same seed and epoch. Each row of a sheet shows a snippet:
the first frame before augmentation, then the frames that the network sees, with their numbers. The colored bar shows
their positions in the video. Validation and test samples show all views: each crop and each group of snippets. --clips
writes videos instead of sheets. Sheets or clips of an earlier call for the same split and epoch are removed. A sample
that cannot be read is reported and skipped; the exit status is then 1.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dsanet.commands.arguments import (
    UsageError,
    add_config_arguments,
    default_folder,
    int_between,
    num_processes,
    read_config,
)

FPS = 4
LOOPS = 4  # clips repeat, because snippets are short


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    add = parser.add_argument
    add('--split', choices=('train', 'val', 'test'), default='train', help='dataloader of the config (default: train)')
    add(
        '--num',
        type=int_between(1),
        metavar='N',
        help='number of samples, from the start of the epoch; with --classes, of each class (default: 6)',
    )
    add(
        '--index',
        type=int_between(0),
        nargs='+',
        default=[],
        metavar='I',
        help='show these samples instead, counted from 0',
    )
    add('--classes', nargs='+', default=[], metavar='CLASS', help='show only these classes, by name or number')
    add('--epoch', type=int_between(1), metavar='E', help='training epoch, counted from 1 (default: 1)')
    add('--clips', action='store_true', help='write an MP4 per sample with its snippets side by side')
    add('--cell', type=int_between(16), default=112, metavar='PIXELS', help='size of a frame (default: 112)')
    add('--out', type=Path, metavar='DIR', help='output folder (default: work_dirs/<config name>/browse)')
    workers = min(4, os.cpu_count() or 1)
    add('--workers', type=num_processes(0), default=workers, metavar='N', help='number of data workers')


def run(args: argparse.Namespace) -> int:
    for option, is_given, other, has_no_effect in (
        ('--num', args.num is not None, '--index', args.index),
        ('--classes', args.classes, '--index', args.index),
        ('--epoch', args.epoch is not None, f'--split {args.split}', args.split != 'train'),
    ):
        if is_given and has_no_effect:
            raise UsageError(f'{option} has no effect with {other}')
    args.num = args.num or 6
    args.epoch = 1 if args.epoch is None and args.split == 'train' else args.epoch
    args.out = args.out or default_folder(args.config) / 'browse'
    from dsanet.config.loading import read_section
    from dsanet.config.schema import RuntimeCfg
    from dsanet.data_tools.browsing import OutputFiles, choose_keys
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.engine.preparation import build_loader
    from dsanet.utils.files import check_writable
    from dsanet.utils.text import error_line

    with exit_on_user_error():
        name = f'{args.split}_dataloader'
        config = read_config(args, [name])
        check_writable(args.out, '--out')
        if name not in config:
            raise KeyError(f'{args.config} has no {name}')
        runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
        # The batch size does not matter here, and may exceed the number of videos; a batch has all clips of a video.
        batch_size = config[name].get('clips_per_video', 1)
        loader = build_loader({**config[name], 'num_workers': 0, 'batch_size': batch_size}, name, runtime)
        keys = choose_keys(loader, args.epoch, args.num, args.index, args.classes)
        _check_has_no_videos(args.out, loader.dataset)
        prefix = f'train_epoch{args.epoch}' if args.split == 'train' else args.split
        output = OutputFiles(args.out, prefix, '.mp4' if args.clips else '.png')
        args.out.mkdir(parents=True, exist_ok=True)
    try:
        output.remove_old()
        num_failed = _show(loader.dataset, keys, args, runtime.seed, output)
    except OSError as error:  # such as a full disk
        sys.stderr.write(error_line(f'cannot write the images: {error}'))
        return 2
    if config['model'].get('batch_augment') is not None:
        kind = config['model']['batch_augment'].get('type')
        print(f'Not showing {kind}: it mixes the samples of a batch inside the model')
    return 1 if num_failed else 0


def _check_has_no_videos(out: Path, dataset: Any) -> None:
    """Check that no clip can replace a video of the dataset."""
    folders = {os.path.dirname(record.path) for record in dataset.records}
    if any(os.path.realpath(folder) == os.path.realpath(out) for folder in folders):
        raise ValueError(f'--out {out} contains videos of the dataset; choose another folder')


def _show(dataset: Any, keys: Sequence[Any], args: argparse.Namespace, seed: int, output: Any) -> int:
    """Write sheets or clips of samples, print their contents, and return the number of unreadable samples."""
    from tqdm import tqdm

    from dsanet.data_tools.browsing import describe_sample, sheets, to_network_input
    from dsanet.data_tools.visualization import draw_clip, draw_sheet, save_clip, save_png
    from dsanet.utils.text import error_line, printable

    samples = []
    num_failed = 0
    draw = f'seed {seed}, epoch {args.epoch}' if args.split == 'train' else ''
    for item in _load(dataset, keys, args):
        if 'error' in item:
            num_failed += 1
            tqdm.write(error_line(item['error']), file=sys.stderr, end='')
            continue
        sample = to_network_input(item, describe_sample(item, dataset, draw))
        tqdm.write('')
        print('\n'.join(map(printable, sample.headings)))
        if args.clips:
            file = output.add(f'{item["index"]:05d}')
            save_clip(draw_clip(sample, args.cell), file, FPS, LOOPS)
        else:
            samples.append(sample)
    title = f'{Path(args.config).stem}, {output.prefix.replace("_epoch", ", epoch ")}'
    for number, sheet in enumerate(sheets(samples, args.cell) if samples else (), start=1):
        save_png(draw_sheet(sheet, title, args.cell), output.add(f'{number}'))
    if num_failed:
        sys.stderr.write(f'{num_failed} of {len(keys)} samples cannot be read\n')
    print(f'\nWritten to {args.out}: {" ".join(output.names) or "no files"}')
    return num_failed


def _load(dataset: Any, keys: Sequence[Any], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield samples with a progress bar; exit with status 1 on a system error, such as a killed worker process."""
    from tqdm import tqdm

    from dsanet.data_tools.browsing import load_samples
    from dsanet.utils.machine_faults import MachineError, explain_shortage
    from dsanet.utils.text import error_line

    items = load_samples(dataset, keys, args.cell, args.workers)
    try:
        yield from tqdm(items, desc='samples', total=len(keys), unit='sample', disable=None)
    except (MachineError, RuntimeError) as error:
        sys.stderr.write(error_line(explain_shortage(error) or error))
        raise SystemExit(1) from error

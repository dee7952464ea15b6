"""Show what the network really sees: samples of a config's data after augmentation, snippet by snippet.

The samples are those of the training itself: the same seed, epoch and place in the dataset give the same crops, flips
and colors. Each row of a sheet is a snippet: the whole first frame, then the frames that the network gets, with their
numbers; the colored bar shows where in the video they lie. --clips writes short films instead. Test and validation
show their views: every crop and every group of snippets. What cannot be read is named, the other samples are drawn, and
the exit status is 1.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dsanet.commands.arguments import UsageError, add_config_arguments, default_folder, read_config

LOOPS = 4  # of a film, because snippets are short


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    add = parser.add_argument
    add('--split', choices=('train', 'val', 'test'), default='train', help='which data (default: train)')
    add('--num', type=int, metavar='N', help='samples, the first ones that the epoch takes (default: 6)')
    add('--index', type=int, nargs='+', default=[], metavar='I', help='these samples of the dataset instead, from 0 on')
    add('--classes', nargs='+', default=[], metavar='CLASS', help='only these classes, by name or number')
    add('--epoch', type=int, metavar='E', help='whose draw, as in the log, from 1 on (default: 1)')
    add('--clips', action='store_true', help='write an MP4 per sample, its snippets side by side, instead of sheets')
    add('--fps', type=float, help='frames per second of the clips (default: 4)')
    add('--cell', type=int, default=112, metavar='PIXELS', help='size of a frame on a sheet (default: 112)')
    add('--out', type=Path, metavar='DIR', help='default work_dirs/<name of the config>/browse')
    add('--workers', type=int, default=min(4, os.cpu_count() or 1), metavar='N', help='processes that load samples')


def _complete(args: argparse.Namespace) -> None:
    """Fill in what depends on other arguments, and refuse what does not go together."""
    for option, is_given, other, is_useless in (
        ('--num', args.num is not None, 'with --index', args.index),
        ('--classes', args.classes, 'with --index', args.index),
        ('--fps', args.fps is not None, 'without --clips', not args.clips),
        ('--epoch', args.epoch is not None, f'with --split {args.split}', args.split != 'train'),
    ):
        if is_given and is_useless:
            raise UsageError(f'{option} has no effect {other}')
    args.num = 6 if args.num is None else args.num
    args.epoch = 1 if args.epoch is None and args.split == 'train' else args.epoch
    args.fps = 4.0 if args.fps is None else args.fps
    wrong_epoch = args.epoch is not None and args.epoch < 1
    if args.num < 1 or wrong_epoch or args.workers < 0 or args.fps <= 0 or args.cell < 16:
        raise UsageError(
            '--num and --epoch must be at least 1, --workers at least 0, --cell at least 16, --fps above 0'
        )
    args.out = args.out or default_folder(args.config) / 'browse'


def run(args: argparse.Namespace) -> int:
    _complete(args)
    from dsanet.config.loading import read_section
    from dsanet.config.schema import RuntimeCfg
    from dsanet.data_tools.browsing import choose_keys
    from dsanet.engine.logging import plain_errors
    from dsanet.engine.preparation import build_loader
    from dsanet.utils.files import check_writable
    from dsanet.utils.text import printable

    with plain_errors():
        name = f'{args.split}_dataloader'
        config = read_config(args, [name])
        check_writable(args.out, '--out')
        if name not in config:
            raise KeyError(f'{args.config} has no {name}')
        runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
        # Batches decide only how many samples an epoch leaves out at its end; fewer videos than a batch can be shown.
        loader = build_loader({**config[name], 'num_workers': 0, 'batch_size': 1}, name, runtime)
        keys = choose_keys(loader, args.epoch, args.num, args.index, args.classes)
        args.out.mkdir(parents=True, exist_ok=True)
    try:
        num_failed = _show(loader.dataset, keys, args, runtime.seed)
    except OSError as error:  # such as a full disk
        sys.stderr.write(f'error: the pictures cannot be written: {printable(str(error))}\n')
        return 2
    if config['model'].get('batch_augment') is not None:
        kind = config['model']['batch_augment'].get('type')
        print(f'not shown: {kind}, which mixes whole batches inside the model')
    return 1 if num_failed else 0


def _show(dataset: Any, keys: Sequence[Any], args: argparse.Namespace, seed: int) -> int:
    """Write sheets or clips of samples and say what is on them; returns how many samples cannot be shown."""
    from tqdm import tqdm

    from dsanet.data_tools.browsing import as_seen, decoders_of, describe, list_indices, sheets
    from dsanet.data_tools.visualization import draw_moments, draw_samples, save_clip, save_png
    from dsanet.utils.text import printable

    samples = []
    files = []
    num_failed = 0
    training = args.split == 'train'
    place = f'train_epoch{args.epoch}' if training else args.split
    draw = f'seed {seed}, epoch {args.epoch}' if training else ''
    for item in _load(dataset, keys, args):
        if 'error' in item:
            num_failed += 1
            tqdm.write(printable(f'error: {item["error"]}'), file=sys.stderr)
            continue
        sample = as_seen(item, describe(item, dataset, draw))
        tqdm.write('')
        print(list_indices(sample))
        if args.clips:
            files.append(args.out / f'{place}_{item["index"]:05d}.mp4')
            save_clip(draw_moments(sample, args.cell), files[-1], args.fps, LOOPS)
        else:
            samples.append(sample)
    title = f'{Path(args.config).stem}, {place.replace("_epoch", ", epoch ")}'
    for number, sheet in enumerate(sheets(samples, args.cell) if samples else (), start=1):
        files.append(args.out / f'{place}_{number}.png')
        save_png(draw_samples(sheet, title, args.cell), files[-1])
    if num_failed:
        sys.stderr.write(f'{num_failed} of {len(keys)} samples cannot be shown\n')
    print(f'\nwritten to {args.out}: {" ".join(file.name for file in files) or "nothing"}')
    if decoders := decoders_of(dataset):
        print(f'decoder: {", ".join(decoders)}')
    return num_failed


def _load(dataset: Any, keys: Sequence[Any], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield samples with a progress bar.

    Raises:
        SystemExit: a worker process has ended before its time; status 2.
    """
    from tqdm import tqdm

    from dsanet.data_tools.browsing import load_watched

    items = load_watched(dataset, keys, args.cell, args.workers)
    try:
        yield from tqdm(items, desc='samples', total=len(keys), unit='sample', disable=None)
    except RuntimeError as error:
        sys.stderr.write(f'error: {error}\n')
        raise SystemExit(2) from error

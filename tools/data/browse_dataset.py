"""Show what the network really sees: samples of a config's data after augmentation, snippet by snippet.

The samples are those of the training itself: the same seed, epoch and place in the data set give the same crops, flips
and colours. Each row of a sheet is a snippet: the whole first frame, then the frames that the network gets, with their
numbers; the coloured bar shows where in the video they lie. --clips writes short films instead. Test and validation
show their views: every crop and every group of snippets. What cannot be read is named, the other samples are drawn, and
the exit status is 1.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if __name__ == '__main__':  # before the imports, which take seconds
    from dsanet.utils.signals import end_at_once_if_interrupted, run_interruptible

    end_at_once_if_interrupted()

import numpy as np  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from tqdm import tqdm  # noqa: E402

from dsanet.config.loading import load_config, read_section  # noqa: E402
from dsanet.config.schema import RuntimeCfg  # noqa: E402
from dsanet.data_tools.visualization import (  # noqa: E402
    SeenSample,
    draw_moments,
    draw_samples,
    fit_into,
    height_of,
    save_clip,
    save_png,
)
from dsanet.datasets.loader import as_it_is, init_worker  # noqa: E402
from dsanet.datasets.transforms.base import Record, Transform  # noqa: E402
from dsanet.datasets.transforms.decoding import OpenVideo  # noqa: E402
from dsanet.engine.logging import plain_errors  # noqa: E402
from dsanet.engine.preparation import build_loader  # noqa: E402
from dsanet.utils.files import check_writable  # noqa: E402
from dsanet.utils.signals import interruptions_held_back  # noqa: E402
from dsanet.utils.text import printable  # noqa: E402

SHEET_HEIGHT = 1800  # pixels; a sheet has at least one sample, however high
LOOPS = 4  # of a film, because snippets are short


class Watch(Transform):
    """A step that changes nothing and draws nothing, but keeps what a record has at its place.

    Args:
        seen: where it is kept.
        cell: pixels of the frames that are kept; 0 for none.
    """

    def __init__(self, seen: dict[str, Any], cell: int) -> None:
        self.seen = seen
        self.cell = cell

    def __call__(self, record: Record) -> Record:
        indices = record['frame_indices']
        self.seen |= {'frame_indices': indices.copy(), 'num_frames': record['num_frames']}
        if self.cell:
            first = record['frames'][:: indices.shape[-1]]  # of each snippet
            small = np.stack([fit_into(frame, self.cell, self.cell) for frame in first])
            self.seen['whole'] = small.reshape(*indices.shape[:2], self.cell, self.cell, 3)  # (G, U, h, w, 3)
        return record


class WatchedSamples(Dataset[dict[str, Any]]):
    """Samples of a data set, with what they are made from.

    Args:
        dataset: as ``build_loader`` made it; its pipeline is watched from now on.
        keys: which samples.
        cell: pixels of the frames before augmentation.
    """

    def __init__(self, dataset: Any, keys: Sequence[Any], cell: int) -> None:
        self.dataset = dataset
        self.keys = keys
        self.seen: dict[str, Any] = {}
        for part in getattr(dataset, 'datasets', [dataset]):
            steps = part.pipeline.transforms
            decoded = next(i for i, step in enumerate(steps) if 'frames' in step.gives)
            steps.insert(decoded + 1, Watch(self.seen, cell))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> dict[str, Any]:
        try:
            sample = self.dataset[self.keys[number]]
        except Exception as error:  # one bad video shall not cost the sheets of the others
            return {'error': str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)}
        return {**sample, **self.seen}


def load(items: DataLoader[Any]) -> Iterator[dict[str, Any]]:
    """Yield samples with a progress bar.

    Raises:
        SystemExit: a worker process has ended before its time, such as for want of memory; status 2.
    """
    try:
        with interruptions_held_back():
            loaded = iter(items)
        yield from tqdm(loaded, desc='samples', total=len(items), unit='sample', disable=None)
    except RuntimeError as error:
        sys.stderr.write(f'error: {error}\n')
        raise SystemExit(2) from error


def choose_keys(loader: DataLoader[Any], args: argparse.Namespace) -> list[Any]:
    """Return which samples to show, in the order in which the config's loader takes them.

    Raises:
        ValueError: there is no such sample or class.
    """
    dataset: Any = loader.dataset
    sampler: Any = loader.sampler
    training = args.split == 'train'
    if training:
        sampler.set_epoch(args.epoch - 1)
    if args.index:
        for index in args.index:
            if not 0 <= index < len(dataset):
                raise ValueError(f'--index {index} must be from 0 to {len(dataset) - 1}')
        return [(args.epoch - 1, index) if training else index for index in args.index]
    keys: Iterator[Any] = iter(sampler)
    if args.classes:
        wanted = {find_class(name, dataset) for name in args.classes}
        keys = (key for key in keys if wanted & set(dataset.records[key[1] if training else key].labels))
    chosen = list(itertools.islice(keys, args.num))
    if not chosen:
        raise ValueError(f'no sample of {" or ".join(args.classes)} in this epoch')
    return chosen


def find_class(name: str, dataset: Any) -> int:
    """Return the label of a class that is given by its name or number."""
    if dataset.class_names is not None and name in dataset.class_names:
        return int(dataset.class_names.index(name))
    if name.isascii() and name.isdigit():
        return int(name)
    known = ', '.join(dataset.class_names) if dataset.class_names else 'there are no names, only numbers'
    raise ValueError(f'--classes {name!r} is no class: {known}')


def label_text(label: Any, dataset: Any) -> str:
    """Return a sample's label, or labels, for people."""
    labels = np.flatnonzero(label).tolist() if isinstance(label, np.ndarray) else [int(label)]
    names = dataset.class_names
    return ', '.join(f'{names[k]} ({k})' if names and k < len(names) else f'class {k}' for k in labels)


def describe(item: dict[str, Any], dataset: Any, args: argparse.Namespace, seed: int) -> list[str]:
    """Return lines about a sample."""
    record = dataset.records[item['index']]
    listed = dataset.labels[item['index']]
    label = label_text(item['label'], dataset)
    if not np.array_equal(np.asarray(item['label'], np.float32), np.asarray(listed, np.float32)):
        label = f'{label}, mirrored; in the list {label_text(np.float32(listed) if listed.ndim else listed, dataset)}'
    shape = ' x '.join(map(str, item['inputs'].shape))
    draw = f', seed {seed}, epoch {args.epoch}' if args.split == 'train' else ''
    instead = [f'stands in for {bad["path"]}: {bad["reason"]}' for bad in item.get('bad', ())]
    return [
        label,
        f'{os.path.basename(record.source)}  {record.path}',
        f'index {item["index"]}{draw}; {item["num_frames"]} frames; inputs (V, U, C, T, H, W) {shape}',
        *instead,
    ]


def as_seen(item: dict[str, Any], headings: Sequence[str]) -> SeenSample:
    """Return a sample as it is drawn."""
    frames = item['inputs'].permute(0, 1, 3, 4, 5, 2).numpy()  # (V, U, T, H, W, C)
    return SeenSample(frames, item['whole'], item['frame_indices'], item['num_frames'], headings)


def print_indices(sample: SeenSample) -> None:
    """Print the frames of each snippet."""
    print(printable('\n'.join(sample.headings)))
    num_groups = len(sample.frame_indices)
    for group, snippets in enumerate(sample.frame_indices):
        for snippet, indices in enumerate(snippets):
            name = f'group {group} ' if num_groups > 1 else ''
            print(f'  {name}snippet {snippet}: frames {" ".join(map(str, indices.tolist()))}')


def sheets(samples: Sequence[SeenSample], cell: int) -> Iterator[list[SeenSample]]:
    """Divide samples among sheets."""
    sheet: list[SeenSample] = []
    for sample in samples:
        if sheet and sum(height_of(other, cell) for other in [*sheet, sample]) > SHEET_HEIGHT:
            yield sheet
            sheet = []
        sheet.append(sample)
    yield sheet


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', help='a config such as configs/custom/small_from_scratch.py')
    add('--split', choices=('train', 'val', 'test'), default='train', help='which data (default: train)')
    add('--num', type=int, metavar='N', help='samples, the first ones that the epoch takes (default: 6)')
    add('--index', type=int, nargs='+', metavar='I', help='these samples of the data set instead, from 0 on')
    add('--classes', nargs='+', default=[], metavar='CLASS', help='only these classes, by name or number')
    add('--epoch', type=int, metavar='E', help='whose draw, as in the log, from 1 on (default: 1)')
    add('--clips', action='store_true', help='write an MP4 a sample, its snippets side by side, instead of sheets')
    add('--fps', type=float, help='frames a second of the clips (default: 4)')
    add('--cell', type=int, default=112, metavar='PIXELS', help='size of a frame on a sheet (default: 112)')
    add('--out', type=Path, metavar='DIR', help='default work_dirs/<name of the config>/browse')
    add('--workers', type=int, default=min(4, os.cpu_count() or 1), metavar='N', help='processes that load samples')
    add('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override values of the config')
    args = parser.parse_args(argv)
    for option, is_given, other, is_useless in (
        ('--num', args.num is not None, 'with --index', args.index),
        ('--classes', args.classes, 'with --index', args.index),
        ('--fps', args.fps is not None, 'without --clips', not args.clips),
        ('--epoch', args.epoch is not None, f'with --split {args.split}', args.split != 'train'),
    ):
        if is_given and is_useless:
            parser.error(f'{option} is of no use {other}')
    args.num = 6 if args.num is None else args.num
    args.epoch = 1 if args.epoch is None else args.epoch
    args.fps = 4.0 if args.fps is None else args.fps
    if args.num < 1 or args.epoch < 1 or args.workers < 0 or args.fps <= 0 or args.cell < 16:
        parser.error('--num and --epoch must be at least 1, --workers at least 0, --cell at least 16, --fps above 0')
    args.out = args.out or Path('work_dirs') / Path(args.config).stem / 'browse'
    return args


def show(loader: DataLoader[Any], keys: Sequence[Any], args: argparse.Namespace, seed: int) -> int:
    """Write sheets or clips of samples and say what is on them; returns how many samples cannot be shown."""
    dataset: Any = loader.dataset
    watched = WatchedSamples(dataset, keys, args.cell)
    workers = min(args.workers, len(keys))
    items = DataLoader(watched, None, num_workers=workers, worker_init_fn=init_worker, collate_fn=as_it_is)
    samples = []
    files = []
    num_failed = 0
    place = f'{args.split}_epoch{args.epoch}' if args.split == 'train' else args.split
    for item in load(items):
        if 'error' in item:
            num_failed += 1
            tqdm.write(printable(f'error: {item["error"]}'), file=sys.stderr)
            continue
        sample = as_seen(item, describe(item, dataset, args, seed))
        tqdm.write('')
        print_indices(sample)
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
    steps = [step for part in getattr(dataset, 'datasets', [dataset]) for step in part.pipeline.transforms]
    decoders = dict.fromkeys(step.decoder for step in steps if isinstance(step, OpenVideo))
    if decoders:
        print(f'decoder: {", ".join(decoders)}')
    return num_failed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return the exit status."""
    args = parse_args(argv)
    with plain_errors():
        config = load_config(args.config, args.cfg_options)
        check_writable(args.out, '--out')
        name = f'{args.split}_dataloader'
        if name not in config:
            raise KeyError(f'{args.config} has no {name}')
        runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
        # Batches decide only how many samples an epoch leaves out at its end; fewer videos than a batch can be shown.
        loader = build_loader({**config[name], 'num_workers': 0, 'batch_size': 1}, name, runtime)
        keys = choose_keys(loader, args)
        args.out.mkdir(parents=True, exist_ok=True)
    try:
        num_failed = show(loader, keys, args, runtime.seed)
    except OSError as error:  # such as a full disk
        sys.stderr.write(f'error: the pictures cannot be written: {printable(str(error))}\n')
        return 2
    if config['model'].get('batch_augment') is not None:
        kind = config['model']['batch_augment'].get('type')
        print(f'not shown: {kind}, which mixes whole batches inside the model')
    return 1 if num_failed else 0


if __name__ == '__main__':
    sys.exit(run_interruptible(main))

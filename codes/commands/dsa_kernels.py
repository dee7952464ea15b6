"""Draw the kernels that the DSA modules of a model generate, and print how much they differ.

Pass a config to use the videos and labels of its test_dataloader, or videos: files, folders, or lists with lines
"path" or "path label". If the config has many videos, the same number of each class is used, spread evenly over
the list (--num-videos). The picture has a row for each DSA module.

Distances are half the sum of the absolute differences of two kernels, from 0 to 1:
  identity   from the kernel that keeps each snippet
  averaging  from the kernel with equal weights
  channels   of the channels from their mean
  videos     of the videos from their mean, in the same channel
"offset" is the mean center of mass in snippets, negative for earlier snippets. "classes" is the share of the variance
between videos that the classes explain, with the share expected by chance.

Examples:
    dsanet dsa-kernels work_dirs/my_run/best.pth configs/my_config.py --out kernels.png
    dsanet dsa-kernels work_dirs/my_run/best.pth clip.mp4 other_clips
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dsanet.commands.arguments import (
    CONFIG_HELP,
    MODEL_SOURCES,
    UsageError,
    add_allow_pickle,
    add_config_options,
    files_of_config,
    int_between,
    load_model,
    output_file,
)

DEFAULT_NUM_VIDEOS = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', metavar='CHECKPOINT', help=f'checkpoint: {MODEL_SOURCES}')
    add('videos', nargs='+', metavar='CONFIG|VIDEO', help=f'{CONFIG_HELP}; or videos, folders or lists')
    add(
        '--out',
        type=output_file('.png', '.pdf', '.svg'),
        default='dsa_kernels.png',
        metavar='FILE',
        help='the picture (default: dsa_kernels.png)',
    )
    add('--npz', type=output_file('.npz'), metavar='FILE', help='write the kernels of all videos as NumPy arrays')
    add(
        '--num-videos',
        type=int_between(1),
        metavar='N',
        help=f'largest number of videos of a CONFIG (default: {DEFAULT_NUM_VIDEOS})',
    )
    add('--config', metavar='CONFIG', help='config of the model for VIDEO (default: the config in the checkpoint)')
    add_config_options(parser)
    add('--device', default='auto', help="such as 'cpu' or 'cuda:0' (default: the first GPU, or else the CPU)")
    add_allow_pickle(parser, 'CHECKPOINT')


def run(args: argparse.Namespace) -> int:
    from dsanet.config.shipped import list_configs
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.explain.kernel_picture import draw_kernels
    from dsanet.explain.kernels import collect_kernels, find_dsa
    from dsanet.utils.files import check_outputs
    from dsanet.utils.text import count_noun

    problems: list[str] = []
    with exit_on_user_error():
        first = args.videos[0]
        is_config = first.endswith('.py') or (not os.path.exists(first) and first in list_configs())
        if args.num_videos is not None and not is_config:
            raise UsageError('--num-videos has no effect without a CONFIG')
        if is_config and (len(args.videos) > 1 or args.config is not None):
            raise UsageError(f'{first} is a config; pass either one config or videos')
        outputs = {'--out': args.out, '--npz': args.npz}
        check_outputs(outputs, [args.checkpoint, args.config, *args.videos])
        recognizer = load_model(args, config=first if is_config else None)
        find_dsa(recognizer.model)  # before any video is read
        if is_config:
            check_outputs(outputs, files_of_config(recognizer.config))
            batches = _dataset_batches(recognizer, args.num_videos or DEFAULT_NUM_VIDEOS)
        else:
            batches = _video_batches(recognizer, args.videos, problems)
        content = collect_kernels(recognizer, batches)
        draw_kernels(content, args.out, '/'.join(Path(args.checkpoint).parts[-2:]))
        if args.npz is not None:
            _write_arrays(content, args.npz)
    print(format_table(content))
    print(f'Kernels of {count_noun(len(content.videos), "video")} drawn in {args.out}')
    if problems:
        print(f'{count_noun(len(problems), "video")} could not be read', file=sys.stderr)
    return 1 if problems else 0


def _dataset_batches(recognizer: Any, max_videos: int) -> Iterator[Any]:
    """Yield the videos of the test data of a config, or an equal number of each class."""
    from dsanet.explain.data import build_test_loader, read_labeled_batches

    loader: Any = build_test_loader(recognizer, max_videos)
    number, total = len(loader.sampler), len(loader.dataset)
    if number < total:
        print(f'{number} of {total} videos, evenly chosen from each class; --num-videos sets the largest number')
    yield from read_labeled_batches(loader)


def _video_batches(recognizer: Any, videos: list[str], problems: list[str]) -> Iterator[Any]:
    """Yield videos; append why videos cannot be read."""
    from dsanet.inference.samples import load_samples
    from dsanet.inference.sources import find_sources

    sources, is_single = find_sources(videos[0] if len(videos) == 1 else videos, None, False, recognizer.frame_names)
    if is_single:
        sources[0].check_exists()
    section = recognizer.config['test_dataloader']
    workers = section.get('num_workers', 2) if len(sources) > 1 else 0
    for samples in load_samples(sources, recognizer.pipelines, section['batch_size'], workers):
        for problem in samples.errors.values():
            if is_single:
                raise ValueError(problem)
            print(f'Skipped: {problem}', file=sys.stderr)
            problems.append(problem)
        for batch in samples.batches:
            used = [sources[i] for i in batch['index'].tolist()]
            labels = [source.labels[0] if len(source.labels) == 1 else -1 for source in used]
            yield batch['inputs'], [source.name for source in used], labels


def _write_arrays(content: Any, file: Path) -> None:
    import numpy as np

    from dsanet.utils.files import open_atomically

    arrays = {module.name: module.kernels for module in content.modules}
    with open_atomically(file) as stream:
        np.savez(stream, videos=np.array(content.videos), labels=content.labels, **arrays)


def format_table(content: Any) -> str:
    """Return a table with a line for each module."""
    width = max(len('module'), *(len(module.name) for module in content.modules))
    names = ('identity', 'averaging', 'offset', 'channels', 'videos', 'classes')
    lines = [f'{"module":<{width}}  ' + '  '.join(f'{name:>9}' for name in names)]
    for module in content.modules:
        stats = module.measure(content.labels)
        values = (stats.from_identity, stats.from_average, stats.offset, stats.between_channels, stats.between_videos)
        share = '-' if stats.between_classes is None else f'{stats.between_classes:.0%}'
        chance = '' if stats.by_chance is None else f' (by chance {stats.by_chance:.0%})'
        lines.append(f'{module.name:<{width}}  ' + '  '.join(f'{v:9.3f}' for v in values) + f'  {share:>9}{chance}')
    return '\n'.join(lines)

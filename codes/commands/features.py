"""Write the features of videos, for classifiers and localizers that are trained on them.

A VIDEO is a video file, a folder of frames, a folder of videos, or a list (.txt) with lines "path" or "path label".
Each video becomes a file in the --out folder, with the features, the times of their rows in seconds, and the labels.
Videos that have features already are skipped, so an interrupted command continues where it stopped.

Levels, for V views of U snippets and features of D channels:
  clip     one row per view, (V, D)
  snippet  one row per snippet, (V, U, D); as NPY all snippets in time order, averaged over the crops
  video    one row, (D,)

Example:
    dsanet features work_dirs/my_run/best.pth data/train.txt --out features/train --level snippet
"""

import argparse
import logging
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from dsanet.commands.arguments import (
    CONFIG_HELP,
    MODEL_SOURCES,
    UsageError,
    add_allow_pickle,
    add_config_options,
    add_gpus,
    load_model,
    num_processes,
)
from dsanet.commands.launch import launch_command

LOGGER = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', metavar='CHECKPOINT', help=f'checkpoint: {MODEL_SOURCES}; other weights require --config')
    add('videos', nargs='+', metavar='VIDEO', help='videos, folders or lists')
    add('--out', type=Path, required=True, metavar='FOLDER', help='folder of the features, new or to be continued')
    add('--level', choices=('clip', 'snippet', 'video'), default='clip', help='what a row is (default: clip)')
    add('--layer', metavar='NAME', help='module of the model (default: the input of the classifier, after pooling)')
    add('--format', choices=('npz', 'npy'), default='npz', help='format of the files (default: npz)')
    add('--views', choices=('test', 'fast'), default='test', help='as for dsanet predict (default: test)')
    add(
        '--data-root',
        metavar='FOLDER',
        help='folder of the relative paths in lists (default: here, or beside the list)',
    )
    add('--config', metavar='CONFIG', help=f'{CONFIG_HELP} (default: the config in the checkpoint)')
    add_config_options(parser)
    add_gpus(parser)
    add('--device', default='auto', help="such as 'cpu' or 'cuda:0' (default: the GPU of the process, or else the CPU)")
    add('--workers', type=num_processes(0), metavar='N', help='data workers per process (default: as in the config)')
    add_allow_pickle(parser, 'CHECKPOINT')


def run(args: argparse.Namespace) -> int | None:
    if any('://' in video for video in args.videos):
        raise UsageError('features of URLs are not supported; download the videos')
    status = launch_command(args)
    if status is None:
        from dsanet.engine import failures

        failures.run_main(lambda: _run(args))
    return status


def _run(args: argparse.Namespace) -> None:
    from dsanet.engine.logging import exit_on_user_error, setup_logging
    from dsanet.engine.work_dir import hold_lock
    from dsanet.inference.features.extraction import FeatureExtractor
    from dsanet.inference.features.files import RECIPE_FILE, check_recipe, make_recipe, name_files
    from dsanet.inference.model_sources import find_model
    from dsanet.inference.pipelines import find_test_dataset
    from dsanet.inference.sources import find_sources
    from dsanet.utils import distributed
    from dsanet.utils.files import check_writable

    with exit_on_user_error():
        setup_logging()
        check_writable(args.out, '--out')
        recognizer = load_model(args, distributed.find_device() if args.device == 'auto' else None, views=args.views)
        extractor = FeatureExtractor(recognizer, args.layer)
        names = recognizer.class_names
        sources, _ = find_sources(args.videos, None, False, recognizer.frame_names, args.data_root, names)
        files = name_files(sources, args.out, args.format)
        settings = {'layer': args.layer, 'level': args.level, 'format': args.format, 'views': args.views}
        dataset = find_test_dataset(recognizer.config)
        recipe = make_recipe(recognizer.config, recognizer.steps, dataset, find_model(args.checkpoint), **settings)
        check_recipe(args.out, recipe)
        is_new = not args.out.exists()
        args.out.mkdir(parents=True, exist_ok=True)
    try:
        # The lock is next to the recipe, and is there before it.
        with hold_lock(args.out / RECIPE_FILE, 'choose another --out') as lock:
            _extract(args, extractor, sources, files, recipe, lock)
    finally:
        if is_new:
            with suppress(OSError):  # it has features
                args.out.rmdir()


def _extract(args: argparse.Namespace, extractor: Any, sources: Any, files: Any, recipe: Any, lock: Any) -> None:
    from dsanet.config.loading import read_section
    from dsanet.config.schema import RuntimeCfg
    from dsanet.datasets.workers import start_workers
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.engine.stopping import RunError, StopRequest
    from dsanet.inference.features.extraction import extract
    from dsanet.inference.features.files import write_recipe
    from dsanet.inference.samples import build_sample_loader
    from dsanet.utils import distributed

    recognizer = extractor.recognizer
    section = recognizer.config['test_dataloader']
    runtime: RuntimeCfg = read_section(recognizer.config, 'runtime', RuntimeCfg)
    with exit_on_user_error():
        loader = build_sample_loader(
            sources,
            recognizer.pipelines,
            section['batch_size'],
            section.get('num_workers', 2) if args.workers is None else args.workers,
            distributed.rank(),
            distributed.world_size(),
        )
        start_workers(loader)
        if lock is not None:
            lock.start_heartbeat()
        distributed.init_process_group(runtime.timeout_minutes)
    started = time.monotonic()
    before_writing = partial(write_recipe, args.out, recipe)
    try:
        with StopRequest() as stop, stop.at_once('during the extraction; the same command continues'):
            num_before, problems = extract(extractor, loader, sources, files, args.level, before_writing)
    except OSError as error:
        raise RunError(f'cannot continue: {error}; the same command continues') from error
    except ValueError:
        with exit_on_user_error():
            raise
    seconds = max(time.monotonic() - started, 1e-3)
    number = len(sources) - num_before - len(problems)
    before = f'; {num_before} had them before' if num_before else ''
    LOGGER.info('Features of %d videos written to %s, %.1f videos/s%s', number, args.out, number / seconds, before)
    distributed.destroy_process_group()
    if problems:
        first = problems[min(problems)]
        raise RunError(f'{len(problems)} of {len(sources)} videos have no features. First: {first}')

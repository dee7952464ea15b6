"""Test a trained recognizer in this process, in several processes with --gpus N, or under a launcher."""

import argparse
import json
import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from dsanet.commands.arguments import (
    CONFIG_HELP,
    MODEL_SOURCES,
    UsageError,
    add_allow_pickle,
    add_amp,
    add_config_options,
    add_gpus,
    files_of_config,
    int_between,
    output_file,
)
from dsanet.commands.launch import launch_command

LOGGER = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'config', nargs='?', metavar='CONFIG', help=f'{CONFIG_HELP} (default: the config in the checkpoint)'
    )
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help=f'checkpoint to test: {MODEL_SOURCES}')
    add_config_options(parser)
    add_gpus(parser)
    add_allow_pickle(parser, 'CHECKPOINT')
    parser.add_argument(
        '--out',
        type=output_file('.pkl', '.json', '.npz'),
        metavar='FILE',
        help='write path, label and scores of each video; FILE.parts has the results of an unfinished test',
    )
    parser.add_argument(
        '--resume-test', action='store_true', help='continue an interrupted test with the same --out, if there is one'
    )
    parser.add_argument('--metrics-out', type=output_file('.json'), metavar='FILE', help='write the metrics as JSON')
    parser.add_argument(
        '--average-views', choices=('score', 'prob'), help='average the scores or probabilities of the views'
    )
    parser.add_argument(
        '--max-views-per-forward',
        type=int_between(1),
        metavar='N',
        help='maximum number of views per forward pass; saves memory',
    )
    add_amp(parser)


def run(args: argparse.Namespace) -> int | None:
    if args.resume_test and args.out is None:
        raise UsageError('--resume-test requires --out')
    if args.config is None and args.checkpoint.endswith('.py'):
        raise UsageError(
            f'{args.checkpoint} is a config, and the checkpoint is missing: dsanet test [CONFIG] CHECKPOINT'
        )
    status = launch_command(args)
    if status is None:
        from dsanet.engine import failures

        failures.run_main(lambda: _test(args))
    return status


def _test(args: argparse.Namespace) -> None:
    from dsanet.engine.logging import exit_on_user_error, setup_logging
    from dsanet.engine.work_dir import hold_lock

    with exit_on_user_error():
        setup_logging()
    with nullcontext() if args.out is None else hold_lock(args.out, 'choose another --out') as lock:
        _run_test(args, lock)


def _run_test(args: argparse.Namespace, lock: Any) -> None:
    from dsanet.config.loading import read_section
    from dsanet.config.registry import MODELS, build
    from dsanet.config.schema import RuntimeCfg
    from dsanet.datasets.classes import class_names_of
    from dsanet.datasets.workers import start_workers
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.engine.preparation import build_loader, check_clip_shape, place_model
    from dsanet.engine.result_parts import ResultParts, describe_test
    from dsanet.evaluation.metrics import build_metrics, check_metrics, compute_metrics, describe_baseline
    from dsanet.evaluation.results import Results, check_no_duplicates
    from dsanet.inference.checkpoint_config import class_names_for_checkpoint, config_for_checkpoint
    from dsanet.inference.model_sources import read_model
    from dsanet.models.weights.loading import load_weights
    from dsanet.utils import distributed
    from dsanet.utils.files import check_outputs

    with exit_on_user_error():
        checkpoint, content = read_model(args.checkpoint, args.allow_pickle)
        content.pop('optimizer', None)  # data workers would keep its memory, which is larger than the model
        config = config_for_checkpoint(checkpoint, content, args.config, args.cfg_options, args.imports)
        outputs = {'--out': args.out, '--metrics-out': args.metrics_out}
        check_outputs(outputs, [checkpoint, args.config, *files_of_config(config)])
        for key in ('average_views', 'max_views_per_forward'):
            if (value := getattr(args, key)) is not None:
                config['model'][key] = value
        runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
        amp = args.amp or runtime.amp
        device = distributed.find_device()
        model = build(config['model'], MODELS, 'model')
        check_clip_shape(model, config, ['test_dataloader'])
        loader = build_loader(config['test_dataloader'], 'test_dataloader', runtime)
        dataset: Any = loader.dataset
        data_names = class_names_of(dataset, 'test')
        class_names = class_names_for_checkpoint(checkpoint, content, model.num_classes, data_names)
        dataset.check_labels(model.num_classes)
        if args.out is not None:
            check_no_duplicates([record.key for record in dataset.records], 'the test data')
        start_workers(loader)
        if lock is not None:
            lock.start_heartbeat()
        distributed.init_process_group(runtime.timeout_minutes)
        load_weights(model, checkpoint, strict=True, content=content)
        del content  # free its memory
        metrics = build_metrics(config['metrics'])
        check_metrics(metrics, dataset)
        parts: ResultParts | None = None
        if args.out is not None:
            identity = describe_test(config, checkpoint, amp, dataset)
            parts = ResultParts(args.out.with_name(f'{args.out.name}.parts'), identity)
            # A launcher restarts a failed test with the same arguments, without --resume-test.
            parts.start(args.resume_test or distributed.is_restart())
    place_model(model, device)
    model.optimize(runtime.compile, amp)
    num_restored = 0
    if parts is not None:
        num_restored = sum(distributed.all_gather_object(sum(len(part.index) for part in parts.restored)))
    if num_restored:
        LOGGER.info('Resuming the test: %d of %d samples are already scored', num_restored, len(dataset))
    elif args.resume_test:
        LOGGER.info('No interrupted test found for %s, starting from the beginning', args.out)
    started = time.monotonic()
    predictions = _predict(args, model, loader, device, amp, parts)
    seconds = max(time.monotonic() - started, 1e-3)
    numbers = distributed.compute_on_main(lambda: compute_metrics(metrics, predictions.scores, predictions.labels))
    LOGGER.info('%d samples  %s', len(dataset), '  '.join(f'{k} {v:.2f}' for k, v in numbers.items()))
    if predictions is not None and (baseline := describe_baseline(predictions.labels, numbers)) is not None:
        LOGGER.info('%s', baseline)
    num_scored = len(dataset) - num_restored
    LOGGER.info(
        '%d samples scored in %s, %.1f samples/s', num_scored, timedelta(seconds=round(seconds)), num_scored / seconds
    )
    if distributed.rank() == 0:
        paths = [record.key for record in dataset.records]
        results = Results(str(args.out), paths, predictions.labels, predictions.scores, model.activation, class_names)
        _write(args, results, numbers)
    if parts is not None:
        parts.remove()
    distributed.destroy_process_group()


def _predict(args: argparse.Namespace, model: Any, loader: Any, device: Any, amp: str | None, parts: Any) -> Any:
    from dsanet.datasets.transforms.base import BadSample
    from dsanet.engine.evaluator import EXPECTED_ERRORS, predict
    from dsanet.engine.logging import exit_on_user_error
    from dsanet.engine.stopping import RunError, StopRequest
    from dsanet.utils.text import strip_worker_traceback

    hint = '' if parts is None else f'; continue with --resume-test, the scored samples are in {parts.folder}'
    try:
        with StopRequest() as stop, stop.at_once(f'during the test{hint}'):
            return predict(model, loader, device, amp, parts=parts)
    except EXPECTED_ERRORS as error:
        text = strip_worker_traceback(error)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise RunError(f'cannot continue the test: {text}') from error
        if isinstance(error, BadSample):
            text += '. A test does not skip bad videos: repair the video or remove it from the list'
            if args.config is not None:
                text += f'; `dsanet check {args.config}` lists all bad videos'
        with exit_on_user_error():
            raise ValueError(text) from error


def _write(args: argparse.Namespace, results: Any, numbers: Mapping[str, float]) -> None:
    from dsanet.engine.stopping import RunError
    from dsanet.evaluation.result_files import write_results
    from dsanet.utils.files import write_atomically

    try:
        if args.out is not None:
            write_results(results, args.out)
            LOGGER.info('Scores written to %s', args.out)
        if args.metrics_out is not None:
            num_videos = len(results.paths)
            content = {'config': args.config, 'checkpoint': args.checkpoint, 'num_videos': num_videos, **numbers}
            write_atomically(json.dumps(content, indent=2).encode() + b'\n', args.metrics_out)
    except OSError as error:
        raise RunError(f'cannot write the results: {error}') from error

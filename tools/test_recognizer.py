"""Test a trained recogniser. Started by dist_test_recognizer.sh, or alone for one process."""

import argparse
import hashlib
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsanet.config.loading import load_config, read_section  # noqa: E402
from dsanet.config.registry import METRICS, MODELS, build  # noqa: E402
from dsanet.config.schema import RuntimeCfg  # noqa: E402
from dsanet.datasets.loader import start_workers  # noqa: E402
from dsanet.datasets.transforms.base import BadSample  # noqa: E402
from dsanet.engine import failures
from dsanet.engine.evaluator import FAILURES, check_metrics, compute_metrics, own_text, predict  # noqa: E402
from dsanet.engine.logging import plain_errors, setup_logging  # noqa: E402
from dsanet.engine.preparation import build_loader, check_sampling, place_model  # noqa: E402
from dsanet.engine.result_parts import ResultParts  # noqa: E402
from dsanet.engine.stopping import RunError, StopRequest  # noqa: E402
from dsanet.evaluation.results import Results, check_result_file, write_results  # noqa: E402
from dsanet.models.weights.loading import load_weights  # noqa: E402
from dsanet.utils import distributed
from dsanet.utils.checkpoint_io import ALLOW_PICKLE  # noqa: E402
from dsanet.utils.files import write_atomically  # noqa: E402


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """Return a type for argparse that checks an output file before hours of testing, not behind them."""

    def check(text: str) -> Path:
        try:
            return check_result_file(Path(text), suffixes)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return check


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a config such as configs/kinetics/r50_e100_s1_8.py')
    parser.add_argument('checkpoint', help='the weights to test')
    parser.add_argument(
        ALLOW_PICKLE, action='store_true', help='let the checkpoint run code to be read; only if you trust its origin'
    )
    parser.add_argument(
        '--out',
        type=output_file('.pkl', '.json'),
        metavar='FILE',
        help='write path, label and scores of each video; FILE.parts holds those of an unfinished test',
    )
    parser.add_argument(
        '--resume-test', action='store_true', help='continue the interrupted test with the same --out, if there is one'
    )
    parser.add_argument('--metrics-out', type=output_file('.json'), metavar='FILE', help='write the metrics as JSON')
    parser.add_argument('--average-views', choices=('score', 'prob'), help='how the views of a video become one score')
    parser.add_argument('--max-views-per-forward', type=int, metavar='N', help='bounds the memory of many views')
    parser.add_argument('--amp', choices=('bf16', 'fp16'), help='automatic mixed precision')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override values of the config'
    )
    args = parser.parse_args()
    if args.resume_test and args.out is None:
        parser.error('--resume-test needs --out, beside which an interrupted test leaves its results')
    return args


def describe_test(config: Mapping[str, Any], checkpoint: str, amp: str | None, dataset: Any) -> dict[str, Any]:
    """Return everything that the scores depend on, by name; what only changes the speed is left out."""
    with open(checkpoint, 'rb') as stream:
        digest = hashlib.sha256()
        while block := stream.read(2**20):
            digest.update(block)
    records = [(record.path, record.labels, record.num_frames) for record in dataset.records]
    loader = {key: value for key, value in config['test_dataloader'].items() if key != 'num_workers'}
    return {
        'model': config['model'],
        'test_dataloader': loader,
        'amp': amp,
        'runtime.seed': config.get('runtime', {}).get('seed', 0),
        'the SHA-256 of the checkpoint': digest.hexdigest()[:16],
        'the SHA-256 of the list of videos': hashlib.sha256(json.dumps(records).encode()).hexdigest()[:16],
    }


def main() -> None:
    args = parse_args()
    logger = logging.getLogger('dsanet')
    with plain_errors():
        config = load_config(args.config, args.cfg_options)
        for key in ('average_views', 'max_views_per_forward'):
            if (value := getattr(args, key)) is not None:
                config['model'][key] = value
        runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
        amp = args.amp or runtime.amp
        device = distributed.find_device()
        setup_logging(None, is_main=distributed.rank() == 0)
        model = build(config['model'], MODELS, 'model')
        check_sampling(model, config, ['test_dataloader'])
        loader = build_loader(config['test_dataloader'], 'test_dataloader', runtime)
        dataset: Any = loader.dataset
        dataset.check_labels(model.num_classes)
        start_workers(loader)
        distributed.join(runtime.timeout_minutes)
        load_weights(model, args.checkpoint, strict=True, allow_pickle=args.allow_pickle)
        metrics = [build(cfg, METRICS, f'metrics.{i}') for i, cfg in enumerate(config['metrics'])]
        check_metrics(metrics, dataset)
        parts: ResultParts | None = None
        if args.out is not None:
            identity = describe_test(config, args.checkpoint, amp, dataset)
            parts = ResultParts(args.out.with_name(f'{args.out.name}.parts'), identity)
            # A launcher that starts a failed run once more does so with the same arguments.
            parts.start(args.resume_test or distributed.is_restart())
    place_model(model, device)
    num_found = 0 if parts is None else sum(distributed.gather(sum(len(part.index) for part in parts.restored)))
    if num_found:
        logger.info('%d of %d videos were scored before the interruption', num_found, len(dataset))
    elif args.resume_test:
        logger.info('no interrupted test to continue beside %s: testing from the beginning', args.out)
    started = time.monotonic()
    how = '' if parts is None else f'; --resume-test goes on with the results in {parts.folder}'
    try:
        with StopRequest() as stop, stop.at_once(f'within the test{how}'):
            predictions = predict(model, loader, device, amp, parts=parts)
    except FAILURES as error:
        text = own_text(error)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise RunError(f'the test cannot go on: {text}') from error
        if isinstance(error, BadSample):
            text += (
                '. A test leaves no video out: repair it or take it out of the list; '
                f'`python tools/data/check_dataset.py {args.config}` finds all that are bad'
            )
        with plain_errors():
            raise ValueError(text) from error
    seconds = max(time.monotonic() - started, 1e-3)
    numbers = compute_metrics(metrics, predictions)
    logger.info('%d videos  %s', len(dataset), '  '.join(f'{k} {v:.2f}' for k, v in numbers.items()))
    num_scored = len(dataset) - num_found
    logger.info(
        '%d videos scored in %s, %.1f videos/s', num_scored, timedelta(seconds=round(seconds)), num_scored / seconds
    )
    if distributed.rank() == 0:
        try:
            if args.out is not None:
                paths = [record.path for record in dataset.records]
                name, labels, scores = str(args.out), predictions.labels, predictions.scores
                write_results(Results(name, paths, labels, scores, model.activation), args.out)
                logger.info('scores written to %s', args.out)
            if args.metrics_out is not None:
                content = {'config': args.config, 'checkpoint': args.checkpoint, 'num_videos': len(dataset), **numbers}
                write_atomically(json.dumps(content, indent=2).encode() + b'\n', args.metrics_out)
        except OSError as error:
            raise RunError(f'the results could not be written: {error}') from error
    if parts is not None:
        parts.remove()
    distributed.teardown()


if __name__ == '__main__':
    failures.run_tool(main)

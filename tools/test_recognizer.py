"""Test a trained recogniser. Started by dist_test_recognizer.sh, or alone for one process."""

import argparse
import json
import logging
import pickle
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402

from codes.config import RuntimeCfg, load_config, read_section  # noqa: E402
from codes.engine import distributed  # noqa: E402
from codes.engine.checkpoint import ALLOW_PICKLE, load_weights  # noqa: E402
from codes.engine.evaluation import check_metrics, compute_metrics, predict  # noqa: E402
from codes.engine.logging import plain_errors, setup_logging  # noqa: E402
from codes.engine.runner import build_loader  # noqa: E402
from codes.registry import METRICS, MODELS, build  # noqa: E402


def result_file(text: str) -> Path:
    """Check the results file before hours of testing, not behind them."""
    file = Path(text)
    if file.suffix not in ('.pkl', '.json'):
        raise argparse.ArgumentTypeError(f'{text!r} must end in .pkl or .json')
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open('ab').close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f'{text!r} cannot be written: {error.strerror}') from error
    return file


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a config such as configs/kinetics/r50_e100_s1_8.py')
    parser.add_argument('checkpoint', help='the weights to test')
    parser.add_argument(
        ALLOW_PICKLE, action='store_true', help='let the checkpoint run code to be read; only if you trust its origin'
    )
    parser.add_argument('--out', type=result_file, metavar='FILE', help='write path, label and scores of each video')
    parser.add_argument('--average-views', choices=('score', 'prob'), help='how the views of a video become one score')
    parser.add_argument('--max-views-per-forward', type=int, metavar='N', help='bounds the memory of many views')
    parser.add_argument('--amp', choices=('bf16', 'fp16'), help='automatic mixed precision')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override values of the config'
    )
    return parser.parse_args()


def write_results(file: Path, results: list[dict[str, Any]]) -> None:
    """Write one entry a video: ``path``, ``label`` and ``scores``, in the order of the data set."""
    if file.suffix == '.json':
        file.write_text(json.dumps(results))
    else:
        file.write_bytes(pickle.dumps(results))


def main() -> None:
    args = parse_args()
    logger = logging.getLogger('codes')
    with plain_errors():
        config = load_config(args.config, args.cfg_options)
        for key in ('average_views', 'max_views_per_forward'):
            if (value := getattr(args, key)) is not None:
                config['model'][key] = value
        runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
        device = distributed.setup(runtime.timeout_minutes)
        setup_logging(None, is_main=distributed.rank() == 0)
        model = build(config['model'], MODELS, 'model')
        loader = build_loader(config['test_dataloader'], 'test_dataloader', runtime)
        dataset: Any = loader.dataset
        dataset.check_labels(model.num_classes)
        load_weights(model, args.checkpoint, strict=True, allow_pickle=args.allow_pickle)
        metrics = [build(cfg, METRICS, f'metrics.{i}') for i, cfg in enumerate(config['metrics'])]
        check_metrics(metrics, dataset)
    model.to(device, memory_format=torch.channels_last_3d)
    predictions = predict(model, loader, device, args.amp or runtime.amp)
    numbers = compute_metrics(metrics, predictions)
    logger.info('%d videos  %s', len(dataset), '  '.join(f'{k} {v:.2f}' for k, v in numbers.items()))
    if args.out is not None and distributed.rank() == 0:
        rows = zip(dataset.records, predictions.labels, predictions.scores, strict=True)
        results = [{'path': r.path, 'label': y.tolist(), 'scores': s.tolist()} for r, y, s in rows]
        write_results(args.out, results)
        logger.info('scores written to %s', args.out)
    distributed.teardown()


if __name__ == '__main__':
    distributed.run_tool(main)

"""Train a recogniser that a config describes. Started by dist_train_recognizer.sh, or alone for one process."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsanet.config.loading import load_config, read_section  # noqa: E402
from dsanet.config.schema import RuntimeCfg  # noqa: E402
from dsanet.data_checks.pipeline import try_pipelines  # noqa: E402
from dsanet.data_checks.reading import splits_of  # noqa: E402
from dsanet.data_checks.report import Finding  # noqa: E402
from dsanet.data_checks.run import announce, quick_report  # noqa: E402
from dsanet.data_checks.splits import Split  # noqa: E402
from dsanet.engine import failures
from dsanet.engine.checkpointing import newest_checkpoint, position_of  # noqa: E402
from dsanet.engine.logging import plain_errors, setup_logging  # noqa: E402
from dsanet.engine.trainer import Runner  # noqa: E402
from dsanet.utils import distributed
from dsanet.utils.checkpoint_io import ALLOW_PICKLE, read_checkpoint  # noqa: E402
from dsanet.utils.files import write_atomically  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a config such as configs/kinetics/r50_e100_s1_8.py')
    parser.add_argument('--work-dir', help='for checkpoints, logs and curves; default work_dirs/<name of the config>')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='auto|FILE',
        help='go on from a checkpoint; auto, the default, takes the newest of the work dir, if any',
    )
    parser.add_argument('--load-from', metavar='FILE', help='start from the weights of a checkpoint')
    parser.add_argument(
        ALLOW_PICKLE, action='store_true', help='let that file run code to be read; only if you trust its origin'
    )
    parser.add_argument('--seed', type=int, help='instead of runtime.seed')
    parser.add_argument('--deterministic', action='store_true', help='reproducible algorithms on the GPU; slower')
    parser.add_argument('--amp', choices=('bf16', 'fp16'), help='automatic mixed precision')
    parser.add_argument(
        '--scale-lr', action='store_true', help='scale the learning rate from train_cfg.base_batch_size to this run'
    )
    parser.add_argument(
        '--profile',
        nargs='?',
        type=int,
        const=5,
        default=0,
        metavar='N',
        help='record N iterations, 5 by default, in a trace and a table in WORK_DIR/profile',
    )
    parser.add_argument('--no-validate', action='store_true', help='leave out validation')
    parser.add_argument(
        '--no-check', action='store_true', help='leave out the quick check of the data (tools/data/check_dataset.py)'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override values of the config'
    )
    return parser.parse_args()


def list_splits(runner: Runner) -> list[Split]:
    """Return what a run trains and validates on."""
    num_classes = runner.model.num_classes
    sampling = runner.config['train_dataloader'].get('sampling', 'uniform')
    splits = splits_of('train', runner.train_loader.dataset, num_classes, sampling)
    if runner.val_loader is not None:
        splits += splits_of('val', runner.val_loader.dataset, num_classes)
    return splits


def check_data(runner: Runner, tried: Sequence[Finding] = ()) -> None:
    """Look at the data for half a second on rank 0, rather than let a long run end in them.

    Args:
        runner: of the run.
        tried: what a trial of the pipelines has found already.

    Raises:
        ValueError: a run would end in them or be pointless; in all processes.
    """
    problem = None
    if distributed.rank() == 0:
        try:
            announce(quick_report(list_splits(runner), 0.5, tried))
        except ValueError as error:
            problem = str(error)
    problem = distributed.gather(problem)[0]
    if problem is not None:
        raise ValueError(problem)


def what_to_resume(asked: str | None, work_dir: Path) -> str | None:
    """Return what a run resumes: what was asked for, or where it stood if the launcher had to restart it."""
    if not distributed.is_restart():
        return asked
    if asked in (None, 'auto'):
        return 'auto'
    found = newest_checkpoint(work_dir)
    # At its first start nothing in the work dir was further than the file (Runner.start): what is, this run wrote.
    if found is None or position_of(found[1]) <= position_of(read_checkpoint(asked)):
        return asked
    return 'auto'


def keep_config(runner: Runner, file: Path) -> None:
    """Write the resolved config into the work dir; a full disk must not keep a run from going on."""
    try:
        write_atomically(runner.config_text.encode(), file)
    except OSError as error:
        logging.getLogger('dsanet').warning('the config could not be written: %s', error)


def main() -> None:
    args = parse_args()
    work_dir = Path(args.work_dir or Path('work_dirs') / Path(args.config).stem)
    with plain_errors():
        config = load_config(args.config, args.cfg_options)
        given = {'seed': args.seed, 'deterministic': args.deterministic or None, 'amp': args.amp}
        config['runtime'] = {**config.get('runtime', {}), **{k: v for k, v in given.items() if v is not None}}
        if args.scale_lr and 'train_cfg' in config:
            config['train_cfg'] = {**config['train_cfg'], 'scale_lr': True}
        if args.no_validate:
            config.pop('val_dataloader', None)
        runtime: RuntimeCfg = read_section(config, 'runtime', RuntimeCfg)
        device = distributed.find_device()
        is_main = distributed.rank() == 0
        work_dir.mkdir(parents=True, exist_ok=True)
        setup_logging(work_dir, is_main)
        runner = Runner(config, work_dir, device)
        # The trial forks, and so do the workers: both before there are threads.
        tried = try_pipelines(list_splits(runner)) if is_main and not args.no_check else []
        runner.start_workers()
        distributed.join(runtime.timeout_minutes)
        if not args.no_check:
            check_data(runner, tried)
        if is_main:
            keep_config(runner, work_dir / 'config.py')
        runner.start(what_to_resume(args.resume, work_dir), args.load_from, args.allow_pickle)
    best = runner.train(args.profile)
    if best is not None:
        numbers = ', '.join(f'{k} {v:.4g}' for k, v in best.items() if k != 'epoch')
        logging.getLogger('dsanet').info('best epoch %d: %s', best['epoch'], numbers)
    distributed.teardown()


if __name__ == '__main__':
    failures.run_tool(main)

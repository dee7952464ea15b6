"""Train a recognizer that a config describes: in this process, with --gpus N in several, or as a launcher starts it."""

import argparse
import logging
from pathlib import Path

from dsanet.commands.arguments import (
    TRAINING_SECTIONS,
    add_allow_pickle,
    add_amp,
    add_config_arguments,
    add_gpus,
    default_folder,
    read_config,
)
from dsanet.commands.launch import launch_command

CONFIG_HEADER = '# The resolved config of this run, written by DSANet.\n'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    add_gpus(parser)
    parser.add_argument('--work-dir', help='for checkpoints, logs and curves (default: work_dirs/<name of the config>)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='auto|FILE',
        help='continue from a checkpoint; auto, the default, takes the newest of the work dir, if any',
    )
    parser.add_argument('--load-from', metavar='FILE', help='start from the weights of a checkpoint')
    add_allow_pickle(parser, 'that file')
    parser.add_argument('--seed', type=int, help='instead of runtime.seed')
    parser.add_argument('--deterministic', action='store_true', help='reproducible algorithms on the GPU; slower')
    add_amp(parser)
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
    parser.add_argument('--no-validate', action='store_true', help='skip validation')
    parser.add_argument('--no-check', action='store_true', help='skip the quick check of the data (dsanet check)')


def run(args: argparse.Namespace) -> int | None:
    status = launch_command(args)
    if status is None:
        from dsanet.engine import failures

        failures.run_main(lambda: _train(args))
    return status


def _train(args: argparse.Namespace) -> None:
    from dsanet.config.loading import read_section
    from dsanet.config.schema import RuntimeCfg
    from dsanet.data_checks.pipeline import try_pipelines
    from dsanet.data_checks.reading import splits_of_run
    from dsanet.data_checks.run import check_before_training
    from dsanet.engine.checkpointing import what_to_resume
    from dsanet.engine.logging import plain_errors, setup_logging
    from dsanet.engine.trainer import Trainer
    from dsanet.utils import distributed

    work_dir = Path(args.work_dir or default_folder(args.config))
    with plain_errors():
        config = read_config(args, TRAINING_SECTIONS)
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
        trainer = Trainer(config, work_dir, device)
        # The trial forks, and so do the workers: both before there are threads.
        tried = try_pipelines(splits_of_run(trainer)) if is_main and not args.no_check else []
        trainer.start_workers()
        distributed.init_process_group(runtime.timeout_minutes)
        if not args.no_check:
            check_before_training(splits_of_run(trainer), tried)
        if is_main:
            _keep_config(trainer.config_text, work_dir)
        trainer.start(what_to_resume(args.resume, work_dir), args.load_from, args.allow_pickle)
    best = trainer.train(args.profile)
    if best is not None:
        numbers = ', '.join(f'{k} {v:.4g}' for k, v in best.items() if k != 'epoch')
        logging.getLogger('dsanet').info('best epoch %d: %s', best['epoch'], numbers)
    distributed.destroy_process_group()


def _keep_config(text: str, work_dir: Path) -> None:
    """Write the resolved config into the work dir, as ``config.py``, or beside one that a run did not write.

    A full disk must not keep a run from continuing.
    """
    from dsanet.utils.files import write_atomically

    logger = logging.getLogger('dsanet')
    try:
        for name in ('config.py', 'config_resolved.py'):
            file = work_dir / name
            if not file.exists() or file.read_text(errors='replace').startswith(CONFIG_HEADER):
                write_atomically(f'{CONFIG_HEADER}{text}'.encode(), file)
                return
            logger.info('%s was not written by a run and stays as it is', file)
    except OSError as error:
        logger.warning('the config could not be written: %s', error)

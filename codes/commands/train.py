"""Train a recognizer in this process, in several processes with --gpus N, or under a launcher."""

import argparse
import logging
from pathlib import Path

from dsanet.commands.arguments import (
    MAX_SEED,
    TRAINING_SECTIONS,
    add_allow_pickle,
    add_amp,
    add_config_arguments,
    add_gpus,
    default_folder,
    int_between,
    read_config,
)
from dsanet.commands.launch import launch_command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    add_gpus(parser)
    parser.add_argument('--work-dir', help='folder for checkpoints, logs and curves (default: work_dirs/<config name>)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='auto|FILE',
        help='continue from a checkpoint; auto (default): the latest one in the work dir, if any',
    )
    parser.add_argument('--load-from', metavar='FILE', help='start from the weights of a checkpoint')
    add_allow_pickle(parser, 'the --load-from file')
    parser.add_argument('--seed', type=int_between(0, MAX_SEED), help='override runtime.seed')
    parser.add_argument('--deterministic', action='store_true', help='use reproducible algorithms on the GPU; slower')
    add_amp(parser)
    parser.add_argument(
        '--scale-lr',
        action='store_true',
        help='scale the learning rate from train_cfg.base_batch_size to the batch size of this run',
    )
    parser.add_argument(
        '--profile',
        nargs='?',
        type=int_between(1),
        const=5,
        default=0,
        metavar='N',
        help='profile N iterations (default: 5) and write a trace and a table to WORK_DIR/profile',
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
    from dsanet.engine.logging import exit_on_user_error, setup_logging
    from dsanet.engine.trainer import Trainer
    from dsanet.engine.work_dir import hold_lock
    from dsanet.utils import distributed
    from dsanet.utils.files import check_writable

    work_dir = Path(args.work_dir or default_folder(args.config))
    with exit_on_user_error():
        config = read_config(args, TRAINING_SECTIONS)
        given = {'seed': args.seed, 'deterministic': args.deterministic or None, 'amp': args.amp}
        config['runtime'] = {**config.get('runtime', {}), **{k: v for k, v in given.items() if v is not None}}
        if args.scale_lr and 'train_cfg' in config:
            config['train_cfg'] = {**config['train_cfg'], 'scale_lr': True}
        if args.no_validate:
            config.pop('val_dataloader', None)
        device = distributed.find_device()
        if not work_dir.is_dir():
            check_writable(work_dir, '--work-dir')
        work_dir.mkdir(parents=True, exist_ok=True)
        setup_logging()
    with hold_lock(work_dir, 'choose another --work-dir') as lock:
        with exit_on_user_error():
            setup_logging(work_dir)
            trainer = Trainer(config, work_dir, device, lock)
            trainer.prepare(args.resume, args.load_from, args.allow_pickle, check_data=not args.no_check)
        best = trainer.train(args.profile)
        if best is not None:
            numbers = ', '.join(f'{k} {v:.4g}' for k, v in best.items() if k != 'epoch')
            logging.getLogger('dsanet').info('Best epoch %d: %s', best['epoch'], numbers)
        distributed.destroy_process_group()

"""Arguments that several commands have in common."""

import argparse
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from dsanet.utils.files import check_result_file

TRAINING_SECTIONS = ('train_dataloader', 'val_dataloader')
CONFIG_HELP = 'a config file, or the name of one of ours such as kinetics/r50_e100_s1_8'


class UsageError(Exception):
    """Arguments of the command line that do not go together or are out of range. Shown as one line, status 2."""


def positive(text: str) -> int:
    """Return a whole number of at least 1; a ``type`` for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number of at least 1, got {text!r}')
    return int(text)


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """Return a ``type`` for argparse that checks an output file before hours of work, not after them."""

    def check(text: str) -> Path:
        try:
            return check_result_file(Path(text), suffixes)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return check


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add what changes how a config is read."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='override values of the config',
    )
    parser.add_argument(
        '--import',
        dest='imports',
        action='append',
        default=[],
        metavar='MODULE',
        help='import a module that registers parts of your own, such as my_lab.blocks; may be repeated',
    )


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, and what changes how it is read."""
    parser.add_argument('config', metavar='CONFIG', help=CONFIG_HELP)
    add_config_options(parser)


def read_config(args: argparse.Namespace, sections: Collection[str] = ()) -> dict[str, Any]:
    """Return the config that the arguments of :func:`add_config_arguments` ask for.

    Args:
        args: from the parser.
        sections: sections whose data are counted if the config leaves the number of classes open.

    Raises:
        FileNotFoundError, KeyError, TypeError, ValueError: as ``load_config`` and ``load_config_with_classes``.
    """
    from dsanet.config.loading import load_config
    from dsanet.datasets.classes import load_config_with_classes

    if sections:
        return load_config_with_classes(args.config, args.cfg_options, args.imports, sections)
    return load_config(args.config, args.cfg_options, args.imports)


def check_config_is_given(args: argparse.Namespace) -> None:
    """Refuse options of a config where the config itself is an option, and is missing.

    Raises:
        UsageError: names the option.
    """
    for option, value in (('--cfg-options', args.cfg_options), ('--import', args.imports)):
        if value and args.config is None:
            raise UsageError(f'{option} has no effect without a config')


def default_folder(config: str) -> Path:
    """Return ``work_dirs/<name of the config>``."""
    return Path('work_dirs') / Path(config).stem


def add_allow_pickle(parser: argparse.ArgumentParser, whose: str) -> None:
    """Add ``--allow-pickle``, which lets a file run code while it is read."""
    parser.add_argument(
        '--allow-pickle', action='store_true', help=f'let {whose} run code to be read; only if you trust its origin'
    )


def add_amp(parser: argparse.ArgumentParser) -> None:
    """Add ``--amp``."""
    parser.add_argument('--amp', choices=('bf16', 'fp16'), help='automatic mixed precision')


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """Add ``--gpus``; see ``dsanet.commands.launch.launch_command``."""
    parser.add_argument(
        '--gpus',
        type=positive,
        metavar='N',
        help='start N processes, one for each GPU, or on the CPU if there is none (default: this process alone); the '
        'environment variables of dsanet launch --help apply',
    )


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the commands have in common that turn many videos into something: folders, size, workers."""
    add = parser.add_argument
    add('videos', metavar='VIDEO_DIR', type=Path, help='folder of the videos, searched with the folders in it')
    add('out', metavar='OUT_DIR', type=Path, help='folder to write; folders in it are named as below VIDEO_DIR')
    add(
        '--list',
        metavar='FILE',
        type=Path,
        help='only the videos of this list, lines "path label" with paths relative to VIDEO_DIR (default: all)',
    )
    add(
        '--short-side',
        type=int,
        default=256,
        metavar='PIXELS',
        help='length of the short side; smaller videos are not enlarged; 0 keeps every size (default: 256)',
    )
    add(
        '--keep-damaged',
        action='store_true',
        help='write what can be decoded of damaged videos; they are listed all the same (default: they fail)',
    )
    add(
        '--workers',
        type=int,
        default=os.cpu_count() or 1,
        metavar='N',
        help='processes, each of one thread; 0 works in this one (default: one for each core)',
    )
    add(
        '--time-limit',
        type=float,
        default=3600,
        metavar='SECONDS',
        help='a video that takes longer fails (default: 3600); needs workers',
    )

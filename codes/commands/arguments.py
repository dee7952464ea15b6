"""Arguments shared by several commands."""

import argparse
import math
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsanet.utils.processes import MAX_PROCESSES

if TYPE_CHECKING:
    from dsanet.inference.recognizer import Recognizer

TRAINING_SECTIONS = ('train_dataloader', 'val_dataloader')
MODEL_SOURCES = 'a file, local-dir:FOLDER or hf-hub:USER/NAME'
CONFIG_HELP = 'config file, or the name of an included config such as kinetics/r50_e100_s1_8'


class UsageError(Exception):
    """Wrong command-line arguments; shown as one line, exit status 2."""


MAX_INT = 2**31 - 1  # many functions of torch and NumPy accept no larger sizes
MAX_SEED = 2**63 - 1


def int_between(minimum: int, maximum: int = MAX_INT) -> Callable[[str], int]:
    """Return a ``type`` for argparse that accepts unsigned integers in a range."""
    allowed = f'from {minimum} to {maximum}'

    def convert(text: str) -> int:
        # Python does not convert thousands of digits.
        if not text.isdecimal() or len(text) > 30 or not minimum <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(f'must be an integer {allowed}, got {text[:40]!r}')
        return int(text)

    return convert


def float_between(minimum: float, maximum: float) -> Callable[[str], float]:
    """Return a ``type`` for argparse that accepts finite numbers in a range, including its ends."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f'must be a number from {minimum:g} to {maximum:g}, got {text[:40]!r}')
        return value

    return convert


def num_processes(minimum: int) -> Callable[[str], int]:
    """Return a ``type`` for argparse that accepts a number of processes."""
    return int_between(minimum, MAX_PROCESSES)


seconds = float_between(0, 1e6)


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """Return a ``type`` for argparse that checks at once whether a file can be written, and creates its folder."""

    def check(text: str) -> Path:
        from dsanet.utils.files import check_creatable

        file = Path(text)
        if file.suffix not in suffixes:
            raise argparse.ArgumentTypeError(f'{text!r} must end in {" or ".join(suffixes)}')
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            check_creatable(file)
        except OSError as error:
            raise argparse.ArgumentTypeError(f'cannot write {text!r}: {error.strerror}') from error
        return file

    return check


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options`` and ``--import``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='override values of the config, such as optimizer.lr=0.01',
    )
    parser.add_argument(
        '--import',
        dest='imports',
        action='append',
        default=[],
        metavar='MODULE',
        help='import a module that registers your own classes, such as my_lab.blocks; can be repeated',
    )


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, ``--cfg-options`` and ``--import``."""
    parser.add_argument('config', metavar='CONFIG', help=CONFIG_HELP)
    add_config_options(parser)


def read_config(args: argparse.Namespace, sections: Collection[str] = ()) -> dict[str, Any]:
    """Load the config given by the arguments of :func:`add_config_arguments`.

    Args:
        args: parsed arguments.
        sections: dataloaders whose classes are counted if the config does not set ``num_classes``.
    """
    from dsanet.config.loading import load_config
    from dsanet.datasets.classes import load_config_with_classes

    if sections:
        return load_config_with_classes(args.config, args.cfg_options, args.imports, sections)
    return load_config(args.config, args.cfg_options, args.imports)


def check_config_is_given(args: argparse.Namespace) -> None:
    """Raise UsageError if a command with an optional ``--config`` gets config options without it."""
    for option, value in (('--cfg-options', args.cfg_options), ('--import', args.imports)):
        if value and args.config is None:
            raise UsageError(f'{option} has no effect without --config')


def files_of_config(config: Any) -> list[str]:
    """Return the existing files that a loaded config names, such as lists, class files and weights."""
    if isinstance(config, str):
        return [config] if os.path.isfile(config) else []
    values = config.values() if isinstance(config, dict) else config if isinstance(config, list | tuple) else ()
    return [file for value in values for file in files_of_config(value)]


def default_folder(config: str) -> Path:
    """Return ``work_dirs/<config name>``."""
    return Path('work_dirs') / Path(config).stem


def add_allow_pickle(parser: argparse.ArgumentParser, whose: str) -> None:
    """Add ``--allow-pickle``; ``whose`` is the file in the help text."""
    parser.add_argument(
        '--allow-pickle',
        action='store_true',
        help=f'load {whose} even if it contains pickled objects, which can run any code; only for trusted files',
    )


def load_model(
    args: argparse.Namespace, device: Any = None, config: str | None = None, views: str = 'test'
) -> 'Recognizer':
    """Load the recognizer given by the arguments ``checkpoint``, ``config``, ``device`` and so on of a command.

    Args:
        args: parsed arguments.
        device: instead of ``--device``.
        config: instead of ``--config``.
        views: see :func:`dsanet.inference.recognizer.load_recognizer`.
    """
    from dsanet.inference.recognizer import load_recognizer

    return load_recognizer(
        args.checkpoint,
        args.device if device is None else device,
        config=args.config if config is None else config,
        options=args.cfg_options,
        imports=args.imports,
        views=views,
        allow_pickle=args.allow_pickle,
    )


def add_amp(parser: argparse.ArgumentParser) -> None:
    """Add ``--amp``."""
    parser.add_argument('--amp', choices=('bf16', 'fp16'), help='automatic mixed precision')


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """Add ``--gpus``, used by ``dsanet.commands.launch.launch_command``."""
    parser.add_argument(
        '--gpus',
        type=num_processes(1),
        metavar='N',
        help='start N processes, one per GPU, or on the CPU if there are no GPUs (default: run in this process); '
        'dsanet launch --help lists the environment variables',
    )


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of commands that convert many videos."""
    add = parser.add_argument
    add('videos', metavar='VIDEO_DIR', type=Path, help='folder of the videos, searched recursively')
    add('out', metavar='OUT_DIR', type=Path, help='output folder, with the same subfolders as VIDEO_DIR')
    add(
        '--list',
        metavar='FILE',
        type=Path,
        help='convert only the videos in this list file, with paths relative to VIDEO_DIR (default: all videos)',
    )
    add(
        '--short-side',
        type=int_between(0),
        default=256,
        metavar='PIXELS',
        help='scale the short side down to this length, 0 for no scaling; small videos are not enlarged (default: 256)',
    )
    add(
        '--keep-damaged',
        action='store_true',
        help='write the decodable frames of damaged videos; failures.jsonl still lists them (default: skip the video)',
    )
    add(
        '--workers',
        type=num_processes(0),
        default=os.cpu_count() or 1,
        metavar='N',
        help='number of worker processes; 0 uses this process (default: number of CPU cores)',
    )
    add(
        '--time-limit',
        type=seconds,
        default=3600,
        metavar='SECONDS',
        help='time limit per video; no effect with --workers 0 (default: 3600)',
    )

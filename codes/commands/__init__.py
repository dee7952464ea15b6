"""The command line: ``dsanet COMMAND ...``, one file for each command.

A command's module has ``add_arguments(parser)`` and ``run(args)``, which returns the exit status or None for 0, and may
have ``INTERRUPTED``, the line that Ctrl-C ends with. Its docstring is the help. Its top imports nothing that takes time
(torch, OpenCV, NumPy, ...): ``run`` does, after the arguments are parsed.
"""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from functools import partial

from dsanet import __version__
from dsanet.commands.arguments import UsageError
from dsanet.utils.signals import run_interruptible

COMMANDS = {
    'train': 'train a recognizer that a config describes',
    'test': 'test a trained recognizer',
    'launch': 'start a program on several processes',
    'check': 'check whether the data of a config are fit to train on',
    'browse': 'show the samples that the network gets, after augmentation',
    'build-list': 'write the list files of a dataset',
    'extract-frames': 'turn videos into folders of JPEG frames',
    'transcode': 'turn videos into MP4 files that are fast to train from',
    'make-demo-videos': 'make a small generated dataset',
    'demo': 'train and compare DSANet and its baseline on generated videos',
    'summary': "print parameters, multiply-adds and shapes of a config's model",
    'curves': 'plot the training curves of one or more runs',
    'find-lr': 'learning-rate range test',
    'score': 'compute metrics from saved test results, average several results',
    'convert': 'convert a checkpoint of another project to ours',
    'benchmark-decoding': 'measure how fast samples are read from videos and from frames',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    Args:
        argv: the command's name and its arguments; those of the process by default.

    Raises:
        SystemExit: wrong arguments, status 2; ``--help``, status 0; or as the command ends.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    name = argv[0] if argv else ''
    if name in ('-h', '--help'):
        print(_help())
        return 0
    if name == '--version':
        print(f'dsanet {__version__}')
        return 0
    if name not in COMMANDS:
        match = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f'Did you mean {match[0]!r}? ' if match else ''
        what = f'{name!r} is not a command. {hint}' if name else 'a command is missing. '
        sys.stderr.write(f'error: {what}dsanet --help lists all commands\n')
        return 2
    module = importlib.import_module(f'dsanet.commands.{name.replace("-", "_")}')
    parser = argparse.ArgumentParser(
        prog=f'dsanet {name}', description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    args = parser.parse_args(argv[1:], argparse.Namespace(argv=argv))
    try:
        return run_interruptible(partial(module.run, args), getattr(module, 'INTERRUPTED', 'interrupted'))
    except UsageError as error:
        sys.stderr.write(f'error: {error}\n')
        sys.exit(2)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f'  {name:<{width}}  {summary}' for name, summary in COMMANDS.items()]
    return '\n'.join(
        [
            'usage: dsanet COMMAND ...',
            '',
            'Training, testing and using video action recognizers. dsanet COMMAND --help explains a command.',
            '',
            'commands:',
            *lines,
            '',
            'options:',
            f'  {"-h, --help":<{width}}  show this help',
            f'  {"--version":<{width}}  show the version',
        ]
    )

"""The command line, ``dsanet COMMAND ...``; each file in this folder is a command.

The module of a command has ``add_arguments(parser)`` and ``run(args)``, which returns the exit status, or None for 0.
Its docstring is the help text. ``INTERRUPTED``, if it exists, is the message after Ctrl-C. Slow imports, such as torch,
are in ``run``, so that ``--help`` is fast.
"""

import argparse
import difflib
import importlib
import platform
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from dsanet import __version__
from dsanet.commands.arguments import UsageError
from dsanet.utils.console import quiet_if_closed
from dsanet.utils.signals import run_interruptible
from dsanet.utils.text import error_line, escape_output

COMMANDS = {
    'train': 'train a recognizer',
    'test': 'test a trained recognizer',
    'launch': 'run a program in several processes',
    'predict': 'predict the classes of videos',
    'web': 'show predictions and what the network sees on a local page',
    'explain': 'show where a recognizer finds a class: maps over the frames',
    'features': 'write the features of videos',
    'probe': 'train a classifier on features',
    'check': 'check the dataset of a config before training',
    'browse': 'show samples after augmentation, as the network sees them',
    'build-list': 'write the list files of a dataset',
    'extract-frames': 'extract the frames of videos as JPEG files',
    'transcode': 'convert videos to MP4 files that are fast to read in training',
    'make-shards': 'write the videos of a list to WebDataset shards (tar files)',
    'make-demo-videos': 'generate a small video dataset',
    'make-demo-film': 'generate a film of several actions, and its segments',
    'demo': 'train DSANet and its baseline on generated videos, and compare them',
    'summary': 'print parameters, GMACs and output shapes of a model',
    'curves': 'plot the training curves of one or more runs',
    'report': 'write a report of one or more runs as one HTML file',
    'find-lr': 'run a learning-rate range test',
    'dsa-kernels': 'draw the kernels that DSA generates',
    'order': 'measure how a model depends on the order of snippets and frames',
    'experiment': 'compare variants of a config with several seeds, in one table and one report',
    'score': 'compute metrics of saved test results, or average several results',
    'convert': 'convert a checkpoint from another project',
    'publish': 'write a trained model and its model card to a folder to share it',
    'export': 'export a trained recognizer to ONNX, PyTorch (.pt2) or OpenVINO',
    'scaling': 'estimate what a run needs on many GPUs, from parts measured on one',
    'benchmark': 'measure the speed of models, training, data loading and starts on this machine',
}


@quiet_if_closed()
@escape_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    name = argv[0] if argv else ''
    if name in ('-h', '--help'):
        print(_help())
        return 0
    if name == '--version':
        print(_versions())
        return 0
    if name not in COMMANDS:
        match = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f'Did you mean {match[0]!r}? ' if match else ''
        problem = f'unknown command {name!r}' if name else 'no command given'
        sys.stderr.write(error_line(f'{problem}. {hint}See dsanet --help for all commands'))
        return 2
    if '' in argv and name != 'launch':  # launch passes the arguments of another program
        before = ' '.join(argv[max(argv.index('') - 1, 0) : argv.index('')])
        sys.stderr.write(error_line(f'the argument after {before!r} is empty; is a shell variable not set?'))
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
        sys.stderr.write(error_line(error))
        sys.exit(2)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f'  {name:<{width}}  {summary}' for name, summary in COMMANDS.items()]
    return '\n'.join(
        [
            'usage: dsanet COMMAND ...',
            '',
            'Train, test and use video action recognizers. See dsanet COMMAND --help for the options of a command.',
            '',
            'commands:',
            *lines,
            '',
            'options:',
            f'  {"-h, --help":<{width}}  show this help message',
            f'  {"--version":<{width}}  show the version, and those of Python and the dependencies',
        ]
    )


def _versions() -> str:
    """Return the versions of DSANet, of Python and of the installed dependencies, except those for development."""
    from importlib import metadata

    lines = [f'dsanet {__version__}', f'python {platform.python_version()} ({platform.platform()})']
    try:
        requirements = metadata.requires('dsanet') or []
    except metadata.PackageNotFoundError:  # a folder that is not installed
        requirements = []
    for requirement in requirements:
        name = re.split(r'[^\w.-]', requirement)[0]
        if not re.search('extra == .(dev|docs)', requirement):
            with suppress(metadata.PackageNotFoundError):
                lines.append(f'{name} {metadata.version(name)}')
    return '\n'.join(dict.fromkeys(lines))  # a package may belong to several extras

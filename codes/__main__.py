"""``python -m dsanet``; also the entry point of the command ``dsanet`` and of the scripts in ``tools/``."""

import sys
from collections.abc import Sequence

from dsanet.utils.signals import run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status. From the first import to the end, Ctrl-C ends it without a traceback.

    Args:
        argv: name and arguments of the command; None for those of the command line.
    """
    return run_program(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    from dsanet.utils.console import open_closed_streams

    open_closed_streams()
    from dsanet import commands

    return commands.main(argv)


if __name__ == '__main__':
    sys.exit(main())

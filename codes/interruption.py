"""How programs end when their user presses Ctrl-C: with a line, not with a traceback.

Only the standard library is imported here, so that a tool can ask for it before its own imports, which take seconds.
"""

import sys
from types import TracebackType


def end_plainly_if_interrupted(text: str = 'interrupted') -> None:
    """Make an interruption that nothing catches, from now on, end the program with one line and exit status 130.

    Files are cleaned up as by any other exception, on its way up. A second interruption, during that, ends it as well.

    Args:
        text: the line, such as how to go on.
    """
    usual = sys.excepthook

    def end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            usual(kind, error, traceback)
            return
        sys.stderr.write(f'{text}\n')
        raise SystemExit(130)  # the shell's number for it

    sys.excepthook = end

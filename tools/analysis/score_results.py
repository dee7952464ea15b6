"""Run ``dsanet score``."""

import sys

from dsanet.commands import main

if __name__ == '__main__':
    sys.exit(main(['score', *sys.argv[1:]]))

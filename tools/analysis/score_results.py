"""Run ``dsanet score``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['score', *sys.argv[1:]]))

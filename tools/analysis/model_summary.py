"""Run ``dsanet summary``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['summary', *sys.argv[1:]]))

"""Run ``dsanet find-lr``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['find-lr', *sys.argv[1:]]))

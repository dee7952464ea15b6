"""Run ``dsanet train``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))

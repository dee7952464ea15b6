"""Run ``dsanet benchmark decoding``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['benchmark', 'decoding', *sys.argv[1:]]))

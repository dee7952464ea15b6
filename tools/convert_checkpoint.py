"""Run ``dsanet convert``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['convert', *sys.argv[1:]]))

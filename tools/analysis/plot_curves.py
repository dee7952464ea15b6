"""Run ``dsanet curves``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['curves', *sys.argv[1:]]))

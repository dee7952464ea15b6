"""Run ``dsanet extract-frames``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['extract-frames', *sys.argv[1:]]))

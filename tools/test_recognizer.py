"""Run ``dsanet test``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['test', *sys.argv[1:]]))

"""Run ``dsanet build-list``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['build-list', *sys.argv[1:]]))

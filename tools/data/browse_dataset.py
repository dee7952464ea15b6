"""Run ``dsanet browse``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['browse', *sys.argv[1:]]))

"""Run ``dsanet launch``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['launch', *sys.argv[1:]]))

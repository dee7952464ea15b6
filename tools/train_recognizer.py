"""Run ``dsanet train``."""

import sys

from dsanet.commands import main

if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))

"""Run ``dsanet find-lr``."""

import sys

from dsanet.commands import main

if __name__ == '__main__':
    sys.exit(main(['find-lr', *sys.argv[1:]]))

"""Run ``dsanet launch``."""

import sys

from dsanet.commands import main

if __name__ == '__main__':
    sys.exit(main(['launch', *sys.argv[1:]]))

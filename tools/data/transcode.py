"""Run ``dsanet transcode``."""

import sys

from dsanet.commands import main

if __name__ == '__main__':
    sys.exit(main(['transcode', *sys.argv[1:]]))

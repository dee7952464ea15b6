"""Run ``dsanet transcode``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['transcode', *sys.argv[1:]]))

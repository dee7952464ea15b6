"""Run ``dsanet make-demo-videos``."""

import sys

from dsanet.__main__ import main

if __name__ == '__main__':
    sys.exit(main(['make-demo-videos', *sys.argv[1:]]))

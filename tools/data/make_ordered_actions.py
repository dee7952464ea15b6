"""Run ``dsanet make-demo-videos``."""

import sys

from dsanet.commands import main

if __name__ == '__main__':
    sys.exit(main(['make-demo-videos', *sys.argv[1:]]))

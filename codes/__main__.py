"""``python -m dsanet`` is the command ``dsanet``."""

import sys

from dsanet.commands import main

if __name__ == '__main__':
    sys.exit(main())

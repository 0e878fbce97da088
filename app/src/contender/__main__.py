"""``python -m contender``."""

import sys

from contender.cli import main

sys.exit(main(sys.argv[1:]))

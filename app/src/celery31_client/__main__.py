"""``python -m celery31_client``."""

import sys

from celery31_client.cli import main

sys.exit(main(sys.argv[1:]))

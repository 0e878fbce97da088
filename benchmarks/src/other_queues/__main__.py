"""Lets ``python -m other_queues`` run."""

from other_queues.cli import main

main()

"""Lets ``python -m peers`` run."""

from peers.cli import main

main()

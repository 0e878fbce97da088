"""Errors that end a command, each with its exit code. Their message is all that the user reads.

| code | meaning |
|---|---|
| 0 | every task has its result, and every result is right |
| 1 | something is lost, wrong or failed |
| 2 | the command line is wrong |
| 3 | the run cannot start or go on: broker, result store, workers, run folder |
| 4 | not every task was posted; what was posted is on disk |
| 5 | nothing is lost, wrong or failed, but a threshold (``--require``) is not met, or has stopped the run as failed |
| 130 | interrupted by Ctrl-C or SIGTERM; what was done is on disk |
"""

from typing import Any

OK = 0
FAULTS = 1
UNMET = 5
INTERRUPTED = 130


class TaskmillError(Exception):
    """Something outside stands in the way; exit code 3."""

    exit_code = 3


class PostingError(TaskmillError):
    """Posting was given up; exit code 4."""

    exit_code = 4


class PublishError(PostingError):
    """Not everything was published; what was, and what perhaps was not."""

    def __init__(self, message: str, confirmed: list[str], unconfirmed: list[str]) -> None:
        """Take the ids of messages that the broker has, and of those that it may or may not have."""
        super().__init__(message)
        self.confirmed = confirmed
        self.unconfirmed = unconfirmed

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the ids from one process to another."""
        return type(self), (str(self), self.confirmed, self.unconfirmed)

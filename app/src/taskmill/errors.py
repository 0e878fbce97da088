"""Errors that end a command, each with its exit code. Their message is all that the user reads.

| code | meaning |
|---|---|
| 0 | every task has its result, and every result is right |
| 1 | something is lost, wrong or failed |
| 2 | the command line is wrong |
| 3 | the run cannot start or go on: broker, memcached, workers, run folder |
| 4 | posting was given up; what was posted is on disk |
| 5 | all is well, but something that was required of the run (``--require``) is not met |
| 130 | interrupted by Ctrl-C or SIGTERM; what was done is on disk |
"""

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

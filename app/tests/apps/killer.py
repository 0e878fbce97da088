"""Tasks that a worker does not survive or that come again, beside the app fibonacci in tests (``--include=killer``)."""

import os
import signal
import sys
from pathlib import Path

from celery import Task, shared_task
from celery.exceptions import Reject


@shared_task(name="killer.kill")  # type: ignore[untyped-decorator]  # Celery carries no types
def kill(_n: int) -> None:
    """End this pool process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="killer.leave")  # type: ignore[untyped-decorator]  # as above
def leave(_n: int) -> None:
    """End this pool process as a program ends itself."""
    sys.exit(3)


@shared_task(name="killer.kill_and_fail", reject_on_worker_lost=False)  # type: ignore[untyped-decorator]  # as above
def kill_and_fail(path: str) -> None:
    """Add a line to the file, end this pool process, and fail with that."""
    with Path(path).open("a") as log:
        log.write("begun\n")
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="killer.give_back")  # type: ignore[untyped-decorator]  # as above
def give_back(path: str, times: int) -> int:
    """Give the message back to its queue so often, one line in the file each; then return how often."""
    with Path(path).open("a+") as log:
        log.seek(0)
        done = len(log.readlines())
        if done == times:
            return done
        log.write("given back\n")
    raise Reject("later", requeue=True)


@shared_task(name="killer.come_again", bind=True, max_retries=None)  # type: ignore[untyped-decorator]  # as above
def come_again(self: Task, how: str, left: int) -> str:
    """Give each message back once, and then retry, or take one's own place, so often."""
    if not self.request.delivery_info["redelivered"]:
        raise Reject("later", requeue=True)
    if left == 0:
        return how
    if how == "retry":
        raise self.retry(args=(how, left - 1), countdown=0)
    return str(self.replace(self.si(how, left - 1)))

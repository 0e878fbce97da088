"""A task that a worker does not survive, loaded beside the app fibonacci by tests (``--include=killer``)."""

import os
import signal

from celery import shared_task


@shared_task(name="killer.kill")  # type: ignore[untyped-decorator]  # Celery carries no types
def kill(_n: int) -> None:
    """End this pool process at once."""
    os.kill(os.getpid(), signal.SIGKILL)

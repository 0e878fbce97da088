"""Run `celery`, and tell systemd when its beat has started: the schedule is read, and the broker is reached.

Usage: python run_beat.py --app=APP beat OPTION...

| environment variable | meaning |
|---|---|
| `NOTIFY_SOCKET` | systemd's socket; not set: nobody is told |
| `CELERY_BEAT_INCLUDE` | modules beside this file that are loaded after the app, with spaces between |
"""

import logging
import os
import socket
import sys

import celery
from celery.__main__ import main
from celery.signals import beat_init, import_modules

logger = logging.getLogger("celery.beat")


def tell(state, address):
    """Send systemd a word of sd_notify(3); `address` is its socket's, with @ where that has no file."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        stream.connect("\0" + address[1:] if address.startswith("@") else address)
        stream.send(state.encode("ascii"))
    finally:
        stream.close()


def include(sender, **_):
    """Have the app (`sender`) load the modules of CELERY_BEAT_INCLUDE, too, as `celery worker --include` does."""
    sender.set_current()
    setting = "include" if celery.VERSION[0] > 3 else "CELERY_INCLUDE"
    sender.conf[setting] = list(sender.conf.get(setting) or ()) + os.environ.get("CELERY_BEAT_INCLUDE", "").split()


def started(sender, **_):
    """Read the schedule of beat (`sender`), connect, and tell systemd; end the process where that is not possible."""
    try:
        # A broker that is away is logged, and tried again.
        sender.scheduler.producer  # noqa: B018  reading it does both
    except Exception:
        # Celery goes on after an error in here.
        logger.critical("beat cannot start", exc_info=True)
        sys.exit(1)
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if address:
        tell("READY=1", address)


if __name__ == "__main__":
    import_modules.connect(include, weak=False)
    beat_init.connect(started, weak=False)
    main()

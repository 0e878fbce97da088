"""Run `celery`, and tell systemd when its beat has started: the schedule is read, and the broker is reached.

Usage: python run_beat.py --app=APP beat OPTION...

Without a NOTIFY_SOCKET in the environment nobody is told. With a broker at amqps:// the connections check its
certificate, by broker_tls.py beside this file.
"""

import logging
import os
import socket
import sys

from celery.__main__ import main
from celery.signals import beat_init

logger = logging.getLogger("celery.beat")


def tell(state, address):
    """Send systemd a word of sd_notify(3); `address` is its socket's, with @ where that has no file."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        stream.connect("\0" + address[1:] if address.startswith("@") else address)
        stream.send(state.encode("ascii"))
    finally:
        stream.close()


def started(sender, **_):
    """Read the schedule of beat (`sender`), connect, and tell systemd; end the process where that is not possible."""
    if os.environ.get("CELERY_BROKER_URL", "").startswith("amqps:"):
        sender.app.set_current()
        import broker_tls  # noqa: F401,PLC0415  it sets what the app's connections check
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
    beat_init.connect(started, weak=False)
    main()

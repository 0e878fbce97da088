"""What the workers of any Celery app load, all of it by one option: ``celery worker --include=taskmill_worker``.

It needs Celery and the standard library alone, and runs with Celery 3.1 on Python 2.7, and with Celery 5 on Python 3.10
and later. A feature is a module of this package with a function ``install(app)``, and a line in :func:`why_not`. What
it logs as it is installed, such as what it cannot do with the app's result backend, comes in the worker's log right
after the line that says which features there are.

| environment variable | meaning |
|---|---|
| ``CELERY_WORKER_BATCH`` | most messages of a batch; what is about batches is loaded where it is not 1, the default |
| ``TASKMILL_WORKER_WITHOUT`` | names of features that are not to be loaded, with commas between |

Imported by anything but a worker that includes it, such as a client that reads results through
:mod:`taskmill_worker.memcached_backend`, the package installs nothing.
"""

from __future__ import absolute_import

import contextlib
import importlib
import logging
import os
import sys
import traceback
from collections import OrderedDict

import celery
from celery import current_app, signals
from celery.utils.log import get_logger

MYPY = False
if MYPY:  # for the types in comments; Python 2.7 has neither of them
    from collections.abc import Iterator, Mapping  # noqa: F401
    from typing import Any  # noqa: F401

PYTHON_3 = sys.version_info >= (3,)
WITHOUT = "TASKMILL_WORKER_WITHOUT"
#: The releases that it does not know: from the first of these up to the second.
UNKNOWN = (5, 0), (5, 3)


def why_not(environ):
    # type: (Mapping[str, str]) -> dict[str, str]
    """Return why each feature is not installed, by its name, and in order; empty where it is.

    What the first one connects to a signal is called first. Raises ``ValueError`` where ``TASKMILL_WORKER_WITHOUT``
    names something else.
    """
    python = "" if PYTHON_3 else "needs Python 3"
    batches = python or ("CELERY_WORKER_BATCH is 1" if (environ.get("CELERY_WORKER_BATCH") or "1") == "1" else "")
    reasons = OrderedDict(
        [
            # Before what asks for the app's result backend.
            ("memcached_backend", python),
            ("task_times", ""),
            ("dead_lettering", ""),
            ("jit", python),
            ("written_jobs", python),
            ("green_loop", python),
            ("batching", batches),
            ("read_ahead", batches),
        ]
    )
    without = environ.get(WITHOUT, "").replace(",", " ").split()
    strange = sorted(set(without) - set(reasons))
    if strange:
        raise ValueError(
            "{} names {}, which taskmill_worker does not have; it has {}".format(
                WITHOUT, ", ".join(strange), ", ".join(reasons)
            )
        )
    for name in without:
        reasons[name] = "named in {}".format(WITHOUT)
    return reasons


def features(environ):
    # type: (Mapping[str, str]) -> list[str]
    """Return the names of the modules to install, in order; raise as :func:`why_not` does."""
    return installed(why_not(environ))


def installed(reasons):
    # type: (Mapping[str, str]) -> list[str]
    """Return the names of what nothing speaks against, in order."""
    return [name for name, reason in reasons.items() if not reason]


def install(app):
    # type: (Any) -> None
    """Install the features in the worker of ``app``, and have it say so when its log is there.

    Raises ``RuntimeError`` with a Celery that they are not made for.
    """
    if UNKNOWN[0] <= celery.VERSION[:2] < UNKNOWN[1]:
        raise RuntimeError(
            "taskmill_worker needs Celery 5.3 or later, and the app has {}: have its requirements bring a later one, "
            "or start the worker without it".format(celery.__version__)
        )
    reasons = why_not(os.environ)
    with kept_for_log() as records:
        for name in installed(reasons):
            importlib.import_module("{}.{}".format(__name__, name)).install(app)

    def say(**_):
        # type: (**Any) -> None
        get_logger(__name__).info(
            "taskmill_worker has loaded %s; not loaded: %s",
            ", ".join(installed(reasons)) or "nothing",
            ", ".join("{} ({})".format(name, reason) for name, reason in reasons.items() if reason) or "nothing",
        )
        for record in records:
            logging.getLogger(record.name).handle(record)

    # The first signal after a worker has set up its log.
    signals.celeryd_after_setup.connect(say, weak=False)


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        # type: () -> None
        """Begin with nothing."""
        logging.Handler.__init__(self)
        self.records = []  # type: list[logging.LogRecord]

    def emit(self, record):
        # type: (logging.LogRecord) -> None
        """Keep a record."""
        self.records.append(record)


@contextlib.contextmanager
def kept_for_log():
    # type: () -> Iterator[list[logging.LogRecord]]
    """Yield a list that gets what is logged meanwhile, where no log is set up yet: nobody would see it."""
    root = logging.getLogger()
    kept = Kept()
    if root.handlers:
        yield kept.records
        return
    root.addHandler(kept)
    try:
        yield kept.records
    finally:
        root.removeHandler(kept)


def is_included(app):
    # type: (Any) -> bool
    """Say whether a worker of ``app`` is to load this package (``--include``, or the app's setting)."""
    return __name__ in app.loader.task_modules


def install_late(sender, **_):
    # type: (Any, **Any) -> None
    """Install the features where the worker's own import of the package had no effect, since the app had done it."""
    if is_included(sender.app):
        try:
            install(sender.app)
        except Exception as error:  # noqa: BLE001  # whatever it is
            # Celery only logs what a receiver of a signal raises; a worker without these features is to end.
            traceback.print_exc()
            sys.exit("{}: {}".format(__name__, error))


if is_included(current_app):
    install(current_app)
else:
    # The first signal after a worker has imported what it includes.
    signals.worker_init.connect(install_late)

"""What the workers of any Celery app load, all of it by one option: ``celery worker --include=taskmill_worker``.

It needs Celery and the standard library alone, and runs with Celery 3.1 on Python 2.7, and with Celery 5 on Python 3.10
and later. A feature is a module of this package with a function ``install(app)``, and a line in :func:`features`.

| environment variable | meaning |
|---|---|
| ``CELERY_WORKER_BATCH`` | most messages of a batch; what is about batches is loaded where it is not 1, the default |
| ``TASKMILL_WORKER_WITHOUT`` | names of features that are not to be loaded, with commas between |

Imported by anything but a worker that includes it, such as a client that reads results through
:mod:`taskmill_worker.memcached_backend`, the package installs nothing.
"""

from __future__ import absolute_import

import importlib
import os
import sys
import traceback

from celery import current_app, signals

MYPY = False
if MYPY:  # for the types in comments; Python 2.7 has neither of them
    from collections.abc import Mapping  # noqa: F401
    from typing import Any  # noqa: F401

PYTHON_3 = sys.version_info >= (3,)
WITHOUT = "TASKMILL_WORKER_WITHOUT"


def features(environ):
    # type: (Mapping[str, str]) -> list[str]
    """Return the names of the modules to install, in order: what the first one connects to a signal is called first.

    Raises ``ValueError`` where ``TASKMILL_WORKER_WITHOUT`` names something else.
    """
    batches = PYTHON_3 and (environ.get("CELERY_WORKER_BATCH") or "1") != "1"
    known = [
        # Before what asks for the app's result backend.
        ("memcached_backend", PYTHON_3),
        ("task_times", True),
        ("dead_lettering", True),
        ("jit", PYTHON_3),
        ("batching", batches),
        ("read_ahead", batches),
    ]
    without = environ.get(WITHOUT, "").replace(",", " ").split()
    strange = sorted(set(without) - {name for name, _ in known})
    if strange:
        raise ValueError(
            "{} names {}, which taskmill_worker does not have; it has {}".format(
                WITHOUT, ", ".join(strange), ", ".join(name for name, _ in known)
            )
        )
    return [name for name, here in known if here and name not in without]


def install(app):
    # type: (Any) -> None
    """Install the features in the worker of ``app``."""
    for name in features(os.environ):
        importlib.import_module("{}.{}".format(__name__, name)).install(app)


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

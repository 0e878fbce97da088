"""taskmill publishes tasks to a Celery cluster, fetches every result by its id, and writes down what happened.

A run goes ``plan`` -> ``publish`` -> ``collect`` -> ``record`` -> ``report``: :func:`run` does all of it, and
:func:`collect` what comes after publishing. It talks Celery's message protocol 2 to RabbitMQ and reads Celery's results
from memcached. It imports no task code: tasks are named, and the right value is given, in the :class:`Plan`.

:func:`publish` is for programs: many signatures of any Celery app's tasks, every message confirmed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskmill.model.errors import PublishError, TaskmillError
from taskmill.model.plan import Plan, Route
from taskmill.model.record import RunRecord

if TYPE_CHECKING:
    from taskmill.publishing.publisher import publish
    from taskmill.session.api import collect, run

__all__ = ["Plan", "PublishError", "Route", "RunRecord", "TaskmillError", "collect", "publish", "run"]

__version__ = "0.1.0"

#: Where the rest comes from, when it is first asked for: who renders a report needs no broker's library.
_LAZY = {
    "collect": "taskmill.session.api",
    "publish": "taskmill.publishing.publisher",
    "run": "taskmill.session.api",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)

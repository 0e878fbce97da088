"""taskmill posts tasks to a Celery cluster, fetches every result by its id, and writes down what happened.

A run goes ``plan`` -> ``post`` -> ``collect`` -> ``record`` -> ``report``; :mod:`taskmill.cli` strings them together.
It talks Celery's message protocol 2 to RabbitMQ and reads Celery's results from memcached. It imports no task code:
tasks are named, and the right value is given, on the command line.

:func:`publish` is for programs: many signatures of any Celery app's tasks, every message confirmed.
"""

from taskmill.model.errors import PublishError, TaskmillError
from taskmill.publishing.publisher import publish

__all__ = ["PublishError", "TaskmillError", "publish"]

__version__ = "0.1.0"

"""What collecting asks of a result store, and which module knows the one of a URL.

A new backend is one module beside this one, with a class that does what :class:`ResultStore` says, and a line in
:data:`STORES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from taskmill.cluster.broker import ENVIRONMENT_FILE, from_environment
from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "CELERY_RESULT_BACKEND"
#: Ids asked for at once: enough to make the round trip cheap, few enough to stay well under a second.
BATCH = 1000
#: Stands for a value that is none of Celery's.
UNREADABLE = object()
#: By the scheme of a URL, the module with the class ``Results`` that fetches from there.
STORES = {
    "cache+memcached": "memcached",
    "redis": "redis_store",
    "rediss": "redis_store",
    "redis+socket": "redis_store",
    "disabled": "nothing",
}
#: The module for any other scheme, which fetches through Celery's own API.
OTHERS = "celery_api"
#: Schemes of Celery's whose results cannot be fetched by their ids, and why.
REFUSED = {
    "rpc": "results go to a queue of the client that published, which can read each of them once",
    "amqp": "Celery has no such backend any more",
    "cache+memory": "results stay in the worker's own memory",
    "cache+pylibmc": "taskmill reads memcached under cache+memcached://",
    "sentinel": "taskmill does not ask Redis Sentinel which server is the master",
}


class ResultReader(Protocol):
    """Celery's results by their tasks' ids."""

    #: What ``run.json`` calls it, and messages do.
    kind: str
    #: Ids asked for at once.
    batch: int

    def get(self, ids: Sequence[bytes]) -> dict[bytes, Any]:
        """Return the values of those ids (ASCII) whose results are there.

        A value is the JSON text that Celery wrote, or the dictionary in it; ``None`` stands for a pickled value, which
        is refused, and ``UNREADABLE`` for one that another program wrote. A server that does not answer looks like one
        without results: see :meth:`unreachable`.
        """

    def unreachable(self) -> list[str]:
        """Return the addresses of the servers that do not answer, with the reason where there is one to know."""


class ResultStore(ResultReader, Protocol):
    """The same, with what is asked of it before and after a run, and of a dead letter."""

    def figures(self) -> dict[str, Any]:
        """Return what the store says of itself, by the fields of ``record.ResultStore``, as far as it does.

        Raises ``TaskmillError`` when it does not answer.
        """

    def preflight(self, tasks: int, each: int | None, expect: Any) -> dict[str, Any]:
        """Return the same; raise ``TaskmillError`` when it does not answer, or cannot hold so many results.

        ``each`` is what one result takes in bytes, ``None`` to work it out from the expected value.
        """

    def takes(self, stored: int) -> int:
        """Return what a result whose text has so many bytes takes in the store, for ``each`` of :meth:`preflight`."""

    def forget_redeliveries(self, identifier: str) -> None:
        """Let ``taskmill_worker.dead_lettering`` count anew how often a redelivered task has begun.

        Raises nothing: where the store does not answer, the count stays.
        """


def of_environment() -> ResultStore:
    """Return the store of ``CELERY_RESULT_BACKEND``; raise ``TaskmillError`` as :func:`of_url`, or without one."""
    return of_url(from_environment(VARIABLE))


def of_url(url: str) -> ResultStore:
    """Return the store at a URL; raise ``TaskmillError`` for one that is not to be had, and say what is."""
    scheme = url.partition(":")[0].lower()
    if scheme in REFUSED:
        stores = ", ".join(name for name, module in STORES.items() if module != "nothing")
        raise TaskmillError(
            f"{VARIABLE} is {scheme}://: {REFUSED[scheme]}. Keep results in one of {stores}, db+..., file "
            f"and Celery's other stores; it stands in {ENVIRONMENT_FILE}, and the workers need the same"
        )
    if scheme.startswith("cache") and scheme not in STORES:
        scheme = "cache+memcached"  # whose words say what the form is
    store: ResultStore = import_module(f"taskmill.results.{STORES.get(scheme, OTHERS)}").Results(url)
    return store


def away(kind: str, addresses: Sequence[str]) -> TaskmillError:
    """Return the error that says which of a store's servers do not answer, from what ``unreachable`` returned."""
    return TaskmillError(
        f"{kind} at {', '.join(addresses)} cannot be reached. Look at whether it runs there, and at {VARIABLE} in "
        f"{ENVIRONMENT_FILE}"
    )


def refused(form: str) -> TaskmillError:
    """Return the error that says which form the URL of a store must have."""
    return TaskmillError(f"{VARIABLE} must have the form {form}. It stands in {ENVIRONMENT_FILE}")


def complaint(error: Exception) -> str:
    """Return what an error says of an address, in one line, without what may be a piece of its password."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    if line.startswith("Port could not be cast"):
        return "its port is no number; the characters / ? # @ of a password are written as %2F %3F %23 %40"
    return line

"""What collecting asks of a result store. :mod:`taskmill.results.memcached` is one; another one goes beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Ids asked for at once: enough to make the round trip cheap, few enough to stay well under a second.
BATCH = 1000
#: Stands for a value that is none of Celery's.
UNREADABLE = object()


class ResultStore(Protocol):
    """Celery's results by their tasks' ids."""

    def get(self, ids: Sequence[bytes]) -> dict[bytes, Any]:
        """Return the values of those ids (ASCII) whose results are there.

        A value is the JSON text that Celery wrote; ``None`` stands for a pickled value, which is refused, and
        ``UNREADABLE`` for one that another program wrote. A server that does not answer looks like one without results:
        see :meth:`unreachable`.
        """

    def unreachable(self) -> list[str]:
        """Return the addresses of the servers that take no connection."""

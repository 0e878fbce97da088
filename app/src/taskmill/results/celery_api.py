"""Celery's results in any other backend of Celery's, one after the other, through Celery's own API."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from celery import Celery, states
from celery.backends.base import BaseKeyValueStoreBackend, DisabledBackend, decompress_payload

from taskmill.cluster.broker import ENVIRONMENT_FILE
from taskmill.model.errors import TaskmillError
from taskmill.results.redis_store import readable
from taskmill.results.store import UNREADABLE, VARIABLE, away, complaint, refused
from taskmill.results.values import carried, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Ids asked for between two looks at whether to stop: each is a round trip.
BATCH = 100


class Results:
    """A database, a directory, a bucket: whatever Celery stores results in."""

    batch = BATCH

    def __init__(self, url: str) -> None:
        """Keep the address; connect at the first use. Raises ``TaskmillError`` for one that Celery cannot read."""
        self.kind = url.partition(":")[0]
        app = Celery("taskmill", backend=url, set_as_current=False)
        # Collecting tries again by itself, and may be stopped meanwhile.
        app.conf.update(result_backend_always_retry=False, database_create_tables_at_setup=False)
        try:
            self._backend: Any = app.backend
            self._address = self._backend.as_uri()
        except Exception as error:  # noqa: BLE001  # of whatever kind: a package that is not there, a URL that is none
            raise TaskmillError(
                f"Celery cannot read results from {self.kind}://: {complaint(error)}. Look at {VARIABLE} in "
                f"{ENVIRONMENT_FILE}, and at whether the packages that this backend needs are installed on the client"
            ) from None
        if isinstance(self._backend, DisabledBackend):
            raise refused(
                "of a backend of Celery's, such as redis://HOST:6379/0; disabled:// where tasks store nothing"
            )
        if hasattr(self._backend, "_decode_stored_result"):
            # The database's own unpickles what Celery before 5.7 wrote: whoever can write there could run code here.
            self._backend._decode_stored_result = decode

    def __str__(self) -> str:
        """Return the address, without the password."""
        return str(self._address)

    def get(self, ids: Sequence[bytes]) -> dict[bytes, Any]:
        """Return the values of those ids whose results are there; see ``ResultStore``."""
        values = {}
        for identifier in ids:
            try:
                value = self._value(identifier.decode())
            except Exception:  # noqa: BLE001  # each backend raises errors of its own
                if self.unreachable():
                    break
                value = UNREADABLE
            if value is not None:
                values[identifier] = value
        return values

    def _value(self, identifier: str) -> Any:
        """Return a stored value, or ``None`` where nothing is stored."""
        backend = self._backend
        if isinstance(backend, BaseKeyValueStoreBackend):
            text = backend.get(backend.get_key_for_task(identifier))
            return readable(text.encode() if isinstance(text, str) else text) if text else None
        meta = backend.get_task_meta(identifier, cache=False)
        return None if meta.get("status", states.PENDING) == states.PENDING else as_stored(meta)

    def unreachable(self) -> list[str]:
        """Return the address with the reason when the backend does not answer."""
        try:
            self._value("00000000-0000-0000-0000-000000000000")
        except Exception as error:  # noqa: BLE001  # as above
            return [f"{self} ({complaint(error)})"]
        return []

    def figures(self) -> dict[str, Any]:
        """Return nothing; raise ``TaskmillError`` when the backend does not answer."""
        if missing := self.unreachable():
            raise away(self.kind, missing)
        return {}

    def preflight(self, _tasks: int, _each: int | None, _expect: Any) -> dict[str, Any]:
        """Return nothing; raise ``TaskmillError`` when the backend does not answer. Its room is not known."""
        return self.figures()

    def takes(self, stored: int) -> int:
        """Return the same: what more the backend needs is not known."""
        return stored

    def forget_redeliveries(self, identifier: str) -> None:
        """Let ``taskmill_worker.dead_lettering`` count anew how often a redelivered task has begun, where it counts."""
        if getattr(self._backend, "implements_incr", False):
            with suppress(Exception):  # each backend raises errors of its own
                self._backend.delete(self._backend.get_key_for_task(identifier) + b"-redelivered")


def decode(payload: str | bytes | None) -> Any:
    """Return the value in a column of JSON text; raise ``ValueError`` for anything else."""
    return None if payload is None else parse(decompress_payload(payload))


def as_stored(meta: dict[str, Any]) -> dict[str, Any]:
    """Return what Celery made of a stored result in the form of one that is stored as JSON."""
    result, done = meta.get("result"), meta.get("date_done")
    if isinstance(result, BaseException):
        result = {"exc_type": type(result).__name__, "exc_message": [str(part) for part in result.args]}
    if isinstance(done, datetime):
        done = (done if done.tzinfo else done.replace(tzinfo=timezone.utc)).isoformat()
    return {**meta, "result": carried(result), "date_done": done}

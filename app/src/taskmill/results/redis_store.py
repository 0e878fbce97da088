"""Celery's results in Redis, read by id in batches, through Celery's own reading of the address."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.backends.base import decompress_payload
from celery.exceptions import ImproperlyConfigured
from kombu.utils import json as celery_json

from taskmill.model.errors import TaskmillError
from taskmill.results.store import BATCH, UNREADABLE, away, complaint, refused

try:
    import redis
except ImportError:  # who keeps results elsewhere need not have it
    redis = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Sequence

FORM = "redis://:PASSWORD@HOST:6379/0 (rediss://...?ssl_cert_reqs=CERT_REQUIRED for TLS)"
TIMEOUT = 10.0
#: What one result takes in Redis beside its JSON text, in bytes: its key, and entries in the tables of keys and ends.
ENTRY = 260
#: Celery's result of a small number, as JSON text with the times that ``taskmill_worker.task_times`` adds.
META_BYTES = 270
MEBIBYTE = 1 << 20


class Results:
    """One Redis server, or one database of it, that holds the results."""

    kind = "redis"
    batch = BATCH

    def __init__(self, url: str) -> None:
        """Keep the address; connect at the first use. Raises ``TaskmillError`` for one that Celery cannot read."""
        if redis is None:
            raise TaskmillError("results in Redis need the package redis on the client: pip install 'taskmill[redis]'")
        app = Celery("taskmill", backend=url, set_as_current=False)
        app.conf.update(redis_socket_timeout=TIMEOUT, redis_socket_connect_timeout=TIMEOUT)
        try:
            self._backend = app.backend
            where = self._backend.connparams
            self._client = self._backend.client
        except (ImproperlyConfigured, ValueError, TypeError) as error:
            raise refused(f"{FORM}; {complaint(error)}") from None
        self._address = where.get("path") or f"{where['host']}:{where['port']}/{where['db']}"

    def __str__(self) -> str:
        """Return the address, without the password."""
        return str(self._address)

    def get(self, ids: Sequence[bytes]) -> dict[bytes, Any]:
        """Return the JSON texts of those ids whose results are there, by one MGET; see ``ResultStore``."""
        keys = [self._backend.get_key_for_task(identifier.decode()) for identifier in ids]
        try:
            values = self._client.mget(keys)
        except redis.RedisError:
            return {}
        return {id_: readable(value) for id_, value in zip(ids, values, strict=True) if value is not None}

    def unreachable(self) -> list[str]:
        """Return the address with the reason when it does not answer, or lets this user read nothing."""
        try:
            self._client.get(self._backend.get_key_for_task("-"))
        except redis.RedisError as error:
            return [f"{self} ({error})"]
        return []

    def figures(self) -> dict[str, Any]:
        """Ask the server; raise ``TaskmillError`` when it does not answer. Empty where its user may not ask that."""
        if missing := self.unreachable():
            raise away(self.kind, missing)
        try:
            said = self._client.info()
            items = self._client.dbsize()
        except redis.RedisError:
            return {}
        return {
            # 0 is without a limit of its own.
            **({"limit_bytes": said["maxmemory"]} if said.get("maxmemory") else {}),
            "used_bytes": said["used_memory"],
            "items": items,
            "evictions": said["evicted_keys"],
            "version": said["redis_version"],
        }

    def preflight(self, tasks: int, each: int | None, expect: Any) -> dict[str, Any]:
        """Return what the server says of itself; raise ``TaskmillError`` when so many results do not fit."""
        figures = self.figures()
        each = each or ENTRY + META_BYTES + len(celery_json.dumps(expect))
        free = figures.get("limit_bytes", 0) - figures.get("used_bytes", 0)
        if "limit_bytes" in figures and tasks * each > free:
            need = -(-(tasks * each + figures["used_bytes"]) // MEBIBYTE)
            raise TaskmillError(
                f"redis at {self} is too small for this run: {tasks:,} results of about {each} bytes need "
                f"{tasks * each // MEBIBYTE:,} MiB, and it has {max(0, free) // MEBIBYTE:,} MiB free. Set its "
                f"maxmemory (redis_memory_mb) to {need:,} MiB or more, or post fewer tasks"
            )
        return figures

    def takes(self, stored: int) -> int:
        """Return what a result whose text has so many bytes takes in Redis."""
        return ENTRY + stored

    def forget_redeliveries(self, identifier: str) -> None:
        """Let ``taskmill_worker.dead_lettering`` count anew how often a redelivered task has begun."""
        with suppress(redis.RedisError):
            self._backend.delete(self._backend.get_key_for_task(identifier) + b"-redelivered")


def readable(value: bytes) -> Any:
    """Return the text of a stored value, which Celery may have compressed (``result_compression``)."""
    try:
        return decompress_payload(value)
    except Exception:  # noqa: BLE001  # each method of compression raises its own
        return UNREADABLE

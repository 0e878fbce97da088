"""Celery's results in memcached, read by id in batches through python-memcached."""

from __future__ import annotations

import pickle
import re
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, NoReturn

import memcache
from kombu.utils import json as celery_json

from taskmill.model.errors import TaskmillError
from taskmill.publishing.journal import ID_LENGTH
from taskmill.results.store import BATCH, UNREADABLE, away, refused

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Celery's key of a result is this and the id.
KEY_PREFIX = b"celery-task-meta-"
#: What follows a result's key in the key of that count.
REDELIVERED = b"-redelivered"
PLAIN_ID = re.compile(r"[A-Za-z0-9_.:-]{1,150}")
SCHEME = "cache+memcached://"
#: What one item costs in memcached beside key and value: its header, the flags, and the line ends.
ITEM_OVERHEAD = 48 + 8 + 4 + 3
SMALLEST_SLAB = 96
MEBIBYTE = 1 << 20


class RefusingUnpickler:
    """Stands in for ``pickle.Unpickler``: whoever can write to memcached must not be able to run code here."""

    def __init__(self, file: IO[bytes]) -> None:
        """Take the file that python-memcached hands over; it is never read."""

    def load(self) -> NoReturn:
        """Raise ``pickle.UnpicklingError``; python-memcached then returns ``None`` for the value."""
        raise pickle.UnpicklingError("a pickled value is refused")


@dataclass(frozen=True)
class Stats:
    """What memcached says of itself, summed over its servers. Sizes in bytes."""

    limit_bytes: int
    used_bytes: int
    items: int
    evictions: int
    version: str
    #: Growth from one slab size to the next, and the smallest room for key and value.
    growth_factor: float
    #: Largest item that it takes, with its key and what it costs beside them.
    largest_bytes: int


class Results:
    """The memcached servers that hold the results."""

    kind = "memcached"
    batch = BATCH

    def __init__(self, url: str) -> None:
        """Keep the addresses; connect at the first use.

        Raises ``TaskmillError`` for a URL of another form than ``cache+memcached://HOST:PORT[;HOST:PORT...]/``.
        """
        self.servers = [server for server in url.removeprefix(SCHEME).strip("/").split(";") if server]
        try:
            if not url.startswith(SCHEME) or not self.servers:
                raise ValueError
            self._client = memcache.Client(
                self.servers, unpickler=RefusingUnpickler, dead_retry=1, socket_timeout=10, check_keys=False
            )
        except ValueError as error:
            raise refused(f"{SCHEME}HOST:11211/ (several hosts parted by ';')") from error

    def __str__(self) -> str:
        """Return the addresses."""
        return ", ".join(self.servers)

    def get(self, ids: Sequence[bytes]) -> dict[bytes, Any]:
        """Return the raw values of those ids (ASCII) whose results are there.

        A value is the JSON text that Celery wrote; ``None`` stands for a pickled value, which is refused, and
        ``UNREADABLE`` for one with flags or compression of another program. A server that does not answer looks like
        one without results: see :meth:`unreachable`.
        """
        keys = [KEY_PREFIX + identifier for identifier in ids]
        try:
            values = self._client.get_multi(keys)
        except Exception:  # noqa: BLE001  # python-memcached raises many kinds over one value that it cannot read
            self._client.disconnect_all()
            values = self._one_by_one(keys)
        cut = len(KEY_PREFIX)
        return {key[cut:]: value for key, value in values.items()}

    def forget_redeliveries(self, identifier: str) -> None:
        """Let `taskmill_worker.dead_lettering` count anew how often a redelivered task has begun."""
        # The client does not check keys, and a message may say anything is its id.
        if PLAIN_ID.fullmatch(identifier):
            self._client.delete(KEY_PREFIX + identifier.encode() + REDELIVERED)

    def _one_by_one(self, keys: list[bytes]) -> dict[bytes, Any]:
        """Fetch in such a way that one bad value spoils no other; it comes as :data:`UNREADABLE`."""
        values = {}
        for key in keys:
            try:
                value = self._client.get(key, UNREADABLE)
            except Exception:  # noqa: BLE001  # as above
                self._client.disconnect_all()
                values[key] = UNREADABLE
                continue
            if value is not UNREADABLE:
                values[key] = value
        return values

    def unreachable(self) -> list[str]:
        """Return the addresses of the servers that take no connection."""
        return [name for name, server in zip(self.servers, self._client.servers, strict=True) if not server.connect()]

    def stats(self) -> Stats:
        """Ask the servers; raise ``TaskmillError`` when one does not answer."""
        if missing := self.unreachable():
            raise away(self.kind, missing)
        plain = [self._one_stats(data) for _, data in self._client.get_stats()]
        settings = [self._one_stats(data) for _, data in self._client.get_stats("settings")]
        if not plain or not all("limit_maxbytes" in stats for stats in plain):
            raise TaskmillError(f"what answers at {self} is not memcached")
        return Stats(
            limit_bytes=sum(int(stats["limit_maxbytes"]) for stats in plain),
            used_bytes=sum(int(stats["bytes"]) for stats in plain),
            items=sum(int(stats["curr_items"]) for stats in plain),
            evictions=sum(int(stats["evictions"]) for stats in plain),
            version=", ".join(sorted({stats["version"] for stats in plain})),
            growth_factor=max([float(stats.get("growth_factor", 1.25)) for stats in settings], default=1.25),
            largest_bytes=min([int(stats.get("item_size_max", MEBIBYTE)) for stats in settings], default=MEBIBYTE),
        )

    def figures(self) -> dict[str, Any]:
        """Return the fields of :meth:`stats`."""
        return asdict(self.stats())

    def preflight(self, tasks: int, each: int | None, expect: Any) -> dict[str, Any]:
        """Return the same; raise ``TaskmillError`` when so many results do not fit, see :func:`check_room`."""
        return asdict(check_room(self, tasks, each, expect))

    def takes(self, stored: int) -> int:
        """Return the slab that holds a result whose text has so many bytes."""
        return slab_bytes(stored, self.stats().growth_factor)

    @staticmethod
    def _one_stats(data: dict[Any, Any]) -> dict[str, str]:
        return {text(key): text(value).strip() for key, value in data.items()}


def text(value: Any) -> str:
    """Return bytes or text as text."""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def result_bytes(expect: Any, growth_factor: float) -> int:
    """Return what one result takes in memcached, in bytes: the slab that holds Celery's JSON with this value.

    For a small number that is 384 with memcached's default slab sizes.
    """
    return slab_bytes(text_bytes(expect), growth_factor)


def text_bytes(expect: Any) -> int:
    """Return the size of Celery's JSON of a result with this value."""
    value = celery_json.dumps(
        {
            "status": "SUCCESS",
            "result": expect,
            "traceback": None,
            "children": [],
            "date_done": "2026-01-01T00:00:00.000000+00:00",
            "task_id": "0" * ID_LENGTH,
            # What taskmill_worker.task_times adds.
            "taskmill": [1767225600.000000, 1000000, 1000000, "worker@a-host-of-some-length"],
        }
    )
    return len(value.encode())


def item_bytes(stored: int) -> int:
    """Return what memcached needs for a result whose text has so many bytes."""
    return ITEM_OVERHEAD + len(KEY_PREFIX) + ID_LENGTH + stored


def slab_bytes(stored: int, growth_factor: float) -> int:
    """Return the slab that holds a result whose text has so many bytes."""
    need = item_bytes(stored)
    slab = SMALLEST_SLAB
    while slab < need:
        # memcached rounds each slab size up to a multiple of 8.
        slab = -int(-slab * growth_factor // 8) * 8
    return slab


def check_room(results: Results, tasks: int, each: int | None, expect: Any) -> Stats:
    """Return memcached's stats; raise ``TaskmillError`` when it cannot hold one such result, or so many.

    ``each`` is what one result takes in bytes, ``None`` to work it out from the expected value.
    """
    stats = results.stats()
    largest = item_bytes(text_bytes(expect))
    if tasks and largest > stats.largest_bytes:
        raise TaskmillError(
            f"memcached at {results} takes no result as large as the expected one: it needs {largest:,} bytes, and an "
            f"item has at most {stats.largest_bytes:,}. Have the task return less, such as the name of a file; or set "
            f"memcached_item_mb to {largest // MEBIBYTE + 1} or more and run site.yml, and cache_backend_options = "
            "{'server_max_value_length': 0} in the app's settings; or set result_store to redis"
        )
    each = each or result_bytes(expect, stats.growth_factor)
    # Its memory goes out in pages of 1 MiB, each cut into slabs of one size; one page more for other sizes.
    need = -(-tasks // max(1, MEBIBYTE // each)) + 1
    if need * MEBIBYTE > stats.limit_bytes:
        raise TaskmillError(
            f"memcached at {results} is too small for this run: {tasks:,} results of {each} bytes need {need:,} MiB, "
            f"and it has {stats.limit_bytes // MEBIBYTE:,} MiB; it would drop the oldest. Set memcached_memory_mb to "
            f"{need} or more and run site.yml, or post fewer tasks"
        )
    return stats

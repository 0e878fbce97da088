"""Results in memcached, through python-memcached, with no result lost in silence and no pickle ever loaded.

Celery's own backend of this kind uses another library since 5.7, and with python-memcached, up to 5.6, it ignored
a failed write: the task was acknowledged and its result was nowhere. Here a failed write raises, Celery retries it, and
when memcached stays away the message goes back to its queue. A result that is larger than memcached takes is a failure
of its task at once. The main process of a worker does not wait for memcached (:mod:`taskmill_worker.late_results`).

Workers that include ``taskmill_worker`` get it by themselves, where ``result_backend`` is ``cache+memcached://`` with
one server and python-memcached is installed. What else uses the app's results, such as a client, may read them by any
backend for memcached; with several servers workers and clients have to name the same one in the app:
``app.loader.override_backends = {"cache": "taskmill_worker.memcached_backend:MemcachedBackend"}``.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import pickle
from typing import IO, Any, NoReturn

from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import BackendStoreError, ImproperlyConfigured, Reject
from celery.utils.log import get_logger
from kombu.exceptions import EncodeError

from taskmill_worker import late_results

try:
    import memcache
except ImportError:  # an app that keeps its results elsewhere need not have it
    memcache = None

logger = get_logger(__name__)

#: How often a write is tried again before its message goes back to the queue, unless the app's settings say.
RETRIES = 30
#: Bytes that memcached itself needs for an item, and more: only what it has not taken is held against its limit.
OVERHEAD = 256


class MemcachedUnavailableError(Exception):
    """memcached did not take a value: it is away, or has no room for it. Safe to retry."""


class ResultTooLargeError(EncodeError):  # type: ignore[misc]  # Celery, which makes a failure of it, carries no types
    """A result is larger than memcached, or its client, takes."""


def size(value: str | bytes) -> int:
    """Return the bytes of a value in memcached."""
    return len(value.encode() if isinstance(value, str) and not value.isascii() else value)


class RefusingUnpickler:
    """Stands in for ``pickle.Unpickler``: whoever can write to memcached must not be able to run code here."""

    def __init__(self, file: IO[bytes]) -> None:
        """Take the file that python-memcached hands over; it is never read."""

    def load(self) -> NoReturn:
        """Raise ``pickle.UnpicklingError``; python-memcached then treats the value as absent."""
        raise pickle.UnpicklingError("a pickled value in memcached is refused: results are JSON only")


class MemcachedBackend(KeyValueStoreBackend):  # type: ignore[misc]  # Celery carries no types
    """Celery result backend for ``cache+memcached://HOST:PORT[;HOST:PORT...]/``.

    Options of ``memcache.Client`` may be given in the setting ``cache_backend_options``.
    """

    supports_autoexpire = True
    supports_native_join = True
    implements_incr = True

    def __init__(self, app: Any, url: str | None = None, expires: Any = None, **kwargs: Any) -> None:
        """Keep the addresses; nothing connects before the first use."""
        if memcache is None:
            raise ImproperlyConfigured("results in memcached need the package python-memcached")
        super().__init__(app, **kwargs)
        self.url = url or ""
        scheme, _, rest = self.url.partition("://")
        self.servers = [server for server in rest.strip("/").split(";") if server]
        if scheme != "memcached" or not self.servers:
            raise ImproperlyConfigured(
                "CELERY_RESULT_BACKEND must have the form cache+memcached://HOST:11211/ (several hosts parted by ';')"
            )
        self.expires = self.prepare_expires(expires, type=int)
        # Celery by itself tries once, or for ever.
        self.always_retry = True
        retries: float = app.conf.result_backend_max_retries
        #: How often a write is tried again by whoever may wait for it.
        self.patience = RETRIES if math.isinf(retries) else int(retries)
        self._clients: dict[bool, memcache.Client] = {}
        self._process = 0

    @property
    def max_retries(self) -> int:
        """How often Celery tries a write again."""
        return late_results.RETRIES if late_results.must_be_brief() else self.patience

    @max_retries.setter
    def max_retries(self, _: float) -> None:
        """Leave it: Celery sets what is looked at above."""

    @property
    def client(self) -> memcache.Client:
        """The client, made at first use; it holds one connection per thread and server."""
        # A pool process that is forked later must not write into the connection of the main process.
        if self._process != os.getpid():
            self._clients, self._process = {}, os.getpid()
        brief = late_results.must_be_brief()
        if brief not in self._clients:
            # python-memcached leaves a server alone for 30 s after one failure, which suits who must not wait for it;
            # 1 s fits the retries of the others.
            waits = {"socket_timeout": late_results.TIMEOUT} if brief else {"dead_retry": 1, "socket_timeout": 5}
            options = {**waits, **self.app.conf.cache_backend_options, **(waits if brief else {})}
            self._clients[brief] = memcache.Client(self.servers, unpickler=RefusingUnpickler, **options)
        return self._clients[brief]

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Say which errors Celery may retry."""
        return isinstance(exc, MemcachedUnavailableError)

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """Store a result; when memcached stays away, put the message back on its queue (``Reject``).

        A message that is acknowledged before its task runs cannot go back: then ``BackendStoreError`` is raised, as by
        Celery's own backends. A worker's main process raises neither: there the result is stored later. Of a failure
        that is too large, one is stored that says so; any other result that is too large is a ``ResultTooLargeError``.
        """
        store = functools.partial(super().store_result, traceback=traceback, request=request, **kwargs)
        try:
            return store(task_id, result, state)
        except ResultTooLargeError as error:
            if state not in self.EXCEPTION_STATES:
                raise
            instead = ResultTooLargeError(f"{type(result).__name__} was raised, and cannot be stored: {error}")
            # Without the request, whose arguments may be what is large.
            return super().store_result(task_id, instead, state)
        except BackendStoreError as error:
            if late_results.must_be_brief():
                late_results.late_results.add(task_id, state, functools.partial(store, task_id, result, state))
                return result
            task = self.app.tasks.get(getattr(request, "task", None))
            if task is None or not task.acks_late:
                raise
            raise Reject(error, requeue=True) from error

    def get(self, key: bytes) -> Any:
        """Return the value of ``key``, or ``None``."""
        return self.client.get(key)

    def mget(self, keys: list[bytes]) -> dict[bytes, Any]:
        """Return the values of those of ``keys`` that are there."""
        values: dict[bytes, Any] = self.client.get_multi(keys)
        return values

    def set(self, key: bytes, value: Any) -> None:
        """Store ``value``.

        Raises ``ResultTooLargeError`` when it is larger than memcached takes, and ``MemcachedUnavailableError`` when
        memcached does not confirm it for another reason.
        """
        limit = self.client.server_max_value_length
        if limit and size(value) > limit:
            raise self._too_large(value)
        if not self.client.set(key, value, self.expires or 0):
            raise self._reason(value, self._item_size())

    def set_many(self, items: dict[bytes, Any]) -> dict[bytes, Exception]:
        """Store all values in one round trip; return what kept those that are not stored, as ``set`` would raise it."""
        client = self.client
        limit = client.server_max_value_length
        large = {}
        # A character is four bytes at most.
        if limit and 4 * max(map(len, items.values()), default=0) > limit:
            # python-memcached does not send these, and yet waits for an answer to each.
            large = {key: self._too_large(value) for key, value in items.items() if size(value) > limit}
        missed = client.set_multi(
            {key: items[key] for key in items if key not in large} if large else items, self.expires or 0
        )
        if missed:
            # The first write on a connection that memcached has closed (its restart) fails: one more on a new one.
            client.forget_dead_hosts()
            missed = client.set_multi({key: items[key] for key in missed}, self.expires or 0)
        item_size = self._item_size() if missed else 0
        return large | {key: self._reason(items[key], item_size) for key in missed}

    def _item_size(self) -> int:
        """Return the bytes of an item that memcached takes at most; 0 where it does not say."""
        try:
            answers = self.client.get_stats("settings")
        except OSError:
            # Its answer may come yet, and must not be taken for the answer to another command.
            self.client.disconnect_all()
            return 0
        return min((int(settings.get("item_size_max", 0)) for _, settings in answers), default=0)

    def _reason(self, value: Any, item_size: int) -> Exception:
        """Return why memcached has not taken a value, which is what python-memcached does not say."""
        if item_size and size(value) + OVERHEAD > item_size:
            return self._too_large(value, f"its item size is {item_size:,} bytes")
        return MemcachedUnavailableError(f"memcached at {', '.join(self.servers)} did not store a result")

    def _too_large(self, value: Any, limit: str = "") -> ResultTooLargeError:
        """Return an error that says the size, the limit, and how to raise it."""
        limit = limit or f"the limit of python-memcached is {self.client.server_max_value_length:,} bytes"
        return ResultTooLargeError(
            f"a result of {size(value):,} bytes does not fit into memcached at {', '.join(self.servers)}: {limit}. "
            "Return less, or raise both limits: memcached's own (its option -I, 1m by default) and python-memcached's "
            "(cache_backend_options = {'server_max_value_length': BYTES} in the app's settings, 0 for none)"
        )

    def delete(self, key: bytes) -> None:
        """Delete ``key`` if it is there."""
        self.client.delete(key)

    def incr(self, key: bytes) -> Any:
        """Add one to the number at ``key`` and return it."""
        return self.client.incr(key, 1)

    def expire(self, key: bytes, value: int) -> Any:
        """Let ``key`` expire in ``value`` seconds (0: never)."""
        return self.client.touch(key, value or 0)

    def _apply_chord_incr(self, header_result_args: Any, body: Any, **kwargs: Any) -> Any:
        chord_key = self.get_key_for_chord(header_result_args[0])
        # Celery has a setting for it since 5.7.
        self.client.set(chord_key, 0, getattr(self, "chord_expires", self.expires) or 0)
        return super()._apply_chord_incr(header_result_args, body, **kwargs)

    def as_uri(self, include_password: bool = False) -> str:  # noqa: ARG002  # Celery's signature; there is none
        """Return the address for logs."""
        return f"cache+memcached://{';'.join(self.servers)}/"

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Make the backend again elsewhere from its address."""
        return super().__reduce__(args, {**(kwargs or {}), "url": self.url, "expires": self.expires})


def install(app: Any) -> None:
    """Have ``app`` keep its results by this backend, where they go to memcached and the app names no other one."""
    late_results.install()
    if not str(app.conf.result_backend).startswith("cache+memcached://") or "cache" in app.loader.override_backends:
        return
    reason = why_not(app)
    if reason:
        logger.warning("Results are stored by Celery's own backend: %s.", reason)
        return
    override = {"cache": f"{__name__}:{MemcachedBackend.__name__}"}
    app.loader.override_backends = {**app.loader.override_backends, **override}


def why_not(app: Any) -> str:
    """Return what keeps an app that has not named this backend from having it; empty where nothing does."""
    if memcache is None:
        return "python-memcached is not installed"
    if getattr(app, "_backend", None) is not None:  # made at first use
        return "the app had made it before this was loaded"
    # Clients of the app that have another library would look for a result on another server.
    if ";" in str(app.conf.result_backend):
        return "results are on several servers; name the backend in the app, for its workers and its clients alike"
    foreign = sorted(set(app.conf.cache_backend_options) - set(inspect.signature(memcache.Client.__init__).parameters))
    if foreign:
        return f"python-memcached does not have the options {', '.join(foreign)} of cache_backend_options"
    return ""

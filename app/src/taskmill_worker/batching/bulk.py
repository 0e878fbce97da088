"""Store many results in one go, in the backends that have a way to: memcached's and Redis'."""

from __future__ import annotations

import functools
import sys
import time
from typing import TYPE_CHECKING, Any

from celery.backends.base import BaseKeyValueStoreBackend
from celery.utils.log import get_logger
from celery.utils.time import get_exponential_backoff_interval

from taskmill_worker.memcached_backend import MemcachedBackend, MemcachedUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    #: Takes values by key, and returns what kept those that are not stored.
    Once = Callable[[dict[Any, Any]], dict[Any, Exception]]

logger = get_logger(__name__)

#: What a result goes through when it is stored by itself. A backend that has its own of these is left to do so.
STEPS = ("mark_as_done", "store_result", "_store_result", "encode_result", "_get_result_meta", "_set_with_state", "set")
KNOWN = ("celery.backends.", "taskmill_worker.")
#: How often a write to Redis is tried again where the app's policy names no bound.
MOST_RETRIES = 20


class Bulk:
    """Stores encoded results by their keys, and tries again as the backend's own policy says."""

    def __init__(self, once: Once, pauses: Callable[[], Iterator[float]], passing: tuple[type[Exception], ...]) -> None:
        """Take what writes once, the seconds to wait before each further try, and the errors that pass."""
        self.pauses = pauses
        self.passing = passing
        self._once = once

    def once(self, values: dict[Any, Any]) -> dict[Any, Exception]:
        """Store values by key; return what kept those that are not stored, whatever it is."""
        try:
            return self._once(values)
        except Exception as error:  # noqa: BLE001  # of whatever kind the client raises
            return dict.fromkeys(values, error)

    def store(self, values: dict[Any, Any]) -> dict[Any, Exception]:
        """Store values by key, as often as it takes within bounds; return what kept the others."""
        missed = self.once(values)
        for pause in self.pauses():
            again = {key: values[key] for key, error in missed.items() if isinstance(error, self.passing)}
            if not again:
                break
            logger.warning("%d results are not stored yet: %s", len(again), next(iter(missed.values())))
            time.sleep(pause)
            missed = {key: error for key, error in missed.items() if key not in again} | self.once(again)
        return missed


def bulk_of(backend: Any) -> Bulk | None:
    """Return what stores many results of a backend in one go; ``None`` where each is stored by itself."""
    if not isinstance(backend, BaseKeyValueStoreBackend):
        return None
    if not all((getattr(type(backend), step).__module__ or "").startswith(KNOWN) for step in STEPS):
        return None
    if isinstance(backend, MemcachedBackend):
        return Bulk(backend.set_many, functools.partial(backoff, backend), (MemcachedUnavailableError,))
    redis = sys.modules.get("celery.backends.redis")
    if redis is not None and isinstance(backend, redis.RedisBackend):
        once = functools.partial(set_many_in_redis, backend)
        return Bulk(once, functools.partial(intervals, backend), backend.connection_errors)
    return None


def set_many_in_redis(backend: Any, values: dict[Any, Any]) -> dict[Any, Exception]:
    """Do what Celery's backend does for each value, in one round trip: set it, and tell the clients that wait for it.

    Returns what Redis answered where it refused one; raises where it gave no answer.
    """
    with backend.client.pipeline(transaction=False) as pipe:
        for key, value in values.items():
            if backend.expires:
                pipe.setex(key, backend.expires, value)
            else:
                pipe.set(key, value)
            pipe.publish(key, value)
        answers = pipe.execute(raise_on_error=False)
    return {key: answer for key, answer in zip(values, answers[::2], strict=True) if isinstance(answer, Exception)}


def backoff(backend: Any) -> Iterator[float]:
    """Yield the seconds between tries by Celery's settings ``result_backend_*``."""
    for retries in range(1, int(backend.patience) + 1):
        yield (
            get_exponential_backoff_interval(
                backend.base_sleep_between_retries_ms, retries, backend.max_sleep_between_retries_ms, True
            )
            / 1000
        )


def intervals(backend: Any) -> Iterator[float]:
    """Yield the seconds between tries by the retry policy of Celery's Redis backend."""
    policy = backend.retry_policy
    most = policy.get("max_retries")
    for retries in range(MOST_RETRIES if most is None else most):
        yield min(policy["interval_start"] + retries * policy["interval_step"], policy["interval_max"])

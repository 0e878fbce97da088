"""Tasks that end in every way there is, none of which takes arguments."""

from __future__ import annotations

import builtins
import threading
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.exceptions import Ignore, Reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from pool_process import PoolProcess


class Unpicklable(Exception):  # noqa: N818  # a name for a test
    """Cannot be made again from what it was made of."""

    def __init__(self, one: int, other: int) -> None:
        """Take two, and hand one on."""
        super().__init__(one + other)


class Odd(BaseException):
    """Nothing that anybody expects."""


class Hooked(Task):  # type: ignore[misc]  # Celery carries no types
    """Raises in a hook: which and what its name says."""

    def hook(self, which: str) -> None:
        """Raise, if this is the hook to do so."""
        name, _, error = self.name.partition(":")
        if name == which:
            raise getattr(builtins, error)(which)

    def on_success(self, *_: Any) -> None:
        """Be called after a success."""
        self.hook("on_success")

    def on_failure(self, *_: Any) -> None:
        """Be called after a failure."""
        self.hook("on_failure")

    def after_return(self, *_: Any) -> None:
        """Be called after both."""
        self.hook("after_return")


def success() -> int:
    """Return something."""
    return 7


def nothing() -> None:
    """Return nothing."""


def failure() -> None:
    """Raise."""
    raise ValueError("no")


def retried(self: Task) -> None:
    """Ask for another try, at once."""
    raise self.retry(countdown=0)


def ignored() -> None:
    """Leave no result."""
    raise Ignore


def rejected() -> None:
    """Refuse the message."""
    raise Reject("no", requeue=False)


def progress(self: Task) -> int:
    """Say how far it is."""
    self.update_state(state="PROGRESS", meta={"done": 1})
    return 7


def halfway(self: Task) -> int:
    """Be done in a state of its own, before it is done."""
    self.backend.mark_as_done(self.request.id, 3, self.request, state="HALFWAY")
    return 7


def settled_by_itself(self: Task) -> int:
    """Store its success before it returns."""
    self.update_state(state="SUCCESS", meta={"done": "by hand"})
    return 7


def of_another(self: Task) -> int:
    """Store something for another task."""
    self.update_state(task_id="another", state="PROGRESS", meta=1)
    return 7


def exits() -> None:
    """End the process."""
    raise SystemExit(3)


def interrupted() -> None:
    """End the process in another way."""
    raise KeyboardInterrupt


def without_memory() -> None:
    """Have no memory left."""
    raise MemoryError("much")


def odd() -> None:
    """Raise what is no ``Exception``."""
    raise Odd("odd")


def unpicklable() -> None:
    """Raise what the main process cannot make again."""
    raise Unpicklable(1, 2)


def unpicklable_reject() -> None:
    """Refuse the message, for a reason that cannot be handed over."""
    raise Reject(threading.Lock(), requeue=True)


def not_json() -> Any:
    """Return what cannot be written."""
    return object()


def large() -> str:
    """Return more than memcached takes."""
    return "x" * (2 << 20)


def large_failure() -> None:
    """Raise with more than memcached takes."""
    raise ValueError("x" * (2 << 20))


ERRORS = ("ConnectionError", "KeyError", "SystemExit", "MemoryError")
ALONE: tuple[Callable[..., Any], ...] = (
    *(success, nothing, failure, ignored, rejected, exits, interrupted, without_memory, odd),
    *(unpicklable, unpicklable_reject, not_json, large, large_failure),
)
BOUND: tuple[Callable[..., Any], ...] = (retried, progress, halfway, settled_by_itself, of_another)
#: By name: the function and the options of its task.
KINDS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    **{function.__name__: (function, {}) for function in ALONE},
    **{function.__name__: (function, {"bind": True}) for function in BOUND},
    "tracked": (success, {"track_started": True}),
    "without_result": (success, {"ignore_result": True}),
    **{f"on_success:{error}": (success, {"base": Hooked}) for error in ERRORS},
    **{f"after_return:{error}": (success, {"base": Hooked}) for error in ERRORS},
    **{f"on_failure:{error}": (failure, {"base": Hooked}) for error in ERRORS},
}


def of_each_kind(process: PoolProcess) -> dict[str, Any]:
    """Return a task of each kind, by its name."""
    return {name: process.task(function, name, **options) for name, (function, options) in KINDS.items()}

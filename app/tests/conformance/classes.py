"""Tasks with classes, hooks and requests of their own."""

from __future__ import annotations

from typing import Any

from celery import Task
from celery.worker.request import Request

from conformance.app import app, note, ran


class Hooked(Task):  # type: ignore[misc]  # Celery carries no types
    """Writes down which of its methods are called; one of them raises."""

    abstract = True
    raises: str = ""
    error: type[BaseException] = KeyError

    def _called(self, name: str, kwargs: dict[str, Any], *fields: Any) -> None:
        note(kwargs["label"], f"hook {name}", fields=[repr(field) for field in fields], id=self.request.id)
        if name == self.raises:
            raise self.error(f"of {name}")

    def before_start(self, _id: str, args: Any, kwargs: Any) -> None:
        self._called("before_start", kwargs, args)

    def on_success(self, value: Any, _id: str, args: Any, kwargs: Any) -> None:
        self._called("on_success", kwargs, value, args)

    def on_failure(self, exc: Any, _id: str, args: Any, kwargs: Any, info: Any) -> None:
        self._called("on_failure", kwargs, exc, args, type(info).__name__)

    def on_retry(self, exc: Any, _id: str, args: Any, kwargs: Any, info: Any) -> None:
        self._called("on_retry", kwargs, exc, args, type(info).__name__)

    def after_return(self, status: str, value: Any, _id: str, args: Any, kwargs: Any, info: Any) -> None:
        self._called("after_return", kwargs, status, value, args, type(info).__name__)


@app.task(base=Hooked, bind=True, max_retries=1, default_retry_delay=0)
def hooked(self: Task, how: str, *, label: str) -> str:
    """End in a way, with every hook written down."""
    ran(label)
    if how == "fail":
        raise ValueError("failed")
    if how == "retry" and not self.request.retries:
        raise self.retry()
    return how


def hook_that_raises(hook: str, error: type[BaseException]) -> Task:
    """Return a task, one of whose hooks raises."""

    def run(good: bool, *, label: str) -> str:
        ran(label)
        if good:
            return "good"
        raise ValueError("failed")

    name = f"conformance.classes.{hook}_raises_{error.__name__}"
    return app.task(base=Hooked, name=name, raises=hook, error=error)(run)


HOOKS_THAT_RAISE = {
    (hook, error): hook_that_raises(hook, error)
    for hook in ("before_start", "on_success", "on_failure", "after_return")
    for error in (KeyError, ConnectionError)
}


class Called(Task):  # type: ignore[misc]  # as above
    """Does something around each call, from a class of its own."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        note(kwargs["label"], "around")
        return self.run(*args, **kwargs)


@app.task(base=Called)
def called(x: int, *, label: str) -> int:
    """Return the argument."""
    ran(label)
    return x


class NotingRequest(Request):  # type: ignore[misc]  # as above
    """Writes down what the worker does with a request."""

    def on_success(self, *arguments: Any, **more: Any) -> Any:
        note(self.kwargs["label"], "request succeeded")
        return super().on_success(*arguments, **more)

    def acknowledge(self) -> None:
        note(self.kwargs["label"], "request acknowledged")
        super().acknowledge()


class Requested(Task):  # type: ignore[misc]  # as above
    """Has a request of its own."""

    abstract = True
    Request = "conformance.classes:NotingRequest"


@app.task(base=Requested)
def with_own_request(x: int, *, label: str) -> int:
    """Return the argument."""
    ran(label)
    return x

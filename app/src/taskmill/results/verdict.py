"""The verdict on a stored result: correct, wrong, failed, or not final yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskmill.model.quoting import quote
from taskmill.results.store import UNREADABLE
from taskmill.results.values import parse_stored

if TYPE_CHECKING:
    from taskmill.model.plan import Right

#: States in which a task's result is final; in any other it is waited for.
FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"})
#: The exception that `taskmill_worker.dead_lettering` stores for a task that it parked.
PARKED = "Parked"


def judge(
    identifier: bytes, value: Any, check: bool, expect: Any, fails: str | None = None
) -> tuple[str, str, dict[str, Any]]:
    """Return ``(verdict, detail, meta)`` for a stored value: verdict is correct, wrong, failed or pending.

    The value is what a store returns (``ResultStore.get``), and ``expect`` what ``values.carried`` makes of the right
    one. ``fails`` is the exception that is to end the task: with that it is correct, and with a result it is wrong.
    ``meta`` is what Celery stored; empty where that cannot be read.
    """
    if value is None:
        return "wrong", "the stored value is pickled; it was refused", {}
    if value is UNREADABLE:
        return "wrong", "the stored value cannot be read: it is none that Celery wrote", {}
    try:
        meta = value if isinstance(value, dict) else parse_stored(value)
        state, result = meta["status"], meta["result"]
    except (ValueError, TypeError, KeyError):
        return "wrong", f"the stored value is no result of Celery: {quote(value)}", {}
    if state == "SUCCESS":
        if meta.get("task_id") != identifier.decode():
            return "wrong", f"the stored result is that of another task, {quote(meta.get('task_id'))}", {}
        if fails is not None:
            return "wrong", f"the task returned {quote(result)}, and is to fail with {fails}", meta
        if not check:
            return "correct", "", meta
        if same(result, expect):
            return "correct", "", meta
        return "wrong", f"the result is {quote(result)}, not {quote(expect)}", meta
    if state not in FINAL:
        return "pending", "", {}
    if fails is None:
        return "failed", f"{state}: {exception(result)}", meta
    if state == "FAILURE" and is_exception(result, fails):
        return "correct", "", meta
    return "failed", f"{state}: {exception(result)}; it is to fail with {fails}", meta


def judge_by(identifier: bytes, value: Any, right: Right) -> tuple[str, str, dict[str, Any]]:
    """Return the same as :func:`judge` by what is right, as ``Kinds`` gives it."""
    fails = right.value if right.how == "fails" else None
    return judge(identifier, value, right.how == "value", right.value, fails)


def is_final(identifier: bytes, value: Any) -> bool:
    """Say whether a stored value is a task's last one, as it is not where it says STARTED or RETRY."""
    return judge(identifier, value, False, None)[0] != "pending"


def same(one: Any, other: Any) -> bool:
    """Say whether two values of Celery's JSON are the same; ``true`` is not 1, and 1.0 is not 1."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def is_exception(result: Any, name: str) -> bool:
    """Say whether a stored failure is of this exception, named with its module or without."""
    if not isinstance(result, dict):
        return False
    short = str(result.get("exc_type"))
    return name in {short, f"{result.get('exc_module')}.{short}"}


def is_parked(meta: dict[str, Any]) -> bool:
    """Say whether a stored failure is that of a parked task."""
    result = meta.get("result")
    return isinstance(result, dict) and result.get("exc_type") == PARKED


def exception(result: Any) -> str:
    """Return an exception as Celery stored it, in one line."""
    if isinstance(result, dict) and "exc_type" in result:
        message = result.get("exc_message")
        parts = message if isinstance(message, list) else [message]
        return quote(f"{result['exc_type']}: {', '.join(str(part) for part in parts)}", plain=True)
    return quote(result)

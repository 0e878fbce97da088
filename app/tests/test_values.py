"""Results as Celery stores them by each serializer, read without a store; and room for one that is large."""

from __future__ import annotations

import uuid
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from celery import Celery

from taskmill.results import values
from taskmill.results.values import carried
from taskmill.results.verdict import judge

ID = b"c0ffee00-0000-0000-0000-000000000000"
MOMENT = datetime(2026, 11, 30, 7, 21, 13, 5, timezone.utc)
#: Of each serializer, values that it carries, and others of the same kind.
PLAIN: list[tuple[Any, Any]] = [
    (5, 6),
    (1.0, 1),
    (True, 1),
    (None, False),
    ("ü", "u"),
    ((1, (2, "x")), (1, (2, "y"))),
    ({"a": [1, {"b": None}]}, {"a": [1, {"b": 0}]}),
    ({1: "a"}, {2: "a"}),
]
CARRIED: dict[str, list[tuple[Any, Any]]] = {
    "json": [
        *PLAIN,
        (MOMENT, MOMENT.replace(microsecond=6)),
        (date(2026, 11, 30), date(2026, 12, 1)),
        (uuid.UUID(int=5), uuid.UUID(int=6)),
        (Decimal("1.10"), Decimal("1.11")),
        (b"\xff\x00", b"\xff\x01"),
    ],
    "msgpack": [*PLAIN, (b"\xff\x00", b"\xff\x01"), (list(range(20)), list(range(21)))],
    "yaml": [*PLAIN, (MOMENT, MOMENT.replace(microsecond=6)), (date(2026, 11, 30), date(2026, 12, 1)), (b"\xff", b"x")],
}
CASES = [(name, right, other) for name, pairs in CARRIED.items() for right, other in pairs]


def stored(serializer: str, result: Any, state: str = "SUCCESS") -> Any:
    """Return what a backend that keeps values by key would store."""
    app = Celery("worker", backend="cache+memory://", set_as_current=False)
    app.conf.result_serializer = serializer
    backend, key = app.backend, app.backend.get_key_for_task(ID.decode())
    # A success is not overwritten.
    backend.delete(key)
    backend.store_result(ID.decode(), result, state)
    return backend.get(key)


@pytest.mark.parametrize(("serializer", "right", "other"), CASES)
def test_a_result_is_compared_as_the_task_made_it(serializer: str, right: Any, other: Any) -> None:
    """Whatever it was stored by; another value of the same kind is wrong."""
    value = stored(serializer, right)
    as_bytes = value.encode() if isinstance(value, str) else value
    for text in (value, as_bytes):
        assert judge(ID, text, True, carried(right))[:2] == ("correct", "")
        assert judge(ID, text, True, carried(other))[0] == "wrong"


@pytest.mark.parametrize("serializer", CARRIED)
def test_a_failure_is_read_by_every_serializer(serializer: str) -> None:
    """With its exception."""
    verdict, detail, meta = judge(ID, stored(serializer, ValueError("no five"), "FAILURE"), True, 5)
    assert (verdict, detail) == ("failed", "FAILURE: ValueError: no five")
    assert meta["task_id"] == ID.decode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        "",
        b"\x80\x04K\x05.",
        b"\xdf\xff\xff\xff\xff",
        "no result",
        "[1",
        "a: [",
        b"\xff\xfe",
        "!!python/name:os.system",
    ],
)
def test_what_is_no_result_is_wrong_and_runs_nothing(text: str | bytes) -> None:
    """A pickle, pieces of each format, and YAML that would make an object."""
    verdict, detail, _ = judge(ID, text, True, 5)
    assert verdict == "wrong"
    assert detail.startswith("the stored value is no result of Celery: ")


@pytest.mark.parametrize(("serializer", "package"), [("msgpack", "msgpack"), ("yaml", "yaml")])
def test_without_its_package_a_serializer_is_not_read(
    serializer: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON is, all the same."""
    text, plain = stored(serializer, 5), stored("json", 5)
    monkeypatch.setattr(values, package, None)
    assert judge(ID, text, True, 5)[0] == "wrong"
    assert judge(ID, plain, True, 5)[0] == "correct"

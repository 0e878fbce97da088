"""A Celery app whose tasks are told apart by how they are sent; the broker's address is in MANY_BROKER."""

import os
from typing import Any

from celery import Celery

app = Celery("many", broker=os.environ.get("MANY_BROKER"), set_as_current=False)
app.conf.update(
    task_default_queue="yellow",
    task_routes={
        "many.routed": {"queue": "many-routed", "priority": 3},
        "many.topical": {"exchange": "many-topic", "exchange_type": "topic", "routing_key": "a.b"},
    },
)


@app.task(name="many.add")  # type: ignore[untyped-decorator]  # Celery carries no types
def add(one: Any, other: Any = None) -> Any:
    """Return the sum."""
    return one + other


@app.task(name="many.routed", ignore_result=True, serializer="pickle")  # type: ignore[untyped-decorator]  # as above
def routed(*args: Any, **kwargs: Any) -> None:
    """Take anything."""


@app.task(name="many.topical", time_limit=9)  # type: ignore[untyped-decorator]  # as above
def topical(*args: Any, **kwargs: Any) -> None:
    """Take anything."""


class Shadowed(app.Task):  # type: ignore[misc,name-defined]  # as above
    """A task that monitors know under a name that its arguments make."""

    def shadow_name(self, args: Any, kwargs: Any, _options: Any) -> str:
        """Return that name."""
        return f"shadow of {args} {kwargs}"


@app.task(name="many.shadowed", base=Shadowed)  # type: ignore[untyped-decorator]  # as above
def shadowed(*args: Any, **kwargs: Any) -> None:
    """Take anything."""

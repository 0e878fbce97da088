"""The remote-control command ``active``, with the tasks of batches."""

from __future__ import annotations

from typing import Any

from celery.worker import control
from celery.worker.control import inspect_command


@inspect_command(alias="dump_active", signature="[safe]", args=[("safe", bool)])  # type: ignore[untyped-decorator]  # Celery carries no types
def active(state: Any, safe: bool = False, **options: Any) -> list[dict[str, Any]]:
    """Answer `celery inspect active`: the tasks that Celery runs by itself, and those of the batches at work."""
    gatherer = getattr(state.consumer, "gatherer", None)
    batches = [batch for batch in gatherer.in_flight if batch.started_at] if gatherer else []
    alone: list[dict[str, Any]] = control.active(state, safe=safe, **options)
    return alone + [task for batch in batches for task in batch.info()]

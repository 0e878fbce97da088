"""What is known of each message of a run before its result: one column a property, in the order of the journals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from taskmill.model import stages
from taskmill.publishing.pace import Pace, turns
from taskmill.publishing.posted import Posted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from taskmill.model.plan import Plan
    from taskmill.publishing.journal import ThreadIds
    from taskmill.results.kinds import Kinds


def columns(
    plan: Plan, folder: Path, threads: Sequence[ThreadIds], kinds: Kinds
) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """Return ``posted``, ``due`` (Unix seconds) and ``queue`` of each message, and the names of the queues.

    ``queue`` is a place among these names. Where the plan has a scenario there is ``kind``, and where that has stages
    ``stage``: places among those of the plan.
    """
    places: dict[bytes, int] = {}
    queue = [places.setdefault(queue, len(places)) for one in threads for _, queue in one.lines]
    posted = np.concatenate([thread.posted for thread in threads])
    found = {"posted": posted, "queue": np.array(queue, dtype=np.uint16)}
    due = due_moments(plan, folder, threads, posted)
    if kinds.names:
        due = due + kinds.countdowns[kinds.places]
        found["kind"] = kinds.places
    if plan.stages:
        numbers = [turns(plan, place)[: len(one.lines)] for place, one in enumerate(threads)]
        found["stage"] = stages.place(plan.stages, np.concatenate(numbers))
    found["due"] = due
    return found, [queue.decode() for queue in places]


def due_moments(
    plan: Plan, folder: Path, threads: Sequence[ThreadIds], posted: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return when each message was due to be sent: by the pace where there is one, else when it was posted."""
    earlier = Posted.load(folder)
    if not plan.paced or earlier is None or earlier.due_from is None:
        return posted
    paces = [Pace.of(plan, place, earlier.due_from) for place in range(len(threads))]
    return np.concatenate(
        [pace.moments[: len(thread.lines)] for pace, thread in zip(paces, threads, strict=True) if pace is not None]
    )

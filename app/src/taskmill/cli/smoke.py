"""One message of each kind, run and compared: whether a scenario is right before a load is made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from taskmill.model.record import Spread
from taskmill.model.run_folder import read_faults

if TYPE_CHECKING:
    from pathlib import Path

    from taskmill.model.plan import Plan, Route
    from taskmill.model.record import Kind, RunRecord


def smoke_plan(plan: Plan) -> Plan:
    """Return the plan of the first message of each kind."""
    routes = tuple(replace(route, weight=1) for route in plan.routes)
    return replace(
        plan,
        name=f"{plan.name}-smoke",
        routes=routes,
        tasks=len(routes),
        threads=1,
        processes=1,
        rate=None,
        stages=(),
        thresholds=(),
        faults=(),
        profile=False,
    )


def outcomes(plan: Plan, record: RunRecord, folder: Path) -> list[str]:
    """Return a line for each kind of a run of :func:`smoke_plan`: what came of its message."""
    path = folder / "faults.jsonl"
    faults = {fault["kind"]: fault for fault in read_faults(path, None) if "kind" in fault} if path.exists() else {}
    width = max(map(len, plan.kinds))
    return [
        f"{route.name:{width}}  {outcome(route, record.by_kind[route.name], faults.get(route.name))}"
        if route.name in record.by_kind
        else f"{route.name:{width}}  not fetched"
        for route in plan.routes
    ]


def outcome(route: Route, kind: Kind, fault: dict[str, str] | None) -> str:
    """Return what came of a kind's message, in words."""
    if fault is not None:
        return f"{fault['outcome']}: {fault['detail']}"
    if not kind.correct:
        return "ended; it stores no result" if kind.acknowledged else "has no result"
    words = {"nothing": "ended well; there is nothing to compare", "fails": "failed, as it has to"}
    how = words.get(route.right.how if route.right else "nothing", "right")
    return f"{how} ({kind.latency.p50:,.3g} s)" if isinstance(kind.latency, Spread) and kind.latency.count else how

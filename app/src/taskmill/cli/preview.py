"""What a load would publish, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskmill.model.quoting import quote
from taskmill.workload.calls import Calls

if TYPE_CHECKING:
    from taskmill.model.plan import Plan, Right
    from taskmill.workload.calls import Kind

#: Messages of each kind that are shown.
SHOWN = 5


def preview(plan: Plan) -> str:
    """Return the stages and faults, where there are some, and the first messages of each kind with what is right.

    Raises ``TaskmillError`` where a function of the scenario fails.
    """
    lines = [timing(plan)] if plan.stages else []
    if plan.faults:
        lines.append(f"faults, injected by run-load.yml alone: {', '.join(map(str, plan.faults))}")
    for place, kind in enumerate(Calls(plan).kinds):
        lines.append(heading(plan, place))
        lines += messages(kind)
    return "\n".join(lines)


def timing(plan: Plan) -> str:
    """Return the line about how many messages there are, and when they are due."""
    due = sum(stage.tasks for stage in plan.stages)
    cut = f" of {due:,}" if plan.tasks < due else ""
    return f"{plan.tasks:,}{cut} messages: {'; '.join(map(str, plan.stages))}"


def heading(plan: Plan, place: int) -> str:
    """Return the line about a kind."""
    route = plan.routes[place]
    name = f"{route.name}: " if route.name else ""
    priority = f", priority {route.priority}" if route.priority is not None else ""
    countdown = f", due {route.countdown:g} s after it is sent" if route.countdown else ""
    share = f"{plan.slots.count(place)} of {len(plan.slots)} messages"
    return f"{name}{route.task} to the queue {route.queue}, {share}{priority}{countdown}"


def messages(kind: Kind) -> list[str]:
    """Return a line for each of the first messages of a kind; one, where all are the same."""
    if kind.only is not None:
        return [f"  every one: ({quote(str(kind.only), plain=True)}) {outcome(kind.right(0))}"]
    return [
        f"  {number + 1}: ({quote(str(kind.call(number)), plain=True)}) {outcome(kind.right(number))}"
        for number in range(SHOWN)
    ]


def outcome(right: Right) -> str:
    """Return what is right, in words."""
    if right.how == "fails":
        return f"has to fail with {right.value}"
    return f"has to return {quote(right.value)}" if right.how == "value" else "may return anything"

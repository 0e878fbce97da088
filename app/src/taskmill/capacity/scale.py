"""What holds a cluster back at its highest steady rate, and what more worker hosts would bring: from measured figures.

The extrapolation is a straight line with ceilings. It is no promise: what it takes for granted is said beside it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmill.capacity.steady import NOT_OFFERED, STEADY
from taskmill.report import cpu_breakdown, run_folder
from taskmill.report.plain_data import as_dict, as_list
from taskmill.report.text import percent, rate, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from taskmill.report.run_folder import Run

#: Share of its time from which on a machine, or a pool, counts as busy: what is left is too uneven to be used.
BUSY = 0.8
#: Parts of the landscape that all worker hosts share, with the group of hosts that they run on; and all parts.
SHARED = {"broker": "broker", "result store": "results"}
GROUPS = {"workers": "workers", **SHARED, "client": "client"}


@dataclass(frozen=True)
class Ceiling:
    """A rate that more worker hosts do not lift, and where it comes from."""

    part: str
    rate: float
    source: str


def look(folder: Path, data: dict[str, Any], hosts: Sequence[int]) -> dict[str, Any]:
    """Return ``limit``, ``ceilings`` and ``extrapolation`` of a search; empty ones as long as it has no answer."""
    if not data["answer"]:
        return {"limit": None, "ceilings": [], "extrapolation": []}
    steady = [load for load in data["loads"] if load["state"] == STEADY]
    load = min(steady, key=lambda one: abs(one["rate"] - data["answer"]["rate"]))
    path = folder / load["folder"]
    run = run_folder.read(path) if path.is_dir() else None
    sampled = run if run is not None and (run.unit_samples or run.host_samples) else None
    limit = held_by(data, load, sampled)
    found = ceilings(data, sampled)
    return {
        "limit": limit,
        "ceilings": [asdict(one) for one in found],
        "extrapolation": extrapolate(data, limit["part"], found, hosts),
    }


def held_by(data: dict[str, Any], load: dict[str, Any], run: Run | None) -> dict[str, str]:
    """Return the part that holds the cluster back, and by which figures."""
    above = [one for one in data["loads"] if one["state"] != STEADY and one["rate"] > data["answer"]["rate"]]
    nearest = min(above, key=lambda one: one["rate"], default=None)
    if nearest is not None and nearest["state"] == NOT_OFFERED:
        return {
            "part": "client",
            "text": f"the client: asked for {rate(nearest['rate'])} it posted up to {seconds(nearest['late_s'])} late. "
            f"More posting processes, or another client, may show that the cluster does more, if the broker takes it",
        }
    busy = load["busy"]
    pools = f"the pool processes were in tasks for {percent(busy)} of the time" if busy is not None else ""
    cores = fullest(run) if run is not None else None
    if run is not None and cores is not None:
        parts = ", ".join(f"{name} {percent(of)}" for name, of in largest(run))
        figures = f"{', '.join(cores.hosts)} {percent(cores.busy)} busy ({parts}); {pools}".strip("; ")
        if cores.busy >= BUSY:
            return {"part": cores.part, "text": f"the cores: {figures}"}
        if busy is None or busy < BUSY:
            hint = "Other worker settings may help (playbooks/tune.yml)"
            return {"part": "between", "text": f"the way between queue and task, not the cores: {figures}. {hint}"}
    if busy is not None and busy >= BUSY:
        return {"part": "workers", "text": f"the workers: {pools}"}
    hint = "not known without samples of the hosts, which playbooks/capacity.yml takes"
    return {"part": "not known", "text": f"{hint}; {pools}".strip("; ")}


@dataclass(frozen=True)
class Cores:
    """A machine: the hosts on it, the share of its cores' time that was used, and the part whose machine it is."""

    hosts: list[str]
    busy: float
    part: str


def fullest(run: Run) -> Cores | None:
    """Return the machine whose cores were the busiest; ``None`` where none was sampled."""
    known, by_name = run.environment("hosts"), {host.name: host for host in run.host_samples}
    found = []
    for machine in cpu_breakdown.machines(run):
        host = next((by_name[name] for name in machine.hosts if name in by_name), None)
        if host is None:
            continue
        groups = {group for name in machine.hosts for group in as_list(as_dict(known.get(name)).get("groups"))}
        parts = [part for part, group in GROUPS.items() if group in groups]
        # A machine that is shared has no single part to blame.
        alone = len(parts) == 1 or (parts and "workers" not in parts)
        found.append(Cores(machine.hosts, host.mean_busy() / 100, parts[0] if alone else "cores"))
    return max(found, key=lambda one: one.busy, default=None)


def largest(run: Run) -> list[tuple[str, float]]:
    """Return the parts that took the most of all cores' time, with their shares."""
    breakdown = cpu_breakdown.measure(run)
    if breakdown is None:
        return []
    idle = cpu_breakdown.IDLE
    parts = [(part.name, part.share) for part in breakdown.parts if part.name != idle and part.share >= 0.05]
    return sorted(parts, key=lambda one: -one[1])


def ceilings(data: dict[str, Any], run: Run | None) -> list[Ceiling]:
    """Return what more worker hosts do not lift."""
    posted = data["unpaced"]["posted_per_s"]
    found = [Ceiling("client", posted, "as fast as one client posted, without a pace, while the workers worked")]
    if run is None or run.start is None or not run.record.counts.retrieved:
        return found
    used = cpu_breakdown.cpu_by_part(run, np.array([run.start, run.start + run.seconds]))
    machines = {name: machine for machine in cpu_breakdown.machines(run) for name in machine.hosts}
    for part, group in SHARED.items():
        cores = {
            id(machines[name]): machines[name].cores
            for name in cpu_breakdown.group_hosts(run, group)
            if name in machines
        }
        spent = float(used[part][1] - used[part][0]) if part in used else 0.0
        if cores and spent > 0:
            each, number = spent / run.record.counts.retrieved, sum(cores.values())
            found.append(
                Ceiling(
                    part,
                    number / each,
                    f"{seconds(each)} of its CPU per task, on {number} cores that it has for itself",
                )
            )
    return found


def extrapolate(
    data: dict[str, Any], limit: str, ceilings: Sequence[Ceiling], hosts: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the rates of that many worker hosts, and what holds each."""
    now, each = data["unpaced"]["worker_hosts"], data["answer"]["rate"]
    rows = []
    for number in sorted({now, *hosts}):
        grown = each * number / now
        bounds = {one.part: one.rate for one in ceilings if one.rate < grown}
        if limit in {"client", *SHARED} and number > now:
            bounds[limit] = each
        part = min(bounds, key=lambda name: bounds[name]) if bounds and number != now else limit
        rows.append(
            {
                "worker_hosts": number,
                "rate": min([grown, *bounds.values()]) if number != now else grown,
                "held_by": part,
            }
        )
    return rows


def assumption(data: dict[str, Any]) -> str:
    """Return what the extrapolation takes for granted."""
    now = data["unpaced"]["worker_hosts"]
    sentence = (
        f"It takes for granted that each further worker host, with cores of its own, does what "
        f"{f'each of these {now}' if now > 1 else 'this one'} did, and that no ceiling is lower than measured:"
    )
    listed = "; ".join(f"{one['part']} {rate(one['rate'])} ({one['source']})" for one in data["ceilings"])
    tail = ". A single queue is one process of the broker, so its ceiling needs at least as many queues as cores"
    return f"{sentence} {listed}{tail if any(one['part'] == 'broker' for one in data['ceilings']) else ''}."

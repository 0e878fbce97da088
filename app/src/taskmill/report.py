"""``report.html`` of a run: one file that needs nothing else, made from ``run.json`` and the files beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from taskmill import collect, hosts, plan, profile, queues, record
from taskmill.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Size of a chart's plane in SVG units, and the most points that it draws.
WIDTH, HEIGHT, POINTS = 720, 160, 240
FAULTS_SHOWN = 50
FUNCTIONS_SHOWN = 25


@dataclass(frozen=True)
class Curve:
    """A line of a chart: a name and the points of an SVG polyline."""

    name: str
    points: str
    last: str


@dataclass(frozen=True)
class Chart:
    """A line chart over the seconds of the run."""

    title: str
    unit: str
    top: float
    seconds: float
    curves: list[Curve]
    #: Where posting ended, as an x in SVG units.
    posted_x: float | None


@dataclass(frozen=True)
class Strip:
    """One host's cores over time: for each core its name, its mean and rectangles ``(x, width, opacity)``."""

    host: str
    mean: float
    peak_memory: float | None
    seconds: float
    cores: list[tuple[str, float, list[tuple[float, float, float]]]]


def write(folder: Path) -> Path:
    """Write ``report.html`` and return its path; raise ``TaskmillError`` when the folder is no run folder.

    Files that are missing or cut short make a shorter report that names them.
    """
    if not (folder / "plan.json").exists() and not (folder / "run.json").exists():
        raise TaskmillError(f"{folder} is no run folder: it has neither plan.json nor run.json")
    environment = Environment(
        loader=PackageLoader("taskmill"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    page = environment.get_template("report.html.j2").render(**content(folder))
    path = folder / "report.html"
    temporary = path.with_name(".report.html")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def content(folder: Path) -> dict[str, Any]:
    """Return what the template shows: plain data, with ``missing`` naming what the folder lacks."""
    missing: list[str] = []
    data = record.load(folder)
    if data is not None:
        data = complete(data)
    else:
        missing.append(
            "run.json: the run was not recorded to its end; `taskmill collect` of this folder fetches the "
            "results by the ids on disk and records it"
        )
    start = begin(data)
    total = float(data["seconds"]["total"]) if data else 0.0
    posted = float(data["seconds"]["post"]) if data else None
    return {
        "folder": folder.name,
        "plan": plan.read_json(folder / "plan.json") or {},
        "run": data,
        "headline": record.headline(data) if data else "This run has no record.",
        "good": bool(data and not data["problems"] and data["state"] == record.COMPLETE),
        "depth": depth(folder, data["workload"]["queues"] if data else [], start, posted, missing),
        "strips": strips(folder, start, total, missing),
        "functions": functions(folder, missing),
        "faults": faults(folder, missing),
        "faults_shown": FAULTS_SHOWN,
        "missing": missing,
        "width": WIDTH,
        "height": HEIGHT,
    }


def complete(data: dict[str, Any]) -> dict[str, Any]:
    """Return a record with every key that the report reads, so that one cut down by hand still makes a page."""
    counts = dict.fromkeys(
        ("posted", "confirmed", "distinct", "retrieved", "correct", "wrong", "failed", "lost", "duplicates"), 0
    )
    workload = {"task": "", "tasks": 0, "n": None, "queues": [], "threads": 0, "processes": 0}
    sections: dict[str, dict[str, Any]] = {
        "workload": workload,
        "counts": counts,
        "seconds": {"post": 0.0, "collect": 0.0, "total": 0.0},
        "rates": {"posted_per_s": 0.0, "completed_per_s": 0.0},
        "client": {},
        "environment": {},
        "memcached": {},
        "by_queue": {},
    }
    plain = {
        "schema": 0,
        "name": "",
        "started_at": "",
        "stack": "",
        "efficiency": None,
        "state": record.STOPPED,
        "duplicates_from": "",
        "checked": True,
        "workers": [],
        "problems": [],
    }
    whole = {**plain, **data}
    for name, default in sections.items():
        given = data.get(name)
        whole[name] = {**default, **(given if isinstance(given, dict) else {})}
    return whole


def begin(data: dict[str, Any] | None) -> float | None:
    """Return when the run began, in Unix seconds; ``None`` where it is not known."""
    try:
        return datetime.fromisoformat(str((data or {})["started_at"]).replace("Z", "+00:00")).timestamp()
    except (KeyError, ValueError):
        return None


def depth(
    folder: Path, order: list[str], start: float | None, posted: float | None, missing: list[str]
) -> Chart | None:
    """Return the chart of the queues' depths, the queues in the order given and any others after them."""
    try:
        series = queues.read(folder / "queues.csv")
    except OSError:
        series = {}
    series = {queue: points for queue, points in series.items() if points}
    if not series:
        missing.append("queues.csv: no depths of the queues were sampled")
        return None
    first = start if start is not None else min(points[0][0] for points in series.values())
    last = max(points[-1][0] for points in series.values())
    seconds = max(1.0, last - first)
    top = max(1, *(ready for points in series.values() for _, ready in points))
    curves = []
    for queue in [*(queue for queue in order if queue in series), *sorted(set(series) - set(order))]:
        points = series[queue]
        at = [(max(0.0, when - first) / seconds * WIDTH, HEIGHT - ready / top * HEIGHT) for when, ready in thin(points)]
        curves.append(
            Curve(queue, " ".join(f"{x:.1f},{y:.1f}" for x, y in at), number(max(ready for _, ready in points)))
        )
    posted_x = posted / seconds * WIDTH if posted and posted < seconds else None
    return Chart("Messages waiting in the queues", "messages", top, seconds, curves, posted_x)


def strips(folder: Path, start: float | None, total: float, missing: list[str]) -> list[Strip]:
    """Return the CPU strips of the hosts that left samples."""
    found = []
    for path in sorted((folder / "hosts").glob("*.json")):
        try:
            host = hosts.read(path, *((start - 2, start + total + 2) if start is not None and total else ()))
        except ValueError as error:
            missing.append(f"hosts/{error}")
            continue
        if not host.times:
            missing.append(f"hosts/{path.name}: no samples from the time of the run")
            continue
        seconds = max(1.0, host.times[-1] - host.times[0])
        cores = [(core, host.mean(core), cells(host.busy[core])) for core in host.cores]
        found.append(Strip(host.name, host.mean(), max(host.memory, default=None), seconds, cores))
    if not found:
        missing.append("hosts/: no samples of the hosts' CPUs")
    return found


def cells(values: Sequence[float]) -> list[tuple[float, float, float]]:
    """Return rectangles ``(x, width, opacity)`` for percent values over time, means where there are many."""
    number_of = min(len(values), POINTS)
    wide = WIDTH / number_of
    found = []
    for index in range(number_of):
        part = values[index * len(values) // number_of : (index + 1) * len(values) // number_of]
        found.append((round(index * wide, 2), round(wide, 2), round(sum(part) / len(part) / 100, 3)))
    return found


def thin(points: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return at most about ``POINTS`` of the points, the last among them."""
    step = max(1, len(points) // POINTS)
    kept = list(points[::step])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def functions(folder: Path, missing: list[str]) -> list[tuple[str, int, float, float]]:
    """Return the top of the profile."""
    path = folder / "profile.pstats"
    if not path.exists():
        missing.append("profile.pstats: the client was not profiled")
        return []
    try:
        return profile.top(path, FUNCTIONS_SHOWN)
    except (OSError, ValueError, TypeError, EOFError):
        missing.append("profile.pstats: it cannot be read")
        return []


def faults(folder: Path, missing: list[str]) -> list[dict[str, Any]]:
    """Return the first faults."""
    try:
        return [
            {name: str(fault.get(name, "")) for name in ("outcome", "queue", "id", "detail")}
            for fault in collect.read_faults(folder / "faults.jsonl", FAULTS_SHOWN)
        ]
    except OSError:
        missing.append("faults.jsonl: the results were not collected to their end")
        return []


def number(value: Any) -> str:
    """Return a number for people; other values as JSON, text as it is."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

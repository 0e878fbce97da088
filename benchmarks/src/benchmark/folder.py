"""Several ways to do the same work, measured in turn: the half of ``playbooks/compare-peers.yml`` that thinks.

A folder holds ``benchmark.json`` and a file for each measurement, ``measured/ROUND/WORKLOAD/CONTENDER.json``. The
former:

* ``rounds``; ``command`` (does it all again); ``environment`` (text by name).
* ``contenders``, the order in which they take turns: ``name``, ``title``, ``role`` (one of :data:`ROLES`), ``settings``
  (text by name), and where they differ from the others ``rounds``, ``workloads`` (names) and ``share`` (of a workload's
  tasks, by its name); ``how`` is the playbook's.
* ``workloads``: ``name``, ``n`` and ``tasks``, and ``rounds`` where there are fewer.

A measurement holds ``tasks``, of which ``correct``, ``wrong`` and ``lost``; ``post_s`` and ``total_s``, seconds from
the first post; ``cpu_s``, CPU seconds by part; and, where it was asked for, ``function_s`` (CPU seconds of the bare
function per task), ``memory_bytes`` (the client's most), ``fetch_s`` (fetching results that are all there) and
``after_last_s`` (from the last task's end to the last result). Or ``failed``: why there is none.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from taskmill.model.errors import TaskmillError
from taskmill.model.plan import read_json, write_json
from taskmill.report.text import UNKNOWN, number, percent, rate, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

NAME = "benchmark.json"
TABLE = "table.json"
PAGE = "benchmark.md"
MEASURED = "measured"

#: What a contender is to the figures: taskmill itself, and on the fastest interpreter; the post's stack as the post ran
#: it; other task queues; a bare multiprocessing pool; the bare client library, which is the broker's ceiling.
OURS, FASTEST, POST, PEER, POOL, CEILING = ROLES = ("ours", "fastest", "post", "peer", "pool", "ceiling")
#: Workloads that figures are about.
TINY, MIDDLING, HEAVY = "tiny", "middling", "heavy"
POSTING = {processes: f"posting-{processes}" for processes in (1, 2, 3)}
SMALLER, LARGER = "growth-100000", "growth-1000000"
SIZES = {SMALLER: 100_000, LARGER: 1_000_000}
#: Parts whose CPU makes up the whole of a task queue.
PARTS = ("client", "broker", "workers", "results")
#: Times one process that three have to post to be near-linear: four fifths of three.
NEAR_LINEAR = 2.4

REACHED, MISSED, NOT_MEASURED = "reached", "missed", "not measured"


@dataclass(frozen=True)
class Contender:
    """One way to do the work."""

    name: str
    title: str
    role: str
    settings: dict[str, str]
    rounds: int | None = None
    workloads: list[str] | None = None
    share: dict[str, float] = field(default_factory=dict)
    how: dict[str, Any] = field(default_factory=dict)

    def size(self, workload: Workload) -> int:
        """Return how many tasks it has at a workload."""
        return max(1, round(workload.tasks * self.share.get(workload.name, 1)))


@dataclass(frozen=True)
class Workload:
    """So many tasks, each of which computes the ``n``-th Fibonacci number."""

    name: str
    n: int
    tasks: int
    rounds: int | None = None
    #: The right result.
    expect: int | None = None


@dataclass(frozen=True)
class Turn:
    """One measurement that is to be made; ``file`` is where it belongs, below the folder."""

    round: int
    workload: str
    contender: str
    n: int
    tasks: int
    expect: int | None
    file: str


@dataclass(frozen=True)
class Cell:
    """What came of one contender at one workload: a measurement a round, and why others came to nothing."""

    measured: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def over(self, figure: Callable[[dict[str, Any]], float | None]) -> list[float]:
        """Return a figure of every measurement that has it."""
        return [value for one in self.measured if (value := figure(one)) is not None]

    def count(self, key: str) -> int:
        """Return a count over all rounds."""
        return sum(one[key] for one in self.measured)

    @property
    def whole(self) -> bool:
        """Whether every round came to its end with every result right."""
        return bool(self.measured) and not self.failures and not self.count("wrong") and not self.count("lost")


@dataclass(frozen=True)
class Benchmark:
    """All that a folder holds."""

    rounds: int
    command: str
    environment: dict[str, str]
    contenders: list[Contender]
    workloads: list[Workload]
    #: By workload and contender.
    cells: dict[tuple[str, str], Cell]

    def of(self, role: str) -> list[Contender]:
        """Return the contenders of a role."""
        return [one for one in self.contenders if one.role == role]

    def cell(self, role: str, workload: str) -> Cell:
        """Return what came of the only contender of a role; an empty cell where there is none."""
        names = [one.name for one in self.of(role)]
        return self.cells.get((workload, names[0]), Cell()) if names else Cell()


@dataclass(frozen=True)
class Verdict:
    """Whether a figure is reached: what it is, what it has to be, what came, and how far the rounds were apart."""

    figure: str
    goal: str
    came: str
    spread: str
    verdict: str
    reason: str = ""


def finished(one: dict[str, Any]) -> float | None:
    """Return right results per second from the first post to the last result; a lost task is none."""
    return one["correct"] / one["total_s"] if one["total_s"] > 0 else None


def posted(one: dict[str, Any]) -> float | None:
    """Return tasks posted per second."""
    return one["tasks"] / one["post_s"] if one["post_s"] > 0 else None


def cost(one: dict[str, Any]) -> float | None:
    """Return CPU seconds per task over all parts; ``None`` unless every part was measured."""
    return sum(one["cpu_s"][part] for part in PARTS) / one["tasks"] if set(PARTS) <= set(one["cpu_s"]) else None


def overhead(one: dict[str, Any]) -> float | None:
    """Return CPU seconds per task over all parts, without the function's own."""
    whole = cost(one)
    return whole - one["function_s"] if whole is not None and "function_s" in one else None


def plain(key: str) -> Callable[[dict[str, Any]], float | None]:
    """Return what gives that key of a measurement."""
    return lambda one: one.get(key)


def read(folder: Path) -> Benchmark:
    """Return what a folder holds; raise ``TaskmillError`` for one that is none, or mixes what cannot be compared."""
    data = read_json(folder / NAME)
    if data is None:
        raise TaskmillError(f"{folder} holds no {NAME}: give the folder that playbooks/compare-peers.yml named")
    try:
        benchmark = Benchmark(
            int(data["rounds"]),
            data["command"],
            data["environment"],
            [Contender(**one) for one in data["contenders"]],
            [Workload(**one) for one in data["workloads"]],
            {},
        )
    except (KeyError, TypeError) as error:
        raise TaskmillError(f"{folder / NAME} cannot be read: {error}. It is written by compare-peers.yml") from error
    strange = {one.role for one in benchmark.contenders} - set(ROLES)
    if strange:
        raise TaskmillError(
            f"{folder / NAME}: no such role: {', '.join(sorted(strange))}; there are {', '.join(ROLES)}"
        )
    for one in benchmark.workloads:
        if one.tasks != SIZES.get(one.name, one.tasks):
            raise TaskmillError(f"{folder / NAME}: {one.name} has {one.tasks:,} tasks; another size needs another name")
    for turn in turns(benchmark):
        found = read_json(folder / turn.file)
        cell = benchmark.cells.setdefault((turn.workload, turn.contender), Cell())
        if found is None:
            continue
        if "failed" in found:
            cell.failures.append(" ".join(str(found["failed"]).split()))
            continue
        check(found, turn, folder)
        cell.measured.append(found)
    return benchmark


def check(found: dict[str, Any], turn: Turn, folder: Path) -> None:
    """Raise ``TaskmillError`` for a measurement of another size, or one whose counts leave tasks out."""
    path = folder / turn.file
    if found["tasks"] != turn.tasks:
        raise TaskmillError(f"{path} was measured with {found['tasks']:,} tasks, not {turn.tasks:,}: take a new folder")
    if found["correct"] + found["wrong"] + found["lost"] != found["tasks"]:
        raise TaskmillError(f"{path}: correct, wrong and lost do not make up its {found['tasks']:,} tasks: remove it")


def turns(benchmark: Benchmark) -> list[Turn]:
    """Return every measurement in order: rounds, in them workloads, in them contenders, each round from another on."""
    every = []
    for place in range(benchmark.rounds):
        first = place % max(1, len(benchmark.contenders))
        for workload in benchmark.workloads:
            for one in benchmark.contenders[first:] + benchmark.contenders[:first]:
                rounds = min(most for most in (benchmark.rounds, one.rounds, workload.rounds) if most is not None)
                if place < rounds and (one.workloads is None or workload.name in one.workloads):
                    file = f"{MEASURED}/{place + 1}/{workload.name}/{one.name}.json"
                    size = one.size(workload)
                    every.append(Turn(place + 1, workload.name, one.name, workload.n, size, workload.expect, file))
    return every


def left(folder: Path) -> list[dict[str, Any]]:
    """Return what is still to be measured, in order; one that failed is not tried again."""
    return [asdict(turn) for turn in turns(read(folder)) if read_json(folder / turn.file) is None]


#: Units by the part that they are of.
UNITS = {
    "rabbitmq-server.service": "broker",
    "memcached.service": "results",
    "redis-server.service": "results",
    "celery-worker@": "workers",
    "peer-worker@": "workers",
}


def keep(folder: Path, file: str, heard: dict[str, Any]) -> dict[str, Any]:
    """Write the measurement that a playbook heard of, and return it.

    ``heard`` holds ``output`` and ``error`` (what the load wrote) and ``code`` (how it ended), ``before`` and ``after``
    (CPU seconds by unit, a dict for each host). The output is what ``python -m peers load`` prints, or ``run.json``; a
    second one may follow, of the same run with its results fetched once more. Raises ``TaskmillError`` where ``file``
    is no measurement that is left to be made.
    """
    turn = next((turn for turn in left(folder) if turn["file"] == file), None)
    if turn is None:
        raise TaskmillError(f"{file} is not to be measured in {folder}, or was already")
    try:
        found = {**outcome(list(documents(heard["output"]))), "exit_code": heard["code"]}
        if found["tasks"] != turn["tasks"]:
            raise ValueError(f"it is about {found['tasks']:,} tasks, not {turn['tasks']:,}")
        client = found.pop("cpu_s")
        found["cpu_s"] = {"client": client, **spent(heard["before"], heard["after"])}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        said = " ".join(heard["error"].split())[-300:]
        found = {"failed": said or f"its output cannot be read: {error!r}", "exit_code": heard["code"]}
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    return found


def documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects that stand one after the other in a text; raise ``ValueError`` for anything else."""
    decoder, place = json.JSONDecoder(), 0
    text = text.strip()
    while place < len(text):
        found, end = decoder.raw_decode(text, place)
        yield found
        place = end + len(text[end:]) - len(text[end:].lstrip())


def outcome(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a measurement without its parts; ``cpu_s`` is the client's alone."""
    record = records[0]
    if "counts" not in record:
        return record
    counts, tasks = record["counts"], record["workload"]["tasks"]
    posted_only = not record["seconds"]["collect"]
    found = {
        "tasks": tasks,
        "correct": counts["confirmed" if posted_only else "correct"],
        "wrong": counts["wrong"],
        "post_s": record["seconds"]["post"],
        "total_s": record["seconds"]["total"],
        "cpu_s": record["client"]["cpu_seconds"],
        "memory_bytes": record["client"]["peak_memory_bytes"],
    }
    found["lost"] = tasks - found["correct"] - found["wrong"]
    if (record.get("task_seconds") or {}).get("cpu"):
        found["function_s"] = record["task_seconds"]["cpu"] / tasks
    if record["client"].get("after_last_s") is not None:
        found["after_last_s"] = record["client"]["after_last_s"]
    if len(records) > 1:
        found["fetch_s"] = records[1]["seconds"]["collect"]
    return found


def spent(before: list[dict[str, float]], after: list[dict[str, float]]) -> dict[str, float]:
    """Return the CPU seconds by part between two looks at the hosts' units; one that began meanwhile counts whole."""
    parts = dict.fromkeys(PARTS[1:], 0.0)
    for then, now in zip(before, after, strict=True):
        for unit, seconds in now.items():
            part = next((part for prefix, part in UNITS.items() if unit.startswith(prefix)), None)
            if part:
                parts[part] += seconds - then.get(unit, 0.0)
    return parts


def between(values: Sequence[float], write: Callable[[float], str]) -> str:
    """Return the lowest and the highest."""
    return f"{write(min(values))} to {write(max(values))}" if values else UNKNOWN


def times(value: float) -> str:
    """Return a ratio."""
    return f"{value:.2f} x"


def milliseconds(value: float) -> str:
    """Return seconds as milliseconds."""
    return f"{1000 * value:.3f} ms"


def short(value: float) -> str:
    """Return seconds."""
    return f"{value:.1f} s"


def at_least(
    figure: str, goal: float, mine: Cell, theirs: list[float], write: Callable[[float], str] = times
) -> Verdict:
    """Return the verdict on the ratio of finished tasks per second, of medians; the spread is that of the extremes."""
    return ratio(figure, goal, mine, mine.over(finished), theirs, write)


def ratio(
    figure: str, goal: float, mine: Cell, ours: list[float], theirs: list[float], write: Callable[[float], str]
) -> Verdict:
    """Return the verdict on the ratio of medians, ours to theirs, which has to be at least ``goal``."""
    text = f"at least {write(goal)}"
    if not ours or not theirs or not min(theirs):
        return unmeasured(figure, text, mine)
    value = median(ours) / median(theirs)
    spread = f"{write(min(ours) / max(theirs))} to {write(max(ours) / min(theirs))}"
    return judged(figure, text, write(value), spread, mine, reached=value >= goal)


def at_most(
    figure: str, goal: float, mine: Cell, values: list[float], write: Callable[[float], str], *, under: bool = False
) -> Verdict:
    """Return the verdict on a median of ours that may be at most ``goal``, or has to be under it."""
    text = f"{'under' if under else 'at most'} {write(goal)}"
    if not values:
        return unmeasured(figure, text, mine)
    value = median(values)
    return judged(
        figure, text, write(value), between(values, write), mine, reached=value < goal if under else value <= goal
    )


def judged(figure: str, goal: str, came: str, spread: str, mine: Cell, *, reached: bool) -> Verdict:
    """Return a verdict; no figure is reached by a contender that lost tasks."""
    if not mine.whole:
        return Verdict(figure, goal, came, spread, MISSED, trouble(mine))
    return Verdict(figure, goal, came, spread, REACHED if reached else MISSED)


def unmeasured(figure: str, goal: str, mine: Cell) -> Verdict:
    """Return that there is nothing to judge; what was tried and failed is missed."""
    if mine.failures:
        return Verdict(figure, goal, UNKNOWN, UNKNOWN, MISSED, trouble(mine))
    return Verdict(figure, goal, UNKNOWN, UNKNOWN, NOT_MEASURED)


def trouble(cell: Cell) -> str:
    """Return what is not right with a cell."""
    found = [f"{cell.count(key):,} {key}" for key in ("wrong", "lost") if cell.count(key)]
    return "; ".join(found + [f"failed: {reason}" for reason in cell.failures])


def verdicts(benchmark: Benchmark) -> list[Verdict]:
    """Return the verdict on every figure."""

    def ours(workload: str, role: str = OURS) -> Cell:
        return benchmark.cell(role, workload)

    def rates(role: str, workload: str) -> list[float]:
        return benchmark.cell(role, workload).over(finished)

    larger = ours(LARGER)
    return [
        at_least("tiny, to the post's stack", 5, ours(TINY), rates(POST, TINY)),
        best_of_peers(benchmark, 3),
        at_least("middling, to a bare pool", 0.70, ours(MIDDLING), rates(POOL, MIDDLING), percent),
        at_least("middling, to the post's stack", 2.5, ours(MIDDLING), rates(POST, MIDDLING)),
        at_least("heavy, to a bare pool", 0.96, ours(HEAVY), rates(POOL, HEAVY), percent),
        at_least("heavy on the fastest interpreter, to a bare pool", 4, ours(HEAVY, FASTEST), rates(POOL, HEAVY)),
        posting(benchmark, 10_000, 0.85),
        ratio(
            "posting, three processes to one",
            NEAR_LINEAR,
            both(ours(POSTING[3]), ours(POSTING[1])),
            ours(POSTING[3]).over(posted),
            ours(POSTING[1]).over(posted),
            times,
        ),
        at_most("collecting a million results", 40, larger, larger.over(plain("fetch_s")), short, under=True),
        at_most("collecting, after the last task", 10, larger, larger.over(plain("after_last_s")), short),
        at_most(
            "CPU per tiny task, without the function", 0.30e-3, ours(TINY), ours(TINY).over(overhead), milliseconds
        ),
        growth(ours(SMALLER), larger),
        at_most(
            "client's memory at a million tasks", 600e6, larger, larger.over(plain("memory_bytes")), size, under=True
        ),
    ]


def both(one: Cell, other: Cell) -> Cell:
    """Return two cells as one, for a figure that is about both."""
    return Cell(one.measured + other.measured, one.failures + other.failures)


def best_of_peers(benchmark: Benchmark, goal: float) -> Verdict:
    """Return the verdict on the fastest of the peers; one never tried leaves it open, one that failed does not."""
    cells = {one.title: benchmark.cells.get((TINY, one.name), Cell()) for one in benchmark.of(PEER)}
    untried = [title for title, cell in cells.items() if not cell.measured and not cell.failures]
    values = {title: found for title, cell in cells.items() if (found := cell.over(finished))}
    mine = benchmark.cell(OURS, TINY)
    if untried or not values:
        verdict = unmeasured("tiny, to the best peer", f"at least {times(goal)}", mine)
        reason = f"not tried: {', '.join(untried)}" if untried else "no peer came to its end"
        return Verdict(**asdict(verdict) | {"reason": verdict.reason or reason})
    best = max(values, key=lambda title: median(values[title]))
    return at_least(f"tiny, to the best peer ({best})", goal, mine, values[best])


def posting(benchmark: Benchmark, goal: float, share: float) -> Verdict:
    """Return the verdict on posting by one process: so many a second, or that share of what the bare library does."""
    mine, name = benchmark.cell(OURS, POSTING[1]), "posting, one process"
    values, ceiling = mine.over(posted), benchmark.cell(CEILING, POSTING[1]).over(posted)
    text = f"at least {rate(goal)}, or {percent(share)} of bare py-amqp"
    if not values:
        return unmeasured(name, text, mine)
    reached, came = median(values) >= goal, rate(median(values))
    if ceiling:
        part = median(values) / median(ceiling)
        reached, came = reached or part >= share, f"{came}, {percent(part)}"
    elif not reached:
        return unmeasured(name, text, mine)
    return judged(name, text, came, between(values, rate), mine, reached=reached)


def growth(smaller: Cell, larger: Cell) -> Verdict:
    """Return the verdict on the CPU per task at a million to that at a hundred thousand; less is no miss."""
    name, text, mine = "CPU per task, a million to a hundred thousand", f"at most {times(1.1)}", both(smaller, larger)
    ours, theirs = larger.over(cost), smaller.over(cost)
    if not ours or not theirs:
        return unmeasured(name, text, mine)
    value = median(ours) / median(theirs)
    spread = f"{times(min(ours) / max(theirs))} to {times(max(ours) / min(theirs))}"
    return judged(name, text, times(value), spread, mine, reached=value <= 1.1)


def conclude(folder: Path) -> dict[str, Any]:
    """Write ``table.json`` and ``benchmark.md``, and return what the former holds."""
    benchmark = read(folder)
    complete = not left(folder)
    table = {
        "complete": complete,
        "verdicts": [asdict(one) for one in verdicts(benchmark)],
        "rows": [asdict(one) for workload in benchmark.workloads for one in rows(benchmark, workload)],
    }
    write_json(folder / TABLE, table)
    (folder / PAGE).write_text(text(benchmark, complete=complete), encoding="utf-8")
    return table


@dataclass(frozen=True)
class Row:
    """A contender at a workload, medians over its rounds; ``None`` for what is not known."""

    workload: str
    contender: str
    title: str
    rounds: int
    #: How many tasks a round had.
    tasks: int
    finished_per_s: float | None
    lowest: float | None
    highest: float | None
    #: taskmill's finished tasks per second to this contender's.
    ours_to_this: float | None
    posted_per_s: float | None
    #: CPU seconds per task by part.
    cpu_s: dict[str, float]
    wrong: int
    lost: int
    failures: list[str]


def rows(benchmark: Benchmark, workload: Workload) -> list[Row]:
    """Return a row for every contender that was to do the workload, the fastest first."""
    ours = middle(benchmark.cell(OURS, workload.name).over(finished))
    found = []
    for one in benchmark.contenders:
        cell = benchmark.cells.get((workload.name, one.name))
        if cell is None:
            continue
        values = cell.over(finished)
        mine = middle(values)
        parts = dict.fromkeys(part for measured in cell.measured for part in measured["cpu_s"])
        spent = {part: [m["cpu_s"][part] / m["tasks"] for m in cell.measured if part in m["cpu_s"]] for part in parts}
        found.append(
            Row(
                workload.name,
                one.name,
                one.title,
                len(cell.measured),
                one.size(workload),
                mine,
                min(values, default=None),
                max(values, default=None),
                ours / mine if ours and mine else None,
                middle(cell.over(posted)),
                {part: median(seconds) for part, seconds in spent.items()},
                cell.count("wrong"),
                cell.count("lost"),
                cell.failures,
            )
        )
    return sorted(found, key=lambda row: -(row.finished_per_s or 0))


def middle(values: Sequence[float]) -> float | None:
    """Return the median; ``None`` of nothing."""
    return median(values) if values else None


def text(benchmark: Benchmark, *, complete: bool) -> str:
    """Return everything as Markdown: the verdicts, a table for each workload, the settings, how to do it again."""
    lines = ["# Benchmarks", ""]
    if not complete:
        lines += ["Not everything was measured: this is what was known by then.", ""]
    lines += [
        "Every contender posts all tasks, fetches every result and compares it with the right value; finished are",
        "the right results per second, from the first post to the last result. Medians over the rounds, in each of",
        "which all took turns. A contender has as many tasks a round as take it some seconds.",
        "",
        "## Figures",
        "",
        *table(
            ["figure", "has to be", "came", "rounds from, to", "verdict"],
            [
                [v.figure, v.goal, v.came, v.spread, f"{v.verdict}{f' ({v.reason})' if v.reason else ''}"]
                for v in verdicts(benchmark)
            ],
        ),
    ]
    for workload in benchmark.workloads:
        lines += ["", f"## {workload.name}: fib({workload.n})", ""]
        lines += table(
            [
                *("contender", "tasks", "finished", "from, to", "ours to this", "posted"),
                *(f"CPU, {part}" for part in PARTS),
                *("wrong", "lost", "rounds"),
            ],
            [cells(row) for row in rows(benchmark, workload)],
        )
    lines += ["", "CPU is per task.", "", "## Settings", ""]
    lines += table(
        ["contender", "settings"],
        [[one.title, "; ".join(f"{k}: {v}" for k, v in one.settings.items())] for one in benchmark.contenders],
    )
    lines += ["", "## Environment", "", *table(["", ""], [list(pair) for pair in benchmark.environment.items()])]
    return "\n".join([*lines, "", f"Again: `{benchmark.command}`."]) + "\n"


def cells(row: Row) -> list[str]:
    """Return a row as text; one that failed says why."""
    reason = f" (failed: {'; '.join(dict.fromkeys(row.failures))})" if row.failures else ""

    def known(value: float | None, write: Callable[[float], str]) -> str:
        return UNKNOWN if value is None else write(value)

    return [
        f"{row.title}{reason}",
        number(row.tasks),
        known(row.finished_per_s, rate),
        UNKNOWN if row.lowest is None or row.highest is None else between([row.lowest, row.highest], rate),
        known(row.ours_to_this, times),
        known(row.posted_per_s, rate),
        *(known(row.cpu_s.get(part), milliseconds) for part in PARTS),
        number(row.wrong),
        number(row.lost),
        number(row.rounds),
    ]


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; what would end a cell is written so that it does not."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in body]

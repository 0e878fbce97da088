"""What a run has to reach, as in ``completed_per_s>=500``: so that a load can stand as a gate.

A threshold over time, ``p99_queue_s>5 for 30s, stop as failed``, says what must not last while messages are published.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from taskmill.model.nearest import nearest
from taskmill.model.plan import NAME
from taskmill.model.record import QUANTILES, RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
#: What a threshold over time does to the run.
ACTION = "stop as failed"
DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*s\s*")
FORM = re.compile(rf"\s*(\w+)(?:\s+of\s+({NAME.pattern}))?\s*({'|'.join(OPERATORS)})\s*([-+0-9.eE]+)\s*")
#: Where each metric stands in a record.
METRICS: dict[str, tuple[str, ...]] = {
    "completed_per_s": ("rates", "completed_per_s"),
    "posted_per_s": ("rates", "posted_per_s"),
    "efficiency": ("efficiency",),
    "total_s": ("seconds", "total"),
    "post_s": ("seconds", "post"),
    "collect_s": ("seconds", "collect"),
    **{name: ("counts", name) for name in ("lost", "wrong", "failed", "duplicates")},
    "client_memory_bytes": ("client", "peak_memory_bytes"),
    "client_cpu_s": ("client", "cpu_seconds"),
    "late_s": ("client", "late_s"),
    **{
        f"{part}_{kind}_s": ("latency", kind, part)
        for kind in ("queue", "execution", "latency")
        for part in ("mean", *QUANTILES, "max")
    },
}
#: Where each metric of a kind stands in the kind's part of a record.
METRICS_OF_KIND: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("correct", "lost", "wrong", "failed", "run_s", "cpu_s")},
    **{name: keys[1:] for name, keys in METRICS.items() if keys[0] == "latency"},
}
#: What is known of a kind while messages are published: of its tasks, those whose results came lately. The last are the
#: keys of :data:`METRICS`.
LIVE_OF_KIND: dict[str, tuple[str, ...]] = {
    **{f"{verdict}_share": ("share", verdict) for verdict in ("failed", "wrong")},
    **{
        name: keys
        for name, keys in METRICS.items()
        if keys[0] == "latency" and keys[2] in {"mean", "p50", "p90", "p99"}
    },
}
#: The same of the whole run: beside these the messages ready in its queues, and the client's rate and lateness.
LIVE: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("waiting", "posted_per_s", "late_s")},
    **LIVE_OF_KIND,
}


@dataclass(frozen=True)
class Requirement:
    """One bound of one metric."""

    metric: str
    comparison: str
    bound: float
    #: Where the metric stands in a record; of a threshold over time, its keys in :data:`LIVE`.
    keys: tuple[str, ...] = field(repr=False)
    #: The kind that it is of; empty for the whole run.
    kind: str = ""
    #: For how long the comparison must not hold; ``None`` for a threshold that is judged at the end.
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str, metrics: Mapping[str, tuple[str, ...]] = METRICS) -> Requirement:
        """Read ``METRIC OPERATOR NUMBER``; raise ``ValueError`` that names what is known when it is not that.

        ``METRIC of KIND`` is that of one kind of a scenario.
        """
        condition, over_time, rest = text.partition(" for ")
        match = FORM.fullmatch(condition)
        if match is None:
            raise ValueError(
                f"{text!r} does not have the form METRIC OPERATOR NUMBER, such as 'completed_per_s>=500'; "
                f"operators are {', '.join(OPERATORS)}"
            )
        metric, kind, comparison, bound = match.groups()
        of_kind, known = (" of a kind", METRICS_OF_KIND) if kind else ("", metrics)
        seconds = None
        if over_time:
            seconds = _seconds(rest, text)
            of_kind, known = f"{of_kind} while messages are published", LIVE_OF_KIND if kind else LIVE
        if metric not in known:
            words = nearest(metric, known, f"known are {', '.join(known)}")
            raise ValueError(f"there is no metric {metric!r}{of_kind}; {words}")
        keys = known[metric] if seconds is not None or not kind else ("by_kind", kind, *known[metric])
        try:
            return cls(f"{metric} of {kind}" if kind else metric, comparison, float(bound), keys, kind or "", seconds)
        except ValueError:
            raise ValueError(f"{bound!r} in {text!r} is no number") from None

    def __str__(self) -> str:
        """Return it as it is given."""
        return self.condition if self.seconds is None else f"{self.condition} for {self.seconds:g}s, {ACTION}"

    @property
    def condition(self) -> str:
        """The comparison alone."""
        return f"{self.metric}{self.comparison}{self.bound:g}"

    @property
    def of_results(self) -> bool:
        """Whether it is over time, and of results."""
        return self.seconds is not None and self.keys[0] in {"share", "latency"}

    @property
    def must_not_grow(self) -> bool:
        """Whether it is of seconds that must not be more: it holds by the least that they will be."""
        return self.keys[0] == "latency" and self.comparison in {">", ">="}

    def check_kind(self, kinds: Collection[str]) -> None:
        """Raise ``ValueError`` where it is of a kind that is none of these."""
        if self.kind and self.kind not in kinds:
            known = f"there are {', '.join(kinds)}" if kinds else "the load has no kinds, which a scenario gives it"
            raise ValueError(f"there is no kind {self.kind!r}: {nearest(self.kind, kinds, known)}")

    def holds(self, value: float) -> bool:
        """Say whether the comparison holds for a value."""
        return OPERATORS[self.comparison](value, self.bound)

    def judge(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return ``text``, ``metric``, ``value`` and ``met``; what the record does not have is ``None`` and not met.

        A threshold over time that is not met has a ``note``, too, which says why.
        """
        if self.seconds is not None:
            return self._judge_watched((record.get("watched") or {}).get(str(self)))
        value: Any = record
        for key in self.keys:
            value = value.get(key) if isinstance(value, dict) else None
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        met = known and self.holds(value)
        return {"text": str(self), "metric": self.metric, "value": value if known else None, "met": bool(met)}

    def _judge_watched(self, watched: dict[str, Any] | None) -> dict[str, Any]:
        assert self.seconds is not None
        judged = {"text": str(self), "metric": self.metric, "value": watched and watched["value"], "met": False}
        if watched is None:
            return judged | {"note": "this run was not watched for it"}
        if "stopped_at" in watched:
            values = f"{watched['least']:.6g} to {watched['most']:.6g}"
            when = f"{watched['stopped_at']}, {watched['after_s']:,.1f} s after the first message"
            return judged | {"note": f"it was {values} for {self.seconds:g} s: publishing was stopped at {when}"}
        if watched["value"] is None and watched["seconds"] >= self.seconds:
            return judged | {"note": f"no {self.metric} was known while messages were published"}
        return judged | {"met": True}


def _seconds(text: str, whole: str) -> float:
    """Return the seconds of ``30s, stop as failed``; raise ``ValueError`` where it has another form."""
    duration, _, action = text.partition(",")
    match = DURATION.fullmatch(duration)
    if match is None or not float(match[1]):
        raise ValueError(f"{duration.strip()!r} in {whole!r} is no duration: give seconds, as in 'for 30s, {ACTION}'")
    if " ".join(action.split()) != ACTION:
        words = nearest(action.strip(), [ACTION], f"write 'for {match[1]}s, {ACTION}'")
        raise ValueError(f"{action.strip()!r} in {whole!r} is nothing that a threshold does: {words}")
    return float(match[1])


def judge(requirements: Iterable[Requirement], record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what each came to."""
    return [requirement.judge(record) for requirement in requirements]


def unmet(judged: Iterable[dict[str, Any]]) -> list[str]:
    """Return a sentence for each that is not met."""
    return [f"not met: {one['text']} ({_reason(one)})" for one in judged if not one["met"]]


def _reason(judged: dict[str, Any]) -> str:
    if note := judged.get("note"):
        return str(note)
    if judged["value"] is None:
        return f"this run has no {judged['metric']}"
    return f"{judged['metric']} is {judged['value']:.6g}"


def of_run(folder: Path) -> tuple[Requirement, ...]:
    """Return what was required of a run when it began."""
    record = RunRecord.load(folder)
    return tuple(Requirement.parse(one.text) for one in record.requirements) if record else ()

"""What a run has to reach, as in ``completed_per_s>=500``: so that a load can stand as a gate."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from taskmill.model.plan import NAME
from taskmill.model.record import QUANTILES, RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
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


@dataclass(frozen=True)
class Requirement:
    """One bound of one metric."""

    metric: str
    comparison: str
    bound: float
    #: Where the metric stands in a record.
    keys: tuple[str, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str, metrics: Mapping[str, tuple[str, ...]] = METRICS) -> Requirement:
        """Read ``METRIC OPERATOR NUMBER``; raise ``ValueError`` that names what is known when it is not that.

        ``METRIC of KIND`` is that of one kind of a scenario.
        """
        match = FORM.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} does not have the form METRIC OPERATOR NUMBER, such as 'completed_per_s>=500'; "
                f"operators are {', '.join(OPERATORS)}"
            )
        metric, kind, comparison, bound = match.groups()
        known = metrics if kind is None else METRICS_OF_KIND
        if metric not in known:
            raise ValueError(
                f"there is no metric {metric!r}{' of a kind' if kind else ''}; known are {', '.join(known)}"
            )
        keys = known[metric] if kind is None else ("by_kind", kind, *known[metric])
        try:
            return cls(metric if kind is None else f"{metric} of {kind}", comparison, float(bound), keys)
        except ValueError:
            raise ValueError(f"{bound!r} in {text!r} is no number") from None

    def __str__(self) -> str:
        """Return it as it is given."""
        return f"{self.metric}{self.comparison}{self.bound:g}"

    def judge(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return ``text``, ``metric``, ``value`` and ``met``; what the record does not have is ``None`` and not met."""
        value: Any = record
        for key in self.keys:
            value = value.get(key) if isinstance(value, dict) else None
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        met = known and OPERATORS[self.comparison](value, self.bound)
        return {"text": str(self), "metric": self.metric, "value": value if known else None, "met": bool(met)}


def judge(requirements: Iterable[Requirement], record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what each came to."""
    return [requirement.judge(record) for requirement in requirements]


def unmet(judged: Iterable[dict[str, Any]]) -> list[str]:
    """Return a sentence for each that is not met."""
    return [
        f"not met: {one['text']} ({one['metric']} is {one['value']:.6g})"
        if one["value"] is not None
        else f"not met: {one['text']} (this run has no {one['metric']})"
        for one in judged
        if not one["met"]
    ]


def of_run(folder: Path) -> tuple[Requirement, ...]:
    """Return what was required of a run when it began."""
    record = RunRecord.load(folder)
    return tuple(Requirement.parse(one.text) for one in record.requirements) if record else ()

"""What a rule returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from taskmill.report.metrics import Metrics

#: In the order in which they are shown: something is broken; it held the run back; worth knowing; well.
KINDS = ("fault", "limit", "note", "good")


@dataclass(frozen=True)
class Finding:
    """One finding: a sentence that says what is so, the metrics that show it, and what to change."""

    kind: str
    title: str
    evidence: str
    advice: str = ""


#: A rule returns a finding, or ``None`` where its metrics are well or not known.
Rule = Callable[[Metrics], Finding | None]

"""What came of publishing a plan: ``post.json`` of the run folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from taskmill.model.clock import Moment
from taskmill.model.run_folder import read_json, write_json
from taskmill.publishing.channel import Tally

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Posted:
    """What came of posting: ``post.json`` of the run folder. Times are in seconds, memory in bytes."""

    started: Moment
    ended: Moment | None = None
    #: When the first task was due, in Unix seconds; ``None`` for a load that is not paced.
    due_from: float | None = None
    #: Whether every planned message was posted and confirmed.
    finished: bool = False
    interrupted: bool = False
    error: str | None = None
    peak_memory_bytes: int = 0
    threads: list[Tally] = field(default_factory=list)
    #: What preflight found: the broker, its workers and memcached, before the first message.
    before: dict[str, Any] = field(default_factory=dict)
    #: By their texts, the thresholds that were watched, as ``record.Watched``.
    watched: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def stopped_as_failed(self) -> bool:
        """Whether a threshold over time stopped it."""
        return any("stopped_at" in one for one in self.watched.values())

    def total(self, name: str) -> Any:
        """Return the sum of one number of the tallies over all threads."""
        return sum(getattr(tally, name) for tally in self.threads)

    def save(self, folder: Path) -> None:
        """Write ``post.json``."""
        write_json(folder / "post.json", asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Posted | None:
        """Read ``post.json``; ``None`` when there is none, or none that can be read."""
        data = read_json(folder / "post.json")
        started = Moment.load(data.get("started")) if data else None
        if data is None or started is None:
            return None
        try:
            data["threads"] = [Tally(**tally) for tally in data["threads"]]
            return cls(**(data | {"started": started, "ended": Moment.load(data.get("ended"))}))
        except (KeyError, TypeError):
            return None

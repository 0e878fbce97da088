"""Making up for results that are missing: their tasks are posted once more under the same ids, and collected.

Which they are stands in ``faults.jsonl`` of the run; it is written anew, whole, when the repair is done, and the run's
record is counted from it. So a repair can be interrupted, and done again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from taskmill.model.clock import Moment
from taskmill.model.errors import TaskmillError
from taskmill.model.record import Repair, RunRecord
from taskmill.model.run_folder import read_faults
from taskmill.publishing import journal, processes
from taskmill.publishing.unfinished import Unfinished
from taskmill.results.acknowledged import at_work
from taskmill.results.collected import Collected
from taskmill.results.collector import Collector
from taskmill.results.store import ResultReader
from taskmill.results.verdict import is_final
from taskmill.session.build_record import recount

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from taskmill.cluster.broker import Broker
    from taskmill.model.plan import Plan
    from taskmill.progress import Reporter
    from taskmill.publishing.journal import ThreadIds

#: What `faults.jsonl` calls those without a result.
MISSING = ("lost", "unsent")


@dataclass(frozen=True)
class Repaired:
    """What came of a repair."""

    record: RunRecord
    #: Whether every missing result was asked for to the end.
    finished: bool
    error: str | None = None


def stored(ids: Iterable[bytes], results: ResultReader) -> Iterator[tuple[bytes, Any]]:
    """Yield those of the ids that the store knows, with their values; raise ``TaskmillError`` when it is away."""
    rest = list(ids)
    for start in range(0, len(rest), results.batch):
        yield from results.get(rest[start : start + results.batch]).items()
    # To one that is away every id is unknown.
    if away := results.unreachable():
        raise TaskmillError(f"{results.kind} at {', '.join(away)} cannot be reached: nothing is sent again. Try later")


def unconfirmed(folder: Path, results: ResultReader) -> Unfinished:
    """Return what is left of a run whose client was killed: messages that were not confirmed and have no result."""
    threads = journal.read(folder / "ids")
    absent = {identifier for one in threads for identifier, _ in one.lines[one.confirmed :]}
    # In whatever state it is, its message was delivered.
    absent -= {identifier for identifier, _ in stored(absent, results)}
    return unfinished(folder, absent)


def unfinished(folder: Path, wanted: Collection[bytes]) -> Unfinished:
    """Return what is left of a run when the messages of these ids are to be sent once more."""

    def places(one: ThreadIds) -> list[tuple[int, bytes]]:
        return [(place, identifier) for place, (identifier, _) in enumerate(one.lines) if identifier in wanted]

    return Unfinished.find(folder, places)


def is_collected(record: RunRecord, folder: Path) -> bool:
    """Say whether each id in the folder of the run is accounted for: by a result, as lost, or as never sent.

    Only a collecting that comes to its end counts what is lost, whatever became of the posting before it. One that was
    interrupted before it wrote the record has left a list of faults that is newer than that.
    """
    counts = record.counts
    ids = sum(len(one.lines) for one in journal.read(folder / "ids"))
    faults, written = (folder / name for name in ("faults.jsonl", "run.json"))
    return (
        counts.done + counts.lost + record.client.unsent == ids
        and faults.exists()
        and faults.stat().st_mtime_ns <= written.stat().st_mtime_ns
    )


def repair(
    plan: Plan, folder: Path, broker: Broker, results: ResultReader, stop: threading.Event, reporter: Reporter
) -> Repaired:
    """Post and collect what has no result; merge it into the run's record, and return that.

    Raises ``TaskmillError`` when the run was never collected to its end, or has tasks that store no result.
    """
    record = RunRecord.load(folder)
    if record is None or not is_collected(record, folder):
        raise TaskmillError(
            f"it is not known which results of {folder} are missing: it was not collected to its end. Do that first: "
            f"taskmill collect {folder} (or taskmill resume {folder}, which posts what is left to post, too)"
        )
    if record.unstored:
        raise TaskmillError(
            f"tasks of {folder} store no result ({', '.join(record.unstored)}): which of them are missing is not known "
            f"by id, so that none can be published again"
        )
    missing = {
        fault["id"].encode() for fault in read_faults(folder / "faults.jsonl", None) if fault.get("outcome") in MISSING
    }
    started_at = Moment.now()
    # One that stays in a state such as RETRY has lost the message that would have brought it on.
    there = {identifier for identifier, value in stored(missing, results) if is_final(identifier, value)}
    to_republish = unfinished(folder, missing - there)
    reporter.say(
        f"{len(missing):,} results are missing; {to_republish.total():,} of them have no final one in the store either"
    )
    if to_republish.total():
        posted = processes.republish(plan, folder, broker, stop, reporter, to_republish)
        if posted.error is not None or not posted.finished:
            return Repaired(record, finished=False, error=posted.error)
    collected = Collected(finished=True)
    if missing:
        collected = Collector(plan, folder, results, stop, reporter, only=missing).run(
            at_work=partial(at_work, plan, broker, reporter)
        )
        if not collected.finished:
            return Repaired(record, finished=False)
        record.repaired.append(
            Repair(
                at=started_at.iso,
                missing=len(missing),
                posted=to_republish.total(),
                **{name: getattr(collected, name) for name in ("correct", "wrong", "failed", "lost")},
            )
        )
    recount(record, folder)
    record.update(folder)
    return Repaired(record, finished=True)

"""Taking a run up where its client was killed or stopped: the rest is published, and all of it collected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskmill.publishing import journal
from taskmill.publishing.channel import LAST_CONFIRMS
from taskmill.recover.repair import unconfirmed
from taskmill.session.preflight import check_again

if TYPE_CHECKING:
    from taskmill.publishing.posted import Posted
    from taskmill.results.collected import Collected
    from taskmill.session.drive import Session


def await_writers(session: Session) -> None:
    """Wait for publishing processes, which outlive a client that is killed by a moment.

    Raises ``TaskmillError`` when somebody still publishes after that.
    """
    journal.await_writers(session.folder / "ids", 2 * LAST_CONFIRMS, session.stop)


def resume(session: Session, *, no_workers: bool = False) -> tuple[Posted, Collected | None, dict[str, Any]] | None:
    """Publish what is left of a run and collect it; return what came of both, and what was asked afterwards.

    What was sent and not confirmed, and has no result, is sent once more under the same ids. ``None`` when it was
    stopped before anything was sent: the run is as it was. Raises ``TaskmillError`` when another client still
    publishes, or broker, result store or workers are not there.
    """
    assert session.broker is not None
    await_writers(session)
    check_again(session.plan, session.broker, session.results, no_workers=no_workers)
    unfinished = unconfirmed(session.folder, session.results)
    there, to_republish = unfinished.posted(), unfinished.total()
    if session.stop.is_set():
        return None
    session.reporter.say(
        f"{there:,} of {session.plan.tasks:,} ids are on disk, {to_republish:,} of them are sent once more"
    )
    posted = session.resume(unfinished)
    return posted, *session.fetch(posted)

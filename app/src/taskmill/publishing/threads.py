"""The publishing threads of one process, each with a connection of its own, every message confirmed.

A thread writes the ids of its messages to its journal before its channel sends them.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskmill.cluster.broker import Broker
from taskmill.model.errors import PostingError, TaskmillError
from taskmill.model.plan import Plan
from taskmill.publishing import journal, message
from taskmill.publishing.channel import ConfirmedChannel, Entry, Tally
from taskmill.publishing.interrupt import Interrupted
from taskmill.publishing.pace import Pace
from taskmill.publishing.unfinished import Unfinished
from taskmill.samples.profile import Profiler
from taskmill.workload.calls import Calls

if TYPE_CHECKING:
    from collections.abc import Callable

    import amqp


@dataclass(frozen=True)
class Job:
    """What one process posts: ``spans`` are first message number and count of each of its threads."""

    plan: Plan
    folder: Path
    broker: Broker
    process: int
    spans: tuple[tuple[int, int], ...]
    #: When the first task of the run is due, on the monotonic clock.
    due_from: float
    #: What earlier clients left of the run, where it is taken up.
    unfinished: Unfinished | None = None

    def without_new(self) -> Job:
        """Return the same with no message that was not posted before."""
        threads = self.unfinished.threads if self.unfinished else {}
        names = [journal.stem(self.process, thread) for thread in range(len(self.spans))]
        counts = [len(threads[name].lines) if name in threads else 0 for name in names]
        return replace(self, spans=tuple((first, count) for (first, _), count in zip(self.spans, counts, strict=True)))


class PublishingThread:
    """One posting thread: its journal, and its channel."""

    def __init__(self, job: Job, thread: int, stop: threading.Event, say: Callable[[str], None], calls: Calls) -> None:
        """Make the journal; connect later, in :meth:`run`."""
        self._plan = job.plan
        self._calls = calls
        self._broker = job.broker
        self._first_number, self._count = job.spans[thread]
        self._pace = Pace.of(job.plan, job.process * job.plan.threads + thread, job.due_from)
        name = journal.stem(job.process, thread)
        taken_up = job.unfinished.threads.get(name) if job.unfinished else None
        self._journal = journal.Journal(job.folder / "ids", job.process, thread, taken_up)
        self._suffixes = [f" {job.plan.routes[place].queue}\n".encode() for place in job.plan.slots]
        self._sender = message.Sender.new()
        #: For each slot of the plan: the pieces between the ids where a kind's messages are the same but for that,
        #: else what makes them.
        self._templates: list[list[bytes]] = []
        self._encoders: list[message.Encoder] = []
        self._next = len(taken_up.lines) if taken_up else 0
        #: As many lines of the journal were confirmed before.
        self._floor = taken_up.confirmed if taken_up else 0
        #: Place in the journal and id of what is to be sent once more.
        self._to_republish: list[Entry] = list(job.unfinished.to_republish.get(name, []) if job.unfinished else [])
        self.tally = Tally(name, self._count, posted=self._next, confirmed=self._next - len(self._to_republish))
        self._channel = ConfirmedChannel(
            job.broker, self.tally, stop, say, window=job.plan.window, deadline=job.plan.broker_deadline
        )

    def run(self) -> None:
        """Post everything, or until stopped; the tally and the journal say what came of it."""
        try:
            self._channel.publish(self, self._to_republish)
            if self._channel.returned:
                raise PostingError(
                    f"the broker ({self._broker}) took no message for the queue {self._channel.unroutable[1]!r}: there "
                    f"is no such queue any more. The role rabbitmq declares those in rabbitmq_queues; run site.yml"
                )
        except Interrupted:
            # What is unconfirmed stays so in the journal.
            pass
        except TaskmillError as error:
            self.tally.error = str(error)
        except Exception as error:  # noqa: BLE001  # a thread's error must reach the user, not only stderr
            self.tally.error = f"{type(error).__name__}: {error}"
        finally:
            self._channel.close()
            with suppress(PostingError):
                self.stepped()
            self._journal.close()

    def more(self) -> bool:
        """Say whether any message was never sent."""
        return self._next < self._count

    def take(self, limit: int) -> list[Entry]:
        """Make ids for the next messages that are due, and put them on disk."""
        start = self._next
        count = min(limit, self._count - start)
        if self._pace is not None:
            now = time.monotonic()
            count = min(count, self._pace.due(now) - start)
            if not count:
                return []
            self.tally.late = max(self.tally.late, now - self._pace.moment(start))
        ids = journal.new_ids(count)
        suffixes, slots, first = self._suffixes, len(self._suffixes), self._first_number + start
        lines = b"".join([id_ + suffixes[(first + i) % slots] for i, id_ in enumerate(ids)])
        self._journal.write(lines, start + count, time.time())
        self._next += count
        return list(enumerate(ids, start))

    def wait(self) -> float:
        """Return the seconds until the next message is due."""
        return self._pace.moment(self._next) - time.monotonic() if self._pace is not None else 0.0

    def connected(self, connection: amqp.Connection, channel: amqp.Channel) -> None:
        """Make the messages for the connection, without their ids and what else differs."""
        plan, wire = self._plan, (self._sender, channel.channel_id, connection.frame_max)
        options: dict[str, Any] = {"minimal_headers": plan.minimal_headers, "persistent": plan.persistent}
        if self._calls.uniform:
            templates = [
                message.template(kind.route, kind.only.args, *wire, kwargs=kind.only.kwargs, **options)
                for kind in self._calls.kinds
                if kind.only is not None
            ]
            self._templates = [templates[place] for place in plan.slots]
        else:
            encoders = [message.Encoder(route, *wire, **options) for route in plan.routes]
            self._encoders = [encoders[place] for place in plan.slots]

    def frames(self, entries: list[Entry]) -> bytes:
        """Return the messages with these places and ids; raise ``TaskmillError`` where a scenario's function fails."""
        first, templates, slots = self._first_number, self._templates, len(self._suffixes)
        if templates:
            return b"".join([id_.join(templates[(first + place) % slots]) for place, id_ in entries])
        encoders, calls = self._encoders, self._calls
        return b"".join(
            [encoders[(first + place) % slots].encode(id_, calls.call(first + place)) for place, id_ in entries]
        )

    def confirmed(self, entries: list[Entry]) -> None:
        """Leave it to the tally, and to the next :meth:`stepped`."""

    def stepped(self) -> None:
        """Say in the journal how many of its lines, from its start, are surely confirmed."""
        places = [place for place, _ in self._channel.unsettled()]
        self._journal.confirm(max(self._floor, min(places, default=self._next)))


class ThreadGroup:
    """The posting threads of this process."""

    def __init__(self, job: Job, stop: threading.Event, say: Callable[[str], None]) -> None:
        """Make the threads and their journals; :meth:`start` sets them off."""
        self._stop = stop
        self.profiler = Profiler(job.plan.profile)
        calls = Calls(job.plan)
        self.members = [PublishingThread(job, thread, stop, say, calls) for thread in range(len(job.spans))]
        self._threads = [
            threading.Thread(target=self._run, args=(member,), name=f"post-{member.tally.name}", daemon=True)
            for member in self.members
        ]
        self._profile_path = job.folder / "profile" / f"post-{job.process:02d}.pstats"

    def start(self) -> None:
        """Set the threads off."""
        self.profiler.start()
        for thread in self._threads:
            thread.start()

    def _run(self, member: PublishingThread) -> None:
        with self.profiler.thread():
            member.run()
        if member.tally.error is not None:
            # One thread that gives up ends the posting; the others finish what they have sent.
            self._stop.set()

    @property
    def tallies(self) -> list[Tally]:
        """What the threads have done by now."""
        return [member.tally for member in self.members]

    def running(self) -> bool:
        """Say whether any thread is at work."""
        return any(thread.is_alive() for thread in self._threads)

    def finish(self) -> None:
        """Wait for the threads and write their profile."""
        for thread in self._threads:
            thread.join()
        self.profiler.stop()
        self.profiler.dump(self._profile_path)

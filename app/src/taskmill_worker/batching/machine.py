"""What a worker holds and what becomes of it: state and event in, actions out, without input, output or a clock.

One machine serves one worker, through all its connections. It knows every message that the broker has delivered to the
worker's channel and not seen settled yet, whoever handles it; of these it hands out those that were taken for batches.
The broker takes an acknowledgement of one message, or of all up to one; the machine gives the latter only where nothing
that is not settled stands before.

Every event is a method that returns the actions to carry out, in order:

| event | method |
|---|---|
| a message was delivered; it is taken for a batch | :meth:`Machine.delivered`, :meth:`Machine.take` |
| somebody acknowledged or rejected on the channel | :meth:`Machine.settled` |
| messages may be handed out; revoked ones are told apart | :meth:`Machine.hand_out` |
| a pool process has ended a batch, and results are stored | :meth:`Machine.ended`, then :meth:`Machine.stored` |
| a pool process died, or could not store results | :meth:`Machine.died` |
| the broker delivers more messages, or fewer, at once | :meth:`Machine.reserved` |
| time has passed | :meth:`Machine.passed`, at the moment :attr:`Machine.due` |
| the connection is lost; the worker is to stop | :meth:`Machine.lost`, :meth:`Machine.stop` |

What is redelivered is a new message with a new delivery tag. Moments are seconds of any one clock that does not jump.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Batches handed out for each pool process: one at work, and one that waits, so that it never idles.
AHEAD = 2
#: Most messages that a worker reserves for its batches. The broker takes 65,535 at most.
MOST_RESERVED = 20_000
#: Most bytes of the bodies of a batch. A message that is larger is a batch by itself.
BATCH_BYTES = 1 << 20
#: Bytes of bodies in the worker from which on no more are reserved than the app's settings say.
RESERVED_BYTES = 64 << 20
#: What a batch's measured seconds count against what was known of the task before.
WEIGHT = 0.3
#: Messages after which what was measured before counts half: what arrives now decides how much is reserved.
HALF = 100
#: Most seconds that messages gather for a batch while every pool process is at work.
LINGER = 0.005
#: Most seconds that an acknowledgement waits for earlier messages, so that one frame will do for all.
HELD = 0.5
#: Seconds without a task after which a worker reserves no more than the app's settings say.
FORGET = 10.0


class Entry:
    """A message that is taken for a batch."""

    __slots__ = ("__weakref__", "kind", "settled", "size", "tag")

    def __init__(self, tag: int, kind: str) -> None:
        """Take the delivery tag, and the name of the task."""
        self.tag = tag
        self.kind = kind
        #: Bytes of its body.
        self.size = 0
        #: Whether it was acknowledged or rejected, by whomever.
        self.settled = False


class Batch:
    """Messages that one pool process gets at once, in the order of delivery."""

    __slots__ = ("entries", "size")

    def __init__(self, entries: list[Any], size: int) -> None:
        """Take the entries, and the bytes of their bodies."""
        self.entries = entries
        self.size = size


class Send(NamedTuple):
    """Hand a batch to the pool."""

    batch: Batch


class Acknowledge(NamedTuple):
    """Acknowledge one message, or all up to it."""

    tag: int
    multiple: bool


class GiveBack(NamedTuple):
    """Put a message back to its queue."""

    entry: Any


class Revoke(NamedTuple):
    """Settle a message that was revoked, and do not run it."""

    entry: Any


class Settle(NamedTuple):
    """Settle a message by itself, by what came of it; ``None`` where it could not be read."""

    entry: Any
    outcome: Any


class Reserve(NamedTuple):
    """Have the broker deliver so many messages at once, on top of what the app's settings say."""

    messages: int


#: What all events but the end of a batch ask for.
Action = Send | Acknowledge | GiveBack | Revoke | Reserve


class Machine:
    """What a worker holds, and what it does about it."""

    def __init__(self, most: int, seconds: float, linger: float = LINGER) -> None:
        """Take the most messages of a batch, the seconds that it should take, and the most that it is waited for."""
        self.most = most
        self.seconds = seconds
        self.linger = linger
        #: By delivery tag, what the broker waits for: the entry, or the bytes of a message that is no business of ours.
        self.open: dict[int, Any] = {}
        #: Bytes of the bodies of all these.
        self.bytes = 0
        #: No tag below is open; the highest one delivered.
        self.floor, self.last = 1, 0
        #: Tags of messages whose results are stored, and whose acknowledgement waits for earlier ones; since when.
        self.held: list[int] = []
        self.held_since: float | None = None
        self.waiting: deque[Any] = deque()
        self.waiting_since: float | None = None
        self.in_flight: set[Batch] = set()
        self.idle_since: float | None = None
        self.stopping = False
        #: Seconds that a task of the name takes.
        self.expected: dict[str, float] = {}
        #: Of the messages that ended lately: how many, their seconds and bytes; the earlier the less they count.
        self.lately = (0.0, 0.0, 0.0)
        #: Messages that the broker delivers at once, on top of what the app's settings say.
        self.prefetch = 0

    def delivered(self, tag: int, size: int) -> None:
        """Take note of a message that waits for acknowledgement, and of the bytes of its body."""
        self.open[tag] = size
        self.bytes += size
        # What was asked for with `basic.get` may come to notice late.
        self.last, self.floor = max(self.last, tag), min(self.floor, tag)

    def take(self, entry: Entry) -> bool:
        """Take a message that was delivered for a batch; say whether it is here to be taken."""
        size = self.open.get(entry.tag)
        if not isinstance(size, int) or self.stopping:
            return False
        entry.size = size
        self.open[entry.tag] = entry
        self.waiting.append(entry)
        self.idle_since = None
        return True

    def settled(self, tag: int, multiple: bool, now: float) -> list[Action]:
        """Take note that somebody acknowledged or rejected a message, or all up to it."""
        for one in [known for known in self.open if known <= tag] if multiple else (tag,):
            self._close(one)
        if multiple:
            self.held = [known for known in self.held if known > tag]
        return self._acknowledge(now)

    def hand_out(self, now: float, processes: int, revoked: Callable[[Any], bool]) -> list[Action]:
        """Make batches while there are messages, and so many pool processes, for them."""
        actions: list[Action] = []
        slots = AHEAD * processes
        while self.waiting and len(self.in_flight) < slots:
            if len(self.in_flight) >= processes and self._gathers(now):
                self.waiting_since = now if self.waiting_since is None else self.waiting_since
                break
            # What is there is shared by the processes that are free, so that none gets all and the others none.
            free = (processes if len(self.in_flight) < processes else slots) - len(self.in_flight)
            share = -(-len(self.waiting) // free)
            batch = self._batch(min(self.most, share), revoked, actions)
            if batch.entries:
                self.in_flight.add(batch)
                actions.append(Send(batch))
            self.waiting_since = None
        else:
            self.waiting_since = None
        if self.waiting or self.in_flight:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = now
        if self.bytes > RESERVED_BYTES and self.prefetch:
            actions.append(Reserve(0))
        return actions

    def ended(self, batch: Batch, outcomes: Mapping[int, Any]) -> list[Settle]:
        """Take what became of a batch: by place, the outcomes that are no plain success. :meth:`stored` follows."""
        return [
            Settle(batch.entries[place], outcome)
            for place, outcome in outcomes.items()
            if not batch.entries[place].settled
        ]

    def stored(
        self,
        batch: Batch,
        outcomes: Mapping[int, Any],
        durations: Mapping[str, tuple[int, float]],
        now: float,
        processes: int,
    ) -> list[Action]:
        """Take note that every result of a batch is stored, and of number and seconds of its tasks by name.

        A message of those with an outcome of its own that is still not settled goes back to its queue.
        """
        self.in_flight.discard(batch)
        actions: list[Action] = []
        for place, entry in enumerate(batch.entries):
            if not self._here(entry):
                continue
            self._close(entry.tag)
            if place in outcomes:
                actions.append(GiveBack(entry))
            else:
                self.held.append(entry.tag)
        actions += self._acknowledge(now)
        return actions + self._learn(batch, durations, processes)

    def died(self, batch: Batch, now: float) -> list[Action]:
        """Take note that nobody will say what became of a batch: what is not settled goes back to its queue."""
        self.in_flight.discard(batch)
        actions: list[Action] = []
        for entry in batch.entries:
            if self._here(entry):
                self._close(entry.tag)
                actions.append(GiveBack(entry))
        return actions + self._acknowledge(now)

    def dropped(self, batch: Batch) -> None:
        """Take note that the pool has forgotten a batch that did not begin: its messages stay with the broker."""
        self.in_flight.discard(batch)

    def reserved(self, count: int) -> None:
        """Take note of how many messages the broker delivers at once, on top of what the app's settings say."""
        self.prefetch = count

    @property
    def due(self) -> float | None:
        """The moment at which :meth:`passed` has something to do; ``None`` for never."""
        moments = []
        if self.waiting_since is not None:
            moments.append(self.waiting_since + self.linger)
        if self.held_since is not None:
            moments.append(self.held_since + HELD)
        if self.idle_since is not None and self.prefetch:
            moments.append(self.idle_since + FORGET)
        return min(moments, default=None)

    def passed(self, now: float) -> list[Action]:
        """Take note of the time; what gathered long enough is handed out next."""
        actions = self._acknowledge(now)
        if self.idle_since is not None and now >= self.idle_since + FORGET and self.prefetch:
            self.idle_since = None
            self.lately = (0.0, 0.0, 0.0)
            actions.append(Reserve(0))
        return actions

    def lost(self) -> None:
        """Take note that the connection is gone: the broker delivers anew what was not settled. Batches run on."""
        self.open.clear()
        self.waiting.clear()
        self.held = []
        self.held_since = self.waiting_since = None
        self.floor, self.last, self.bytes, self.prefetch = 1, 0, 0, 0

    def stop(self, now: float) -> list[Action]:
        """Begin nothing more; what waits stays with the broker, which gives it to somebody else."""
        self.stopping = True
        self.waiting.clear()
        self.waiting_since = None
        return self._acknowledge(now)

    def _here(self, entry: Entry) -> bool:
        """Say whether a message is still open; the tag of one of an earlier connection may be another's by now."""
        return self.open.get(entry.tag) is entry

    def _close(self, tag: int) -> None:
        """Forget a tag: it is settled, or about to be."""
        known = self.open.pop(tag, None)
        if isinstance(known, Entry):
            known.settled = True
            self.bytes -= known.size
        elif known is not None:
            self.bytes -= known

    def _gathers(self, now: float) -> bool:
        """Say whether what waits is too little for a batch, and may become more, while every process is at work."""
        if self.waiting_since is not None and now >= self.waiting_since + self.linger:
            return False
        return len(self.waiting) < self._fitting() and sum(entry.size for entry in self.waiting) < BATCH_BYTES

    def _batch(self, most: int, revoked: Callable[[Any], bool], actions: list[Action]) -> Batch:
        """Return the next messages, at most so many, that are neither too long nor too large for a batch."""
        batch = Batch([], 0)
        left = self.seconds
        while self.waiting and len(batch.entries) < most:
            entry = self.waiting[0]
            if not self._here(entry):
                self.waiting.popleft()
                continue
            if revoked(entry):
                actions.append(Revoke(self.waiting.popleft()))
                continue
            # A task that was never seen is tried alone.
            left -= self.expected.get(entry.kind, self.seconds)
            if batch.entries and (left < 0 or batch.size + entry.size > BATCH_BYTES):
                break
            batch.entries.append(self.waiting.popleft())
            batch.size += entry.size
        return batch

    def _acknowledge(self, now: float) -> list[Action]:
        """Acknowledge what is stored: all together up to the first message that is still open."""
        if not self.held:
            self.held_since = None
            return []
        floor, last, known = self.floor, self.last, self.open
        while floor <= last and floor not in known:
            floor += 1
        self.floor = floor
        actions: list[Action] = []
        # Nearly always nothing is open before what is held.
        later = [tag for tag in self.held if tag > floor] if floor <= last else []
        if not later:
            actions.append(Acknowledge(max(self.held), multiple=True))
        elif len(later) < len(self.held):
            actions.append(Acknowledge(max(tag for tag in self.held if tag < floor), multiple=True))
        self.held = later
        # What stands before may take its time: it must not keep the others for long, nor their share of what the
        # broker delivers, nor when nothing is at work that could still make a frame for more of them.
        if later and (
            self.stopping
            or not (self.in_flight or self.waiting)
            or len(later) > self.prefetch // 4
            or (self.held_since is not None and now >= self.held_since + HELD)
        ):
            actions += [Acknowledge(tag, multiple=False) for tag in sorted(later)]
            self.held = []
        if not self.held:
            self.held_since = None
        elif self.held_since is None:
            self.held_since = now
        return actions

    def _learn(self, batch: Batch, durations: Mapping[str, tuple[int, float]], processes: int) -> list[Action]:
        """Take in how long the tasks of a batch ran, and reserve messages accordingly."""
        ran, took = 0, 0.0
        for name, (count, seconds) in durations.items():
            each = seconds / count
            known = self.expected.get(name)
            self.expected[name] = each if known is None else known + WEIGHT * (each - known)
            ran, took = ran + count, took + seconds
        if ran:
            fading = 0.5 ** (ran / HALF)
            number, seconds, size = self.lately
            self.lately = number * fading + ran, seconds * fading + took, size * fading + batch.size
        size = self._fitting()
        # On top of what the app's settings reserve: as many as are handed out, and as many again that wait for that.
        # Tasks that fill a batch each need none.
        wanted = min(MOST_RESERVED, 2 * AHEAD * processes * size) if size > 1 else 0
        number, _, octets = self.lately
        if octets:
            wanted = min(wanted, int(RESERVED_BYTES * number / octets))
        if self.bytes > RESERVED_BYTES:
            wanted = 0
        # A change may cost a new consumer of every queue.
        if self.prefetch / 2 <= wanted <= self.prefetch * 1.25:
            return []
        return [Reserve(wanted)]

    def _fitting(self) -> int:
        """Return how many messages of those that arrive now make a full batch, at least 1."""
        number, seconds, _ = self.lately
        if not number:
            return 1
        return max(1, int(min(self.most, self.seconds * number / seconds))) if seconds else self.most

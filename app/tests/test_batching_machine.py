"""The machine that decides about batches and acknowledgements, in histories with every fault: no services needed."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from machine_model import live_through
from taskmill_worker.batching.machine import Acknowledge, Batch, GiveBack, Machine, Reserve, Send

#: How many histories the thorough test lives through; a million takes some six minutes of a core.
THOROUGH = "TASKMILL_MACHINE_HISTORIES"
#: Histories that something was wrong in once, and what.
COUNTEREXAMPLES = {
    "what the app acknowledges up to a message may be all that was held": bytes(
        [166, 1, 119, 6, 1, 1, 3, 92, 3, 59, 0, 1, 9, 0, 2, 1, 1, 50, 13, 107, 67]
    ),
}


@pytest.mark.timeout(600)
@settings(max_examples=10_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=4, max_size=120))
def test_every_history_ends_with_everything_settled_and_no_rule_broken(history: bytes) -> None:
    """The rules stand in the model: what is acknowledged is settled, and so on."""
    live_through(history)


@pytest.mark.parametrize("history", COUNTEREXAMPLES.values(), ids=COUNTEREXAMPLES)
def test_what_was_wrong_once_is_right(history: bytes) -> None:
    """Each of these broke a rule."""
    live_through(history)


def histories(number: int, seed: int) -> Any:
    """Yield random histories, always the same of a seed."""
    source = random.Random(seed)
    for _ in range(number):
        yield source.randbytes(source.randrange(4, 160))


@pytest.mark.thorough
@pytest.mark.timeout(0)
def test_no_rule_is_broken_in_many_histories() -> None:
    """As many as the variable says, of a seed of their own each time; one that fails is printed, to become a test."""
    seed = random.SystemRandom().randrange(1 << 32)
    for history in histories(int(os.environ.get(THOROUGH) or 100_000), seed):
        try:
            live_through(history)
        except Exception as error:
            raise AssertionError(f"{error} in the history {list(history)}, seed {seed}") from error


def test_histories_have_every_event_and_every_action() -> None:
    """Else the rules would say little."""
    seen: Counter[str] = Counter()
    for history in histories(300, 1):
        seen += live_through(history).seen
    actions = {"Send", "Acknowledge", "GiveBack", "Revoke", "Settle", "Reserve"}
    events = {"publish", "deliver", "end_job", "end_single", "pass_time", "revoke", "lose_process", "lose_connection"}
    events |= {"terminate", "resize", "limit", "restart", "acknowledge_all"}
    assert {name for name in actions | events if seen[name] < 20} == set()


# The rules are held against machines with a fault each.


class AcknowledgesBeforeStoring(Machine):
    def hand_out(self, *of: Any) -> Any:
        actions = super().hand_out(*of)
        for send in [action for action in actions if isinstance(action, Send)]:
            for entry in send.batch.entries:
                self._close(entry.tag)
                actions.append(Acknowledge(entry.tag, False))
        return actions


class AcknowledgesOneTooMany(Machine):
    def _acknowledge(self, now: float) -> Any:
        actions = super()._acknowledge(now)
        return [Acknowledge(one.tag + one.multiple, one.multiple) for one in actions if isinstance(one, Acknowledge)]


class DropsTheLastOfABatch(Machine):
    def stored(self, batch: Batch, *of: Any) -> Any:
        actions = super().stored(Batch(batch.entries[:-1], batch.size), *of)
        self.in_flight.discard(batch)
        return actions


class KeepsTagsOfALostConnection(Machine):
    def lost(self) -> None:
        held = self.held
        super().lost()
        self.held = held


class HandsOutWhatALostConnectionDelivered(Machine):
    def lost(self) -> None:
        waiting, tags = list(self.waiting), dict(self.open)
        super().lost()
        self.waiting.extend(waiting)
        self.open.update(tags)


class SwapsTwoResults(Machine):
    def ended(self, batch: Batch, outcomes: Any) -> Any:
        return super().ended(batch, dict(zip(outcomes, reversed(list(outcomes.values())), strict=True)))


class AcknowledgesWhatItGaveBack(Machine):
    def died(self, *of: Any) -> Any:
        actions = super().died(*of)
        return actions + [Acknowledge(one.entry.tag, False) for one in actions if isinstance(one, GiveBack)]


class HandsAMessageOutTwice(Machine):
    def _batch(self, *of: Any) -> Any:
        batch = super()._batch(*of)
        self.waiting.extend(batch.entries[1:])
        return batch


class SettlesTwice(Machine):
    def ended(self, batch: Batch, outcomes: Any) -> Any:
        return super().ended(batch, outcomes) * 2


class DoesNotHearOfOthersAcknowledgements(Machine):
    def settled(self, *of: Any) -> Any:
        return self._acknowledge(of[-1])


class DoesNotKnowWhatGoesSingly(Machine):
    def _acknowledge(self, now: float) -> Any:
        single = {tag: self.open.pop(tag) for tag, known in list(self.open.items()) if isinstance(known, int)}
        actions = super()._acknowledge(now)
        self.open.update(single)
        return actions


class IgnoresBytes(Machine):
    def _batch(self, *of: Any) -> Any:
        sizes = [(entry, entry.size) for entry in self.waiting]
        for entry, _ in sizes:
            entry.size = 0
        batch = super()._batch(*of)
        for entry, size in sizes:
            entry.size = size
        return batch


class HandsOutWhatIsRevoked(Machine):
    def hand_out(self, now: float, processes: int, _: Callable[[Any], bool]) -> Any:
        return super().hand_out(now, processes, lambda _: False)


class GivesBackWhatIsSettled(Machine):
    def died(self, batch: Batch, now: float) -> Any:
        super().died(batch, now)
        return [GiveBack(entry) for entry in batch.entries]


class NeverAcknowledgesWhatLagsBehind(Machine):
    def _acknowledge(self, now: float) -> Any:
        before = self.held[:]
        actions = [one for one in super()._acknowledge(now) if isinstance(one, Acknowledge)]
        self.held += [one.tag for one in actions if not one.multiple and one.tag in before]
        return [one for one in actions if one.multiple]


class ReservesWhatItCannotHold(Machine):
    def _learn(self, *of: Any) -> Any:
        held, self.bytes = self.bytes, 0
        actions = super()._learn(*of)
        self.bytes = held
        return actions

    def hand_out(self, *of: Any) -> Any:
        return [action for action in super().hand_out(*of) if not isinstance(action, Reserve)]


class BeginsWhileItStops(Machine):
    def stop(self, now: float) -> Any:
        return self._acknowledge(now)


class KeepsThePlaceOfADroppedBatch(Machine):
    def dropped(self, batch: Batch) -> None:
        pass


FAULTS = [
    AcknowledgesBeforeStoring,
    AcknowledgesOneTooMany,
    DropsTheLastOfABatch,
    KeepsTagsOfALostConnection,
    HandsOutWhatALostConnectionDelivered,
    SwapsTwoResults,
    AcknowledgesWhatItGaveBack,
    HandsAMessageOutTwice,
    SettlesTwice,
    DoesNotHearOfOthersAcknowledgements,
    DoesNotKnowWhatGoesSingly,
    IgnoresBytes,
    HandsOutWhatIsRevoked,
    GivesBackWhatIsSettled,
    NeverAcknowledgesWhatLagsBehind,
    ReservesWhatItCannotHold,
    BeginsWhileItStops,
    KeepsThePlaceOfADroppedBatch,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_machine_with_a_fault_breaks_a_rule(fault: type[Machine]) -> None:
    """Within the first thousand histories of a seed."""

    def live() -> None:
        for history in histories(1000, 2):
            live_through(history, fault)

    with pytest.raises(AssertionError):
        live()

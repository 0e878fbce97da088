"""What differs from stock Celery: on purpose, and what is a fault that is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from conformance.observe import ASPECTS, WORKER


@dataclass(frozen=True)
class Difference:
    """Aspects of a feature that differ, where, and why. Where it says nothing of pools or backends, all are meant."""

    feature: str
    aspects: tuple[str, ...]
    reason: str
    pools: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ``ValueError`` where an aspect is none."""
        if strange := set(self.aspects) - set(ASPECTS):
            raise ValueError(f"{self.feature}: no such aspect: {', '.join(sorted(strange))}")

    def applies(self, feature: str, pool: str, backend: str) -> bool:
        """Say whether it is about a feature with a pool and a result backend."""
        return (
            feature == self.feature
            and (not self.pools or pool in self.pools)
            and (not self.backends or backend in self.backends)
        )


#: docs/compatibility.md has these with their reasons.
DIFFERS_ON_PURPOSE: tuple[Difference, ...] = (
    Difference(
        "body that is no JSON",
        ("events", "log", "dead letters"),
        "stock Celery acknowledges it, and it is gone; dead_lettering keeps it, and nobody waits for it in vain",
    ),
    Difference(
        "refused content type",
        ("events", "log"),
        "the same, in one line of the log, and without its content",
    ),
    Difference("unknown task", ("log",), "stock Celery logs the whole message; dead_lettering nothing of its content"),
    Difference(
        "a result over a megabyte",
        ("result", "events", "log", "hooks"),
        "the error says how large the result is, what the limit is, and which settings raise it",
        backends=("memcached",),
    ),
    Difference(
        "a task that always kills its process",
        ("result", "events", "log", "runs", "hooks", "dead letters"),
        "stock Celery begins it again for ever; dead_lettering parks it",
        pools=("prefork",),
    ),
    Difference(
        "revoke",
        ("result", "events", "log", "runs", "hooks"),
        "a task that was handed to a pool process in a batch, which is some 50 ms of work, is not revoked any more",
        pools=("prefork",),
    ),
    Difference(
        "revoke by stamped headers",
        ("result", "events", "log", "runs", "hooks"),
        "the same",
        pools=("prefork",),
    ),
    Difference(
        WORKER,
        ("log",),
        "the worker says which tasks go singly and why; stock Celery warns of what on_failure and the store raised",
        pools=("prefork",),
    ),
)

#: Faults. A case here is expected to fail, and fails when it does not any more.
BEING_MENDED: tuple[Difference, ...] = (
    Difference("a lost process", ("events",), "no event task-rejected for the message that goes back", ("prefork",)),
)


def purposes(feature: str, pool: str, backend: str) -> list[Difference]:
    """Return what differs on purpose in a feature with a pool and a result backend."""
    return [one for one in DIFFERS_ON_PURPOSE if one.applies(feature, pool, backend)]


def judge(differs: Mapping[str, list[str]], expected: Iterable[Difference]) -> list[str]:
    """Return what is wrong with the differences of a feature: what nobody has asked for, what is listed and gone."""
    purpose = {aspect: one for one in expected for aspect in one.aspects}
    wrong = [
        f"{aspect} differs: {line}" for aspect, lines in differs.items() if aspect not in purpose for line in lines
    ]
    wrong += [
        f"{aspect} no longer differs, take it out of DIFFERS_ON_PURPOSE: {one.reason}"
        for aspect, one in purpose.items()
        if aspect not in differs
    ]
    return wrong

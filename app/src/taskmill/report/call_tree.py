"""Who called whom: one tree out of a cProfile or out of sampled stacks, pruned to what can be seen."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskmill.samples.profile import Entries, Where

#: What is less than this share of the whole is left out of a tree, and what lies deeper than this.
LEAST = 0.002
DEEPEST = 48
METHOD = re.compile(r"<method '(.+)' of '(.+)' objects>")


@dataclass
class Call:
    """A function in its place: its time (or samples), what it called included."""

    name: str
    #: File and line, empty for what is built in.
    place: str
    group: str
    value: float
    calls: list[Call] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many places there are in this tree."""
        return 1 + sum(call.count for call in self.calls)

    @property
    def depth(self) -> int:
        """How many levels there are in this tree."""
        return 1 + max((call.depth for call in self.calls), default=0)


def from_profile(entries: Entries) -> Call | None:
    """Return the tree of a cProfile, in seconds; ``None`` for one without time.

    A profile knows only pairs of caller and callee. What a function did for all its callers is divided among them by
    the time that it spent for each.
    """
    called: dict[Where, list[tuple[Where, float]]] = {}
    for function, (_, _, _, _, callers) in entries.items():
        for caller, figures in callers.items():
            if caller != function:
                called.setdefault(caller, []).append((function, figures[3]))
    cumulative = {function: figures[3] for function, figures in entries.items()}
    roots = [
        (function, cumulative[function])
        for function, figures in entries.items()
        if not any(caller in entries and caller != function for caller in figures[4])
    ]
    total = sum(value for _, value in roots)
    if total <= 0:
        return None

    def grow(function: Where, value: float, above: frozenset[Where]) -> Call:
        node = Call(*described(function), library(function[0]), value)
        if len(above) >= DEEPEST or not cumulative[function]:
            return node
        above |= {function}
        below = [
            (callee, spent * value / cumulative[function])
            for callee, spent in called.get(function, [])
            if callee not in above and callee in entries
        ]
        # Recursion makes more of the callees than there is: they share what the function has.
        shrink = min(1.0, value / max(sum(spent for _, spent in below), 1e-12))
        node.calls = [grow(callee, spent * shrink, above) for callee, spent in below if spent * shrink >= LEAST * total]
        return node

    return Call(
        "all threads",
        "",
        "",
        total,
        [grow(root, value, frozenset()) for root, value in roots if value >= LEAST * total],
    )


def from_stacks(stacks: Mapping[tuple[str, ...], int]) -> Call:
    """Return the tree of sampled stacks, in samples."""
    root = Call("all samples", "", "", sum(stacks.values()))
    places: dict[tuple[str, ...], Call] = {(): root}
    for stack, seen in sorted(stacks.items()):
        for depth in range(1, len(stack) + 1):
            place = places.get(stack[:depth])
            if place is None:
                # py-spy writes ``function (file:line)``.
                name, _, where = stack[depth - 1].partition(" (")
                where = where.removesuffix(")")
                place = Call(name, where, library(where.rpartition(":")[0] or where), 0)
                places[stack[:depth]] = place
                places[stack[: depth - 1]].calls.append(place)
            place.value += seen
    prune(root, LEAST * root.value, DEEPEST)
    return root


def prune(call: Call, least: float, depth: int) -> None:
    """Leave out what is too small or too deep."""
    call.calls = [inner for inner in call.calls if inner.value >= least] if depth else []
    for inner in call.calls:
        prune(inner, least, depth - 1)


def described(function: Where) -> tuple[str, str]:
    """Return a function's name, and its place with the last of its path."""
    path, line, name = function
    if line:
        return name, f"{'/'.join(PurePath(path).parts[-2:])}:{line}"
    # Such as <method 'sendall' of '_socket.socket' objects> and <built-in method time.sleep>.
    method = METHOD.fullmatch(name)
    if method:
        return f"{method[1]} ({method[2]})", "built in"
    return name.strip("<>").removeprefix("built-in method "), "built in"


def library(path: str) -> str:
    """Return the package that a file belongs to: the top directory after where Python keeps packages."""
    parts = PurePath(path).parts
    if path.startswith(("~", "<")) or not parts:
        return "built in"
    for index, part in enumerate(parts[:-1]):
        if part in {"site-packages", "dist-packages", "src"}:
            return parts[index + 1].removesuffix(".py")
    if any(part.startswith("python") for part in parts[:-1]):
        return "standard library"
    return parts[0].removesuffix(".py") if not PurePath(path).is_absolute() else parts[-1].removesuffix(".py")

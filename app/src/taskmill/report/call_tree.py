"""Who called whom: a tree made from a cProfile or from sampled stacks, pruned to what a chart can show."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskmill.samples.profile import Entries, Function

#: A call with a smaller share of the whole is left out of a tree.
MIN_SHARE = 0.002
#: Calls deeper than this are left out of a tree.
MAX_DEPTH = 48
METHOD = re.compile(r"<method '(.+)' of '(.+)' objects>")


@dataclass
class Call:
    """A function where it was called: its seconds (or samples), with those of what it called."""

    name: str
    #: File and line, ``built in``, or empty for the root.
    place: str
    #: The package that the file belongs to; empty for the root.
    package: str
    value: float
    calls: list[Call] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of calls in this tree."""
        return 1 + sum(call.count for call in self.calls)

    @property
    def depth(self) -> int:
        """The number of levels in this tree."""
        return 1 + max((call.depth for call in self.calls), default=0)


def from_profile(entries: Entries) -> Call | None:
    """Return the tree of a cProfile, in seconds; ``None`` for a profile in which no time passed.

    A profile knows only pairs of caller and callee: what a function called is divided among its callers by the time
    that it spent for each of them.
    """
    callees: dict[Function, list[tuple[Function, float]]] = {}
    for function, (_, _, _, _, callers) in entries.items():
        for caller, (_, _, _, spent) in callers.items():
            if caller != function:
                callees.setdefault(caller, []).append((function, spent))
    cumulative = {function: seconds for function, (_, _, _, seconds, _) in entries.items()}
    roots = [
        (function, cumulative[function])
        for function, (_, _, _, _, callers) in entries.items()
        if not any(caller in entries and caller != function for caller in callers)
    ]
    total = sum(value for _, value in roots)
    if total <= 0:
        return None

    def grow(function: Function, value: float, above: frozenset[Function]) -> Call:
        node = Call(*name_and_place(function), package_of(function[0]), value)
        if len(above) >= MAX_DEPTH or not cumulative[function]:
            return node
        above |= {function}
        below = [
            (callee, spent * value / cumulative[function])
            for callee, spent in callees.get(function, [])
            if callee not in above and callee in entries
        ]
        # With recursion the callees may have more time than the function; they share what it has.
        shrink = min(1.0, value / max(sum(spent for _, spent in below), 1e-12))
        node.calls = [
            grow(callee, spent * shrink, above) for callee, spent in below if spent * shrink >= MIN_SHARE * total
        ]
        return node

    return Call(
        "all threads",
        "",
        "",
        total,
        [grow(root, value, frozenset()) for root, value in roots if value >= MIN_SHARE * total],
    )


def from_stacks(stacks: Mapping[tuple[str, ...], int]) -> Call:
    """Return the tree of sampled stacks, in samples."""
    root = Call("all samples", "", "", sum(stacks.values()))
    by_stack: dict[tuple[str, ...], Call] = {(): root}
    for stack, samples in sorted(stacks.items()):
        for depth in range(1, len(stack) + 1):
            call = by_stack.get(stack[:depth])
            if call is None:
                # py-spy writes ``function (file:line)``.
                name, _, place = stack[depth - 1].partition(" (")
                place = place.removesuffix(")")
                call = Call(name, place, package_of(place.rpartition(":")[0] or place), 0)
                by_stack[stack[:depth]] = call
                by_stack[stack[: depth - 1]].calls.append(call)
            call.value += samples
    prune(root, MIN_SHARE * root.value, MAX_DEPTH)
    return root


def prune(call: Call, min_value: float, max_depth: int) -> None:
    """Remove the calls below ``call`` that are too small or too deep."""
    call.calls = [inner for inner in call.calls if inner.value >= min_value] if max_depth else []
    for inner in call.calls:
        prune(inner, min_value, max_depth - 1)


def name_and_place(function: Function) -> tuple[str, str]:
    """Return a function's name, and its line with the last two parts of its path."""
    path, line, name = function
    if line:
        return name, f"{'/'.join(PurePath(path).parts[-2:])}:{line}"
    # Such as <method 'sendall' of '_socket.socket' objects> and <built-in method time.sleep>.
    method = METHOD.fullmatch(name)
    if method:
        return f"{method[1]} ({method[2]})", "built in"
    return name.strip("<>").removeprefix("built-in method "), "built in"


def package_of(path: str) -> str:
    """Return the package that a file belongs to: the directory below the one where Python keeps packages."""
    parts = PurePath(path).parts
    if path.startswith(("~", "<")) or not parts:
        return "built in"
    for index, part in enumerate(parts[:-1]):
        if part in {"site-packages", "dist-packages", "src"}:
            return parts[index + 1].removesuffix(".py")
    if any(part.startswith("python") for part in parts[:-1]):
        return "standard library"
    return parts[0].removesuffix(".py") if not PurePath(path).is_absolute() else parts[-1].removesuffix(".py")

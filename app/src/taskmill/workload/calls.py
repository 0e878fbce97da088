"""What each message of a plan calls, and what is right for it.

Both are functions of the plan and the message's number alone, so that whoever takes a run up or collects it comes to
the same from the ids on disk.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Right
from taskmill.model.quoting import quote
from taskmill.workload import functions, rows

if TYPE_CHECKING:
    from taskmill.model.plan import Plan, Route

#: Calls of a kind that are looked at for the size of its results.
SAMPLE = 20


class Call(NamedTuple):
    """The arguments of one message's task."""

    args: list[Any]
    kwargs: dict[str, Any]

    def __str__(self) -> str:
        """Return them as they stand between parentheses in Python."""
        return ", ".join([*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())])


class Kind:
    """The calls of one kind, numbered from 0."""

    def __init__(self, plan: Plan, route: Route) -> None:
        """Read the rows and import the functions; raise ``TaskmillError`` where that fails."""
        self.route = route
        self._seed, self._directory = plan.seed, plan.directory
        self._args = list(plan.args if route.args is None else route.args)
        self._right = route.right or (Right("value", plan.expect) if plan.check else Right())
        self._rows = rows.read(Path(plan.directory) / route.rows) if route.rows else []
        self._generate = functions.find(route.generate, plan.directory) if route.generate else None
        function = self._right.value if self._right.how == "function" else None
        self._function = functions.find(function, plan.directory) if function else None
        #: The one call of a kind whose messages differ in nothing but their ids.
        self.only = None if self._rows or self._generate else Call(self._args, route.kwargs)
        self._only_right: Right | None = None

    def call(self, number: int) -> Call:
        """Return the arguments; raise ``TaskmillError`` where the generator fails or a column is missing."""
        if self.only is not None:
            return self.only
        if self._generate is not None:
            return self._generated(number)
        row = self._rows[number % len(self._rows)]
        return Call(self._fill(self._args, row), self._fill(self.route.kwargs, row))

    def right(self, number: int) -> Right:
        """Return what is right, as a value where it can be worked out; raise ``TaskmillError`` as :meth:`call`."""
        if self._only_right is not None:
            return self._only_right
        right = self._right
        if self._function is not None:
            right = Right("value", self._called(self.call(number)))
        elif right.how == "value" and self._rows:
            right = Right("value", self._fill(right.value, self._rows[number % len(self._rows)]))
        if self.only is not None or right is self._right:
            self._only_right = right
        return right

    def _fill(self, value: Any, row: dict[str, Any]) -> Any:
        try:
            return rows.fill(value, row)
        except KeyError as error:
            raise TaskmillError(
                f"kinds.{self.route.name} names the column {error.args[0]!r}, and {self.route.rows} has "
                f"{', '.join(row)}. Write a text that begins with $ as $$"
            ) from None

    def _generated(self, number: int) -> Call:
        assert self._generate is not None
        dice = random.Random(f"{self._seed} {self.route.name} {number}")  # noqa: S311  # the same again, not secret
        try:
            made = self._generate(dice, number)
        except Exception as error:  # a user's function may raise anything
            self._refuse_missing(self.route.generate, error)
            raise TaskmillError(
                f"kinds.{self.route.name}: {self.route.generate} raised {type(error).__name__}: {error}, for the index "
                f"{number}"
            ) from error
        if isinstance(made, dict):
            return Call([], made)
        if isinstance(made, (list, tuple)):
            return Call(list(made), {})
        raise TaskmillError(
            f"kinds.{self.route.name}: {self.route.generate} returned {quote(made)}: return a list of arguments, or a "
            f"dictionary of keyword arguments"
        )

    def _called(self, call: Call) -> Any:
        assert self._function is not None
        try:
            return self._function(*call.args, **call.kwargs)
        except Exception as error:  # as above
            self._refuse_missing(self._right.value, error)
            raise TaskmillError(
                f"kinds.{self.route.name}: {self._right.value}({quote(str(call), plain=True)}) raised "
                f"{type(error).__name__}: {error}. It is to return the right value; where the task is to fail, say "
                f"fails: {type(error).__name__}"
            ) from error

    def _refuse_missing(self, function: str, error: Exception) -> None:
        """Raise ``TaskmillError`` where a function failed over a module that the client does not have."""
        if lacks := functions.missing(error, self._directory):
            raise TaskmillError(f"kinds.{self.route.name}: {function} failed{lacks}") from error


class Calls:
    """The calls of all messages of a plan, by their numbers in the run."""

    def __init__(self, plan: Plan) -> None:
        """Read rows and import functions; raise ``TaskmillError`` where that fails."""
        self.kinds = [Kind(plan, route) for route in plan.routes]
        self.slots = plan.slots
        self._cycle = len(self.slots)
        weights = [self.slots.count(place) for place in range(len(self.kinds))]
        ranks: list[int] = [0] * len(self.kinds)
        #: For each slot: its kind, the messages of that kind before it, and in each round of the slots.
        self._turns = []
        for place in self.slots:
            self._turns.append((self.kinds[place], ranks[place], weights[place]))
            ranks[place] += 1

    @property
    def uniform(self) -> bool:
        """Whether the messages of each kind differ in nothing but their ids."""
        return all(kind.only is not None and not kind.route.countdown for kind in self.kinds)

    def check(self) -> None:
        """Make the first call of each kind, and what is right for it.

        Raises ``TaskmillError`` where that fails, where a generator does not give the same again, and for arguments
        that JSON does not carry.
        """
        from kombu.utils import json as celery_json  # noqa: PLC0415  # who reads a plan needs no client library

        for kind in self.kinds:
            call, name = kind.call(0), kind.route.name
            kind.right(0)
            try:
                text = celery_json.dumps(call)
            except Exception as error:  # kombu raises errors of its own
                raise TaskmillError(
                    f"kinds.{name}: JSON does not carry the arguments ({quote(str(call), plain=True)}): {error}"
                ) from error
            if celery_json.dumps(kind.call(0)) != text:
                raise TaskmillError(
                    f"kinds.{name}: {kind.route.generate} gives other arguments when it is asked again for the index "
                    f"0. Take what is random from the random.Random that it is handed, so that results can be compared"
                )

    def call(self, number: int) -> Call:
        """Return the arguments of a message's task; raise ``TaskmillError`` as :meth:`Kind.call`."""
        kind, place = self._locate(number)
        return kind.call(place)

    def right(self, number: int) -> Right:
        """Return what is right for a message's result; raise ``TaskmillError`` as :meth:`Kind.right`."""
        kind, place = self._locate(number)
        return kind.right(place)

    def _locate(self, number: int) -> tuple[Kind, int]:
        turn, slot = divmod(number, self._cycle)
        kind, rank, weight = self._turns[slot]
        return kind, turn * weight + rank


def largest_value(plan: Plan) -> Any:
    """Return the right value whose text is the longest, of the first messages of each kind; ``None`` without any."""
    calls = Calls(plan)
    rights = [kind.right(number) for kind in calls.kinds for number in range(SAMPLE if kind.only is None else 1)]
    return max((right.value for right in rights if right.how == "value"), key=lambda one: len(repr(one)), default=None)

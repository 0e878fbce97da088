"""The scenario's file: kinds of messages in YAML, read strictly. ``docs/scenario.yml`` has every key."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import yaml
from msgspec import UNSET, Meta, Struct, UnsetType

from taskmill.model.nearest import nearest
from taskmill.model.plan import NAME, FaultMoment, Right, Route
from taskmill.model.quoting import quote
from taskmill.model.stages import Stage
from taskmill.model.thresholds import Requirement
from taskmill.workload.rows import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable

FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
#: Of these a kind has one at most.
RIGHTS = ("expect", "expect_from", "fails")
#: The forms of a stage.
STAGES = (
    "give one of {ramp: [10, 100], seconds: 30}, {hold: 100, seconds: 30}, {hold: 100, count: 3000}, {burst: 1000} and "
    "{pause: 30}; rates are tasks per second"
)
#: What msgspec says of a value of another type, and where.
ERROR = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<where>.*)`)?", re.DOTALL)


class KindEntry(Struct, forbid_unknown_fields=True):
    """A kind of message, as it stands in the file; see :class:`taskmill.model.plan.Route`."""

    task: str
    queue: str
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    rows: str = ""
    generate: str = ""
    expect: Any = UNSET
    expect_from: str = ""
    fails: str = ""
    priority: Annotated[int, Meta(ge=0, le=255)] | UnsetType = UNSET
    countdown: Annotated[float, Meta(ge=0)] = 0.0


class StageEntry(Struct, forbid_unknown_fields=True):
    """A stage, as it stands in the file; see :class:`taskmill.model.stages.Stage`."""

    ramp: list[Annotated[float, Meta(ge=0)]] = []
    hold: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    burst: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    pause: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    seconds: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    count: Annotated[int, Meta(ge=1)] | UnsetType = UNSET

    def stage(self) -> Stage:
        """Return it as a plan has it; raise ``ValueError`` where its keys do not go together."""
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value not in (UNSET, [])}
        if any(isinstance(value, float) and not math.isfinite(value) for value in (*given.values(), *self.ramp)):
            raise ValueError("give numbers that are finite")
        match given:
            case {"ramp": [first, last], "seconds": seconds, **rest} if not rest:
                made = Stage.ramp(first, last, seconds)
            case {"hold": rate, "seconds": seconds, **rest} if not rest:
                made = Stage.ramp(rate, rate, seconds)
            case {"hold": rate, "count": count, **rest} if not rest:
                return Stage(count, count / rate, rate, rate)
            case {"burst": count, **rest} if not rest:
                return Stage(count)
            case {"pause": seconds, **rest} if not rest:
                return Stage(0, seconds)
            case _:
                raise ValueError(STAGES)
        if not made.tasks:
            raise ValueError("not one task is due in it: raise the rate or the seconds, or say pause")
        return made


class FaultEntry(Struct, forbid_unknown_fields=True):
    """A fault with its moment, as it stands in the file; see :class:`taskmill.model.plan.FaultMoment`."""

    fault: str
    at: Annotated[float, Meta(ge=0)]


class Scenario(Struct, forbid_unknown_fields=True):
    """A scenario, as it stands in its file."""

    kinds: dict[str, KindEntry]
    seed: int = 0
    stages: list[StageEntry] = []
    thresholds: list[str] = []
    faults: list[FaultEntry] = []

    @property
    def due(self) -> tuple[Stage, ...]:
        """The stages, as a plan has them."""
        return tuple(entry.stage() for entry in self.stages)

    @property
    def moments(self) -> tuple[FaultMoment, ...]:
        """The faults in the order of their moments, as a plan has them."""
        return tuple(FaultMoment(one.fault, one.at) for one in sorted(self.faults, key=lambda one: one.at))

    @property
    def routes(self) -> tuple[Route, ...]:
        """The kinds, as a plan has them."""
        return tuple(route(name, entry) for name, entry in self.kinds.items())


class Loader(yaml.SafeLoader):
    """YAML in which no key stands twice: the second would replace the first without a word."""


def _mapping(loader: Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
        seen.add(key.value)
    return dict(loader.construct_pairs(node, deep=True))


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read(path: Path) -> Scenario:
    """Return the scenario in a file; raise ``ValueError`` that names the key, what is wrong with it and what is right.

    Files with rows have to be there. Functions are imported later, by ``Calls``.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{path} is not YAML: {error.problem}{line}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    try:
        return _scenario(data, path.parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _scenario(data: Any, directory: Path) -> Scenario:
    _check_keys(data, Scenario, "the scenario")
    kinds = data.get("kinds")
    if not isinstance(kinds, dict) or not kinds:
        raise ValueError("kinds has to be a mapping with at least one kind, such as invoice: {task: ..., queue: ...}")
    for name, entry in kinds.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(
                f"kinds.{name}: the name has to be text of letters, digits, '.', '_' and '-', and begin with a letter "
                f"or a digit"
            )
        _check_keys(entry, KindEntry, f"kinds.{name}")
        kinds[name] = _convert(entry, KindEntry, f"kinds.{name}")
        for wrong in _wrong(kinds[name], directory):
            raise ValueError(f"kinds.{name}{wrong}")
    found: Scenario = _convert({**data, "kinds": {}, "stages": [], "faults": []}, Scenario, "", kinds=kinds)
    for place, text in enumerate(found.thresholds):
        try:
            Requirement.parse(text).check_kind(list(kinds))
        except ValueError as error:
            raise ValueError(f"thresholds[{place}]: {error}") from None
    stages, faults = _stages(data.get("stages", [])), _faults(data.get("faults", []))
    return msgspec.structs.replace(found, stages=stages, faults=faults)


def _stages(data: Any) -> list[StageEntry]:
    if not isinstance(data, list):
        raise ValueError(f"stages is {quote(data)}: give a list of them, such as [{{burst: 1000}}]")  # noqa: TRY004  # as above
    entries = []
    for place, one in enumerate(data):
        _check_keys(one, StageEntry, f"stages[{place}]")
        entries.append(_convert(one, StageEntry, f"stages[{place}]"))
        try:
            entries[-1].stage()
        except ValueError as error:
            raise ValueError(f"stages[{place}]: {error}") from None
    if entries and not any(entry.stage().tasks for entry in entries):
        raise ValueError("stages has nothing but pauses")
    return entries


def _faults(data: Any) -> list[FaultEntry]:
    """Return the faults; which there are is known to the playbook alone."""
    if not isinstance(data, list):
        raise ValueError(f"faults is {quote(data)}: give a list of them, such as [{{fault: kill-worker, at: 30}}]")  # noqa: TRY004  # as above
    entries: list[FaultEntry] = []
    for place, one in enumerate(data):
        _check_keys(one, FaultEntry, f"faults[{place}]")
        entry = _convert(one, FaultEntry, f"faults[{place}]")
        if not NAME.fullmatch(entry.fault):
            raise ValueError(f"faults[{place}].fault is {entry.fault!r}: give a name, such as kill-worker")
        if not math.isfinite(entry.at):
            raise ValueError(f"faults[{place}].at is {entry.at}: give seconds")
        entries.append(entry)
    return entries


def _check_keys(data: Any, structure: type[Struct], place: str) -> None:
    if not isinstance(data, dict):
        raise ValueError(f"{place} is {quote(data)}: give a mapping of keys")  # noqa: TRY004  # of the file's content
    known = [field.encode_name for field in msgspec.structs.fields(structure)]
    for key in data:
        if key not in known:
            words = nearest(str(key), known, f"known are {', '.join(known)}")
            raise ValueError(f"{place} has no key {key!r}: {words}")


def _convert(data: Any, structure: Any, place: str, **instead: Any) -> Any:
    try:
        made = msgspec.convert(data, structure)
    except msgspec.ValidationError as error:
        found = ERROR.fullmatch(str(error))
        assert found is not None
        where = f"{place}{found['where'] or ''}".lstrip(".")
        raise ValueError(f"{where}: {found['what'][:1].lower()}{found['what'][1:]}") from None
    return msgspec.structs.replace(made, **instead)


def _wrong(entry: KindEntry, directory: Path) -> Iterable[str]:
    """Yield what is wrong with a kind beyond the types of its values."""
    if not entry.task or entry.task != entry.task.strip():
        yield f".task is {entry.task!r}: give the name that the task is registered by"
    try:
        Route.parse(f"{'task'}={entry.queue}")
    except ValueError:
        yield f".queue is {entry.queue!r}: give a queue's name, of at most 255 bytes and without spaces"
    for name in ("generate", "expect_from"):
        text = getattr(entry, name)
        if text and not FUNCTION.fullmatch(text):
            yield f".{name} is {text!r}: give MODULE:FUNCTION, such as values:total"
    if entry.generate and (entry.args or entry.kwargs or entry.rows):
        yield ": generate makes all the arguments; args, kwargs and rows cannot stand beside it"
    given = [name for name in RIGHTS if getattr(entry, name) not in (UNSET, "")]
    if len(given) > 1:
        yield f": {' and '.join(given)} say each what is right; keep one of them"
    if entry.rows:
        path = Path(entry.rows)
        if path.is_absolute() or ".." in path.parts or path.suffix not in SUFFIXES:
            yield f".rows is {entry.rows!r}: give a {' or '.join(SUFFIXES)} file beside the scenario or below"
        elif not (directory / path).is_file():
            yield f".rows is {entry.rows!r}, and there is no such file in {directory}"
    if not math.isfinite(entry.countdown):
        yield f".countdown is {entry.countdown}: give seconds"


def route(name: str, entry: KindEntry) -> Route:
    """Return the kind as a plan has it."""
    right = Right()
    if entry.expect is not UNSET:
        right = Right("value", entry.expect)
    elif entry.expect_from:
        right = Right("function", entry.expect_from)
    elif entry.fails:
        right = Right("fails", entry.fails)
    return Route(
        entry.task,
        entry.queue,
        name=name,
        weight=entry.weight,
        args=tuple(entry.args),
        kwargs=entry.kwargs,
        rows=entry.rows,
        generate=entry.generate,
        priority=None if entry.priority is UNSET else entry.priority,
        countdown=entry.countdown,
        right=right,
    )

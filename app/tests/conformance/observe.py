"""Make what was seen of two workers comparable, feature by feature, and say what differs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from conformance.app import FIELD, RECORD
from conformance.drive import Seen

#: What is compared of each task: its result, its events, its log records, how often it ran, what hooks, signals and
#: methods of its request were called, and whether its message became a dead letter.
ASPECTS = ("result", "events", "log", "runs", "hooks", "dead letters", "posting")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: What is never the same twice, and what stands for it.
VARIES = (
    (re.compile(r"0x[0-9a-f]{6,}"), "<address>"),
    (re.compile(r"succeeded in [-\d.e]+s"), "succeeded in <time>s"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?"), "<time>"),
    (re.compile(r"\bgen\d+@[\w.-]+"), "<client>"),
    (re.compile(r"\bdatetime\.datetime\([^)]*\)"), "<time>"),
    (re.compile(r"(Job|Task handler raised error: .*Job): \d+"), r"\1: <number>"),
    (re.compile(r"\((job|pid)[:=] ?\d+\)|\bpid:\d+"), "<process>"),
    (re.compile(r"\bThread-\d+"), "<thread>"),
)  # fmt: skip
#: Fields of events that are compared; the rest are times, numbers of the clock, and what stands in others.
EVENT_FIELDS = ("name", "args", "kwargs", "root_id", "parent_id", "retries", "result", "exception", "requeue",
                "terminated", "signum", "expired", "queue", "routing_key")  # fmt: skip
#: Events that a pool process sends, in no order with those of the worker's main process.
OF_THE_POOL = ("task-sent", "task-own")
#: Where a result backend has no count of a chord's results, this task looks for them again and again. How often depends
#: on the time that they take, so only how it ended is compared.
POLL = "celery.chord_unlock"
#: Longest text that is compared by itself and not by its length alone.
LONGEST = 600
#: The key that taskmill_worker adds to a result: when its task ran (task_times). Celery's clients do not look at it.
ADDED_KEYS = frozenset({"taskmill"})
#: Stands for what no task says, but the worker.
WORKER = "the worker itself"


@dataclass
class Observation:
    """What is compared of one feature: by aspect and label."""

    aspects: dict[str, dict[str, Any]] = field(default_factory=lambda: {aspect: {} for aspect in ASPECTS})


class Normaliser:
    """Puts labels in place of ids, and words in place of what varies."""

    def __init__(self, labels: dict[str, str]) -> None:
        """Take the labels by id."""
        self.labels = labels
        #: Ids that the client has chosen.
        self.own = {one: label for one, label in labels.items() if not UUID.fullmatch(one)}

    def __call__(self, value: Any) -> str:
        """Return the text of a value."""
        text = str(value)
        if len(text) > 10 * LONGEST:
            return f"{text[:100]}... ({len(text)} characters)"
        text = UUID.sub(lambda found: f"<{self.labels.get(found[0], 'id')}>", text)
        for pattern, word in VARIES:
            text = pattern.sub(word, text)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."

    def label(self, text: str) -> str | None:
        """Return the label of the first task that a text names, by its id or by itself."""
        for found in UUID.finditer(text):
            if found[0] in self.labels:
                return self.labels[found[0]]
        return next((label for one, label in self.own.items() if one in text), None)


def observations(seen: Seen) -> dict[str, Observation]:
    """Return what is compared, by feature."""
    found: dict[str, Observation] = defaultdict(Observation)
    normal = Normaliser(seen.labels)

    def put(aspect: str, label: str, value: Any) -> None:
        found[label.partition("/")[0]].aspects[aspect][label] = value

    for label, stored in seen.results.items():
        kept = {key: normal(value) for key, value in stored.items() if key != "keys"}
        put("result", label, {**kept, "keys": sorted(set(stored.get("keys", ())) - ADDED_KEYS)})
    for label, events in events_by_label(seen, normal).items():
        put("events", label, events)
    for label, records in records_by_label(seen, normal).items():
        put("log", label, sorted(records))
    runs = Counter(note["label"] for note in seen.notes if note["what"] == "ran")
    for label, number in runs.items():
        put("runs", label, number)
    hooks: dict[str, list[str]] = defaultdict(list)
    for note in seen.notes:
        if note["what"] != "ran":
            fields = {key: value for key, value in note.items() if key not in {"label", "what", "id"}}
            hooks[note["label"]].append(normal(f"{note['what']} {fields or ''}"))
    for label, calls in hooks.items():
        put("hooks", label, sorted(calls))
    for label, number in Counter(dead_label(one, seen.labels) for one in seen.dead).items():
        put("dead letters", label, number)
    for label, why in seen.not_posted.items():
        put("posting", label, normal(why))
    ended = {"ended by itself": seen.deaths, "exit code": seen.exit_code, "left in the queue": seen.left}
    for what, value in ended.items():
        put("runs", f"{WORKER}//{what}", value)
    return dict(found)


def dead_label(identifier: str, labels: dict[str, str]) -> str:
    """Return the label of a dead letter."""
    return labels.get(identifier, f"{WORKER}//dead letters")


def event_fields(event: dict[str, Any], normal: Normaliser) -> list[str]:
    """Return what is compared of an event.

    Of the tasks that it descends from, the feature alone: a chord's body has the header's task that ended last.
    """
    fields = {key: normal(event[key]) for key in EVENT_FIELDS if event.get(key) is not None}
    for key in {"root_id", "parent_id"} & set(fields):
        fields[key] = fields[key].rpartition("/")[0]
    return [f"{key}={value}" for key, value in fields.items()]


def events_by_label(seen: Seen, normal: Normaliser) -> dict[str, dict[str, list[str]]]:
    """Return the events of each task: those of the worker in order, those of pool processes and the client sorted."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: {"worker": [], "others": []})
    polls = {event["uuid"]: "" for event in seen.events if event.get("name") == POLL}
    for event in seen.events:
        if event["uuid"] in polls:
            polls[event["uuid"]] = event["type"]
            continue
        label = seen.labels.get(event["uuid"], f"{WORKER}//events")
        whose = "others" if event["type"] in OF_THE_POOL else "worker"
        found[label][whose].append(" ".join([event["type"], *event_fields(event, normal)]))
    if polls:
        found[f"{WORKER}//{POLL}"]["worker"] = sorted(polls.values())
    for events in found.values():
        events["others"].sort()
        # What a pool process or thread does comes to notice by a way of its own: by then what comes again under the
        # task's id, since it retries, is replaced or rejected, may have arrived.
        if sum(one.startswith("task-received") for one in events["worker"]) > 1:
            events["worker"].sort()
    return found


def records_by_label(seen: Seen, normal: Normaliser) -> dict[str, list[str]]:
    """Return level, logger, and first and last line of the log records, by the task that they name."""
    found: dict[str, list[str]] = defaultdict(list)
    for record in seen.log.split(RECORD)[1:]:
        level, logger, message = (*record.split(FIELD, 2), "", "")[:3]
        lines = [line for line in message.splitlines() if line.strip()] or [""]
        label = normal.label(message)
        if label is None:
            if level in {"DEBUG", "INFO"}:
                continue
            label = f"{WORKER}//log"
        last = f" ... {normal(lines[-1])}" if len(lines) > 1 else ""
        entry = f"{level} {logger} {normal(lines[0])}{last}"
        # Python says the same warning once in each process, and any number of these has run into it.
        if logger != "py.warnings" or entry not in found[label]:
            found[label].append(entry)
    return found


def differences(stock: Observation | None, ours: Observation | None) -> dict[str, list[str]]:
    """Return by aspect what differs in a feature, a line for each thing; copies that differ alike are one line."""
    found: dict[str, list[str]] = {}
    for aspect in ASPECTS:
        one = stock.aspects[aspect] if stock else {}
        other = ours.aspects[aspect] if ours else {}
        lines: dict[str, None] = {}
        for label in sorted({*one, *other}):
            if one.get(label) != other.get(label):
                for what in describe(one.get(label), other.get(label)):
                    lines[re.sub(r"/\d+/", "/", f"{label}: {what}")] = None
        if lines:
            found[aspect] = list(lines)
    return found


def describe(one: Any, other: Any) -> list[str]:
    """Return what stock Celery has and ours has not, and the other way round; a line for each key or entry."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            f"{key}: {line}"
            for key in sorted({*one, *other})
            if one.get(key) != other.get(key)
            for line in describe(one.get(key), other.get(key))
        ]
    if isinstance(one, list) and isinstance(other, list):
        stock, ours = (Counter(map(str, entries)) for entries in (one, other))
        alone = [f"{whose} alone: {entry}" for whose, more in (("stock", stock - ours), ("ours", ours - stock))
                 for entry in more.elements()]  # fmt: skip
        return alone or [f"the same in another order: stock {one}, ours {other}"]
    return [f"stock {one!r}, ours {other!r}"]


def most_at_once(seen: Seen) -> int:
    """Return how many tasks had begun and not ended, at most, of those that began once and succeeded."""
    kinds = Counter((event["uuid"], event["type"]) for event in seen.events)
    steps = {"task-started": 1, "task-succeeded": -1}
    under_way = most = 0
    for event in seen.events:
        if all(kinds[event["uuid"], kind] == 1 for kind in steps):
            under_way += steps.get(event["type"], 0)
            most = max(most, under_way)
    return most

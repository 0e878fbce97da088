"""Records with every key that the report reads: what an older or damaged ``run.json`` lacks has a default here."""

from __future__ import annotations

from typing import Any

from taskmill.model import record
from taskmill.report.plain_data import as_dict, as_number

COUNTS = ("posted", "confirmed", "distinct", "retrieved", "correct", "wrong", "failed", "lost", "duplicates")
#: Defaults of the sections' keys. A section may have more keys than these.
SECTIONS: dict[str, dict[str, Any]] = {
    "workload": {
        "task": "",
        "tasks": 0,
        "n": None,
        "queues": [],
        "args": [],
        "threads": 0,
        "processes": 0,
        "rate": None,
    },
    "counts": dict.fromkeys(COUNTS, 0),
    "seconds": {"post": 0.0, "collect": 0.0, "total": 0.0},
    "rates": {"posted_per_s": 0.0, "completed_per_s": 0.0},
    "client": {},
    "environment": {},
    "memcached": {},
    "by_queue": {},
    "by_worker": {},
    "latency": {},
    "clocks": {},
    "task_seconds": {},
}
#: Defaults of the keys that are no section.
VALUES: dict[str, Any] = {
    "schema": 0,
    "parked": 0,
    "name": "",
    "started_at": "",
    "stack": "",
    "efficiency": None,
    "state": record.STOPPED,
    "duplicates_from": "",
    "checked": True,
    "workers": [],
    "problems": [],
    "requirements": [],
}
#: Defaults of each entry of these lists. An entry has no other keys.
ENTRIES: dict[str, dict[str, Any]] = {
    "workers": {"name": "", "pool": "", "pool_size": None, "prefetch": None, "queues": [], "software": ""},
    "requirements": {"text": "", "metric": "", "value": None, "met": False},
}


def complete(data: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a record in which every key above is there and of its default's type."""
    completed = {name: value_or_default(data.get(name), default) for name, default in VALUES.items()}
    for name, defaults in SECTIONS.items():
        section = as_dict(data.get(name))
        completed[name] = section | {
            key: value_or_default(section.get(key), default) for key, default in defaults.items()
        }
    for name in ("by_queue", "by_worker"):
        completed[name] = {key: as_dict(value) for key, value in completed[name].items()}
    for name, defaults in ENTRIES.items():
        completed[name] = [
            {key: value_or_default(entry.get(key), default) for key, default in defaults.items()}
            for entry in completed[name]
            if isinstance(entry, dict)
        ]
    completed["efficiency"] = as_number(completed["efficiency"])
    return data | completed


def value_or_default(value: Any, default: Any) -> Any:
    """Return the value where its type is the default's, else the default; any value where the default is ``None``."""
    if default is None:
        return value
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        return default if as_number(value) is None else value
    return value if isinstance(value, type(default)) else default

"""Values as Celery's JSON carries them: datetime, UUID, Decimal and bytes come back as they were, tuples as lists.

Results may be stored by another serializer (``result_serializer``): msgpack and YAML are read, too, each by what its
text begins with, and their values are then taken as JSON would carry them. Pickle is not read.
"""

from __future__ import annotations

import json
from typing import Any

from kombu.utils import json as celery_json

try:
    import msgpack  # type: ignore[import-untyped]  # it carries no types
except ImportError:  # who has no such results need not have it
    msgpack = None
try:
    import yaml
except ImportError:  # as above
    yaml = None  # type: ignore[assignment]

#: What marks a value that plain JSON does not have.
MARK = "__type__"
#: What msgpack begins a dictionary with, of up to 15 entries or more; neither JSON nor YAML does.
MSGPACK = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])


def parse(text: str | bytes) -> Any:
    """Read JSON text that Celery wrote; raise ``ValueError`` or ``TypeError`` where it is none."""
    # Hardly any result has such a value, and looking for them in each costs more than the rest of the reading.
    if MARK in text if isinstance(text, str) else MARK.encode() in text:
        try:
            return celery_json.loads(text)
        except (ValueError, TypeError, AttributeError, ArithmeticError):
            # A task may return a dictionary that looks like such a value.
            pass
    return json.loads(text)


def parse_stored(text: str | bytes) -> Any:
    """Read a result that Celery stored by JSON, msgpack or YAML, with its value as JSON carries it.

    Raises ``ValueError`` or ``TypeError`` where it is none of these, or where the package that reads it is missing.
    """
    if text[:1] in ("{", b"{"):
        return parse(text)
    packed = isinstance(text, bytes) and text[:1] and text[0] in MSGPACK
    meta = by_msgpack(text) if packed else by_yaml(text)  # type: ignore[arg-type]  # bytes they are
    return {**meta, "result": carried(meta["result"])} if isinstance(meta, dict) and "result" in meta else meta


def by_msgpack(text: bytes) -> Any:
    """Read what kombu's serializer ``msgpack`` wrote; raise ``ValueError`` where it did not."""
    if msgpack is None:
        raise ValueError("results by msgpack need the package msgpack on the client")
    # What it raises is a ValueError, but for these.
    try:
        return msgpack.unpackb(text, raw=False, strict_map_key=False)
    except (msgpack.UnpackException, RecursionError) as error:
        raise ValueError(str(error)) from error


def by_yaml(text: str | bytes) -> Any:
    """Read what kombu's serializer ``yaml`` wrote; raise ``ValueError`` where it did not."""
    if yaml is None:
        raise ValueError("results by YAML need the package PyYAML on the client")
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from error


def carried(value: Any) -> Any:
    """Return a value as it comes back from a worker; what Celery's JSON does not carry comes back as it is."""
    try:
        return parse(celery_json.dumps(value))
    except (ValueError, TypeError):
        return value

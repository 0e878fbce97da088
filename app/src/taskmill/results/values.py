"""Values as Celery's JSON carries them: datetime, UUID, Decimal and bytes come back as they were, tuples as lists."""

from __future__ import annotations

import json
from typing import Any

from kombu.utils import json as celery_json

#: What marks a value that plain JSON does not have.
MARK = "__type__"


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


def carried(value: Any) -> Any:
    """Return a value as it comes back from a worker; what Celery's JSON does not carry comes back as it is."""
    try:
        return parse(celery_json.dumps(value))
    except (ValueError, TypeError):
        return value

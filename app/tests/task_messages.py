"""Task messages as anyone may send them, past Celery's own checks."""

from __future__ import annotations

import json
import uuid
from typing import Any

import amqp

#: What a message's body says of what comes after its task, where nothing does.
NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def headers(task: str = "fibonacci.tasks.red", **others: Any) -> dict[str, Any]:
    """Return the headers of a task message with an id of its own."""
    return {"task": task, "id": str(uuid.uuid4()), "lang": "py", **others}


def body(*arguments: Any) -> str:
    """Return the JSON body of a task message."""
    return json.dumps([list(arguments), {}, NOTHING])


def message(
    text: str | bytes, fields: dict[str, Any] | None, kind: str = "application/json", **properties: Any
) -> amqp.Message:
    """Return a message of this body, with these headers."""
    encoding = "utf-8" if isinstance(text, str) else "binary"
    return amqp.Message(
        text,
        content_type=kind,
        content_encoding=encoding,
        application_headers=fields,
        delivery_mode=2,
        **properties,
    )

"""What tasks of the tests' apps write down, in the file that TASK_NOTES names, a line each; and wait for."""

import os
import time
from pathlib import Path
from typing import Any


def note(text: Any) -> list[str]:
    """Write down that a task ran, and return all that did so far."""
    path = Path(os.environ["TASK_NOTES"])
    with path.open("a") as log:
        log.write(f"{text}\n")
    return path.read_text().splitlines()


def wait_for_note(line: str, seconds: float = 60) -> None:
    """Wait until the file has the line; raise ``TimeoutError`` after so many seconds."""
    end = time.monotonic() + seconds
    while line not in Path(os.environ["TASK_NOTES"]).read_text().splitlines():
        if time.monotonic() > end:
            raise TimeoutError(f"no line {line!r} within {seconds:g} s")
        time.sleep(0.05)

"""The ids of a run on disk: three files per posting thread, in ``ids/`` of the run folder.

``PP-TTT.ids`` has one line per task, ``ID QUEUE``, in the order of posting. Lines are written before their messages
are sent, so every message that the broker may have got is in the file.

``PP-TTT.confirmed`` holds one number, ``C``: the broker has confirmed the messages of the first ``C`` lines. The lines
after them may or may not have been sent; after an orderly end there are none, after ``kill -9`` at most one window of
the thread.

``PP-TTT.times`` has one line for each time that the thread posted, ``COUNT UNIX``: the messages of the lines up to the
``COUNT``-th, and not of an earlier line of this file, were first sent at that time.

The files are handed to the operating system at every write: they survive the end of the process by any signal; a power
failure may take the last seconds.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from taskmill.model.errors import PostingError, TaskmillError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from taskmill.model.plan import Plan

ID_LENGTH = 36
DIGITS = 20
#: Seconds between two looks whether another client still writes.
LOOK = 0.5


class Journal:
    """The files of one posting thread, for writing."""

    def __init__(self, folder: Path, process: int, thread: int, taken_up: ThreadIds | None = None) -> None:
        """Make the files; raise ``FileExistsError`` rather than write over ids, unless what is there is taken up."""
        paths = [folder / f"{stem(process, thread)}{suffix}" for suffix in (".ids", ".confirmed", ".times")]
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if taken_up is None else 0)
        self._ids, self._confirmed, self._times = (os.open(path, flags, 0o644) for path in paths)
        # For as long as this process lives, and for no longer, whatever ends it.
        fcntl.flock(self._ids, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._folder = folder
        self._written = -1
        if taken_up is not None:
            # Without the half line that a kill may leave.
            os.ftruncate(self._ids, taken_up.size)
            for descriptor in (self._ids, self._times):
                os.lseek(descriptor, 0, os.SEEK_END)
        self.confirm(taken_up.confirmed if taken_up is not None else 0)

    def write(self, lines: bytes, count: int, unix: float) -> None:
        """Append whole lines, which makes ``count`` of them, to be sent at that time; then the system has them.

        Raises ``PostingError`` when they cannot be kept: their messages must not be sent then.
        """
        try:
            for descriptor, data in ((self._ids, lines), (self._times, b"%d %.6f\n" % (count, unix))):
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
        except OSError as error:
            raise PostingError(f"the ids cannot be kept in {self._folder}: {error.strerror}") from error

    def confirm(self, count: int) -> None:
        """Say that the broker has confirmed the first ``count`` lines; raise ``PostingError`` when that fails."""
        if count == self._written:
            return
        try:
            os.pwrite(self._confirmed, b"%0*d\n" % (DIGITS, count), 0)
        except OSError as error:
            raise PostingError(f"the confirms cannot be kept in {self._folder}: {error.strerror}") from error
        self._written = count

    def close(self) -> None:
        """Bring the files to the disk, as far as it takes them, and close them."""
        for descriptor in (self._ids, self._confirmed, self._times):
            with suppress(OSError):
                os.fsync(descriptor)
            os.close(descriptor)


@dataclass(frozen=True)
class ThreadIds:
    """What one thread left: ``lines`` as ``(id, queue)`` pairs of bytes, the first ``confirmed`` confirmed."""

    name: str
    lines: list[tuple[bytes, bytes]]
    confirmed: int
    #: When each line's message was first sent, in Unix seconds; NaN where that is not known.
    posted: NDArray[np.float64]
    #: Bytes of the whole lines.
    size: int


def stem(process: int, thread: int) -> str:
    """Return what the names of a thread's files begin with, and what it is called."""
    return f"{process:02d}-{thread:03d}"


def first_numbers(plan: Plan) -> dict[str, int]:
    """Return the number in the run of each thread's first message, by the thread's name."""
    return {stem(*divmod(place, plan.threads)): number for place, (number, _) in enumerate(plan.posters())}


def await_writers(folder: Path, seconds: float, stop: threading.Event) -> None:
    """Wait until nobody writes to the journals any more; raise ``TaskmillError`` when somebody still does then."""
    end = time.monotonic() + seconds
    while any(map(is_written, folder.glob("*.ids"))):
        if time.monotonic() > end:
            raise TaskmillError(
                f"another client still posts into {folder.parent}. Wait for it, or end it, and try again"
            )
        if stop.wait(LOOK):
            return


def is_written(path: Path) -> bool:
    """Say whether a process has this journal open for writing."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def read(folder: Path) -> Iterator[ThreadIds]:
    """Yield what each thread left in the folder ``ids``, in the order of their names.

    A last line without its end of line was never sent and is left out.
    """
    for path in sorted(folder.glob("*.ids")):
        queues: dict[bytes, bytes] = {}
        lines = []
        size = 0
        with path.open("rb") as file:
            for line in file:
                identifier, _, queue = line.partition(b" ")
                if len(identifier) == ID_LENGTH and queue.endswith(b"\n"):
                    lines.append((identifier, queues.setdefault(queue, queue[:-1])))
                    size += len(line)
        confirmed = min(read_confirmed(path.with_suffix(".confirmed")), len(lines))
        yield ThreadIds(path.stem, lines, confirmed, read_times(path.with_suffix(".times"), len(lines)), size)


def read_confirmed(path: Path) -> int:
    """Return the number in a ``.confirmed`` file; 0 when there is none."""
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return 0


def read_times(path: Path, lines: int) -> NDArray[np.float64]:
    """Return what a ``.times`` file says of so many lines; NaN for lines of which it says nothing."""
    posted = np.full(lines, np.nan)
    begin = 0
    with suppress(OSError), path.open("rb") as file:
        for line in file:
            with suppress(ValueError):
                count, unix = line.split()
                posted[begin : int(count)] = float(unix)
                begin = int(count)
    return posted


def new_ids(count: int) -> list[bytes]:
    """Return random UUIDs of version 4 as ASCII bytes; one call to the kernel for all of them."""
    text = os.urandom(16 * count).hex()
    return [
        f"{text[i : i + 8]}-{text[i + 8 : i + 12]}-4{text[i + 13 : i + 16]}-"
        f"{VARIANT[text[i + 16]]}{text[i + 17 : i + 20]}-{text[i + 20 : i + 32]}".encode()
        for i in range(0, 32 * count, 32)
    ]


#: The two top bits of this digit are fixed to 10 in such a UUID.
VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def interleave(parts: Iterable[list[bytes]], block: int = 200) -> Iterator[bytes]:
    """Yield the items of all lists, a block of each in turn: about the order in which the threads posted them."""
    lists = list(parts)
    start = 0
    while any(start < len(items) for items in lists):
        for items in lists:
            yield from items[start : start + block]
        start += block

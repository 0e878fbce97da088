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

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from taskmill.errors import PostingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from taskmill.arrays import Floats

ID_LENGTH = 36
DIGITS = 20


class Journal:
    """The files of one posting thread, for writing."""

    def __init__(self, folder: Path, process: int, thread: int) -> None:
        """Make the files; raise ``FileExistsError`` rather than write over ids."""
        stem = f"{process:02d}-{thread:03d}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._ids = os.open(folder / f"{stem}.ids", flags, 0o644)
        self._confirmed = os.open(folder / f"{stem}.confirmed", flags, 0o644)
        self._times = os.open(folder / f"{stem}.times", flags, 0o644)
        self._folder = folder
        self._written = -1
        self.confirm(0)

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
    posted: Floats


def read(folder: Path) -> Iterator[ThreadIds]:
    """Yield what each thread left in the folder ``ids``, in the order of their names.

    A last line without its end of line was never sent and is left out.
    """
    for path in sorted(folder.glob("*.ids")):
        queues: dict[bytes, bytes] = {}
        lines = []
        with path.open("rb") as file:
            for line in file:
                identifier, _, queue = line.partition(b" ")
                if len(identifier) == ID_LENGTH and queue.endswith(b"\n"):
                    lines.append((identifier, queues.setdefault(queue, queue[:-1])))
        confirmed = min(read_confirmed(path.with_suffix(".confirmed")), len(lines))
        yield ThreadIds(path.stem, lines, confirmed, read_times(path.with_suffix(".times"), len(lines)))


def read_confirmed(path: Path) -> int:
    """Return the number in a ``.confirmed`` file; 0 when there is none."""
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return 0


def read_times(path: Path, lines: int) -> Floats:
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

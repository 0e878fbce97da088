"""The journal of one publishing thread, read while it is written."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

from taskmill.publishing.journal import ID_LENGTH


class Tail:
    """What a thread has sent since it was last asked; the files may not be there yet."""

    def __init__(self, folder: Path, name: str) -> None:
        """Begin with the first message of the thread, whose journal is in this folder."""
        self.name = name
        #: How many messages of the thread it has returned so far.
        self.count = 0
        self._ids = folder / f"{name}.ids"
        self._times = folder / f"{name}.times"
        self._ids_read = self._times_read = 0

    def read(self) -> tuple[list[bytes], NDArray[np.float64]]:
        """Return the ids of the messages that were sent since the last call, and when that was, in Unix seconds."""
        lines = _whole_lines(self._times, self._times_read)
        self._times_read += sum(map(len, lines))
        counts, moments = [self.count], []
        for line in lines:
            count, unix = line.split()
            counts.append(int(count))
            moments.append(float(unix))
        # A line of the other file is there before the one here that counts it.
        fresh = _whole_lines(self._ids, self._ids_read)[: counts[-1] - self.count]
        self._ids_read += sum(map(len, fresh))
        self.count = counts[-1]
        return [line[:ID_LENGTH] for line in fresh], np.repeat(np.array(moments), np.diff(counts))


def _whole_lines(path: Path, offset: int) -> list[bytes]:
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(offset)
        lines = file.readlines()
        return lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]
    return []

"""What earlier clients left of a run that is taken up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskmill.publishing import journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from taskmill.publishing.journal import ThreadIds


@dataclass(frozen=True)
class Unfinished:
    """What earlier clients left of a run: the journals by their threads' names, and what is to be sent once more."""

    threads: dict[str, ThreadIds]
    #: By thread: place in the journal and id.
    to_republish: dict[str, list[tuple[int, bytes]]]

    @classmethod
    def find(cls, folder: Path, wanted: Callable[[ThreadIds], list[tuple[int, bytes]]]) -> Unfinished:
        """Read the journals; ``wanted`` says of each thread what is to be sent once more."""
        threads = {one.name: one for one in journal.read(folder / "ids")}
        return cls(threads, {name: wanted(one) for name, one in threads.items()})

    def posted(self) -> int:
        """Return how many ids are on disk."""
        return sum(len(one.lines) for one in self.threads.values())

    def total(self) -> int:
        """Return how many messages are to be sent once more."""
        return sum(map(len, self.to_republish.values()))

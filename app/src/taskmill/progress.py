"""Progress for people: bars on a terminal, a plain line every five seconds elsewhere. All of it on stderr."""

from __future__ import annotations

import io
import sys
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_SECONDS = 5.0
#: The rate shown is that of the last seconds.
RATE_SECONDS = 30.0


class Phase:
    """One stretch of work with a known total; update it as often as you like, from one thread."""

    def __init__(self, name: str, total: int, stream: TextIO, bar: Progress | None) -> None:
        """Start at zero; with a bar the stream is not written to."""
        self.name = name
        self.total = total
        self._stream = stream
        self._bar = bar
        self._task = bar.add_task(name, total=total, rate="") if bar is not None else None
        self._points: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._shown = time.monotonic()

    def update(self, done: int, *, last: bool = False) -> None:
        """Say how much is done; ``last`` shows it at once."""
        now = time.monotonic()
        if now - self._points[-1][0] >= 0.5 or last:
            self._points.append((now, done))
            while len(self._points) > 2 and now - self._points[0][0] > RATE_SECONDS:
                self._points.popleft()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, rate=f"{self.rate():,.0f}/s")
        elif last or now - self._shown >= LINE_SECONDS:
            self._shown = now
            print(self.line(done), file=self._stream, flush=True)

    def rate(self) -> float:
        """Return how many per second, over the last half minute."""
        (start, before), (end, after) = self._points[0], self._points[-1]
        return (after - before) / (end - start) if end > start else 0.0

    def line(self, done: int) -> str:
        """Return the plain line."""
        rate = self.rate()
        share = 100 * done // self.total if self.total else 100
        left = f", {(self.total - done) / rate:,.0f} s left" if rate > 0 and done < self.total else ""
        return f"{self.name} {done:,} of {self.total:,} ({share} %), {rate:,.0f}/s{left}"


class Reporter:
    """Shows phases and remarks."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to the stream, by default stderr."""
        self._stream = stream if stream is not None else sys.stderr
        self._console = Console(file=self._stream)
        self._said: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Show a remark; the same one again within five seconds (ten threads lose one broker) is left out."""
        now = time.monotonic()
        if now - self._said.get(text, -LINE_SECONDS) >= LINE_SECONDS:
            self._said[text] = now
            if self._console.is_terminal:
                self._console.print(text, markup=False, highlight=False)
            else:
                print(text, file=self._stream, flush=True)

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Phase]:
        """Show a phase while the ``with`` block runs."""
        if not self._console.is_terminal:
            yield Phase(name, total, self._stream, None)
            return
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console) as bar:
            yield Phase(name, total, self._stream, bar)


class Quiet(Reporter):
    """For loads that are steps of something larger: no phases, and each remark once."""

    def say(self, text: str) -> None:
        """Show a remark that has not been made before."""
        if text not in self._said:
            super().say(text)

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Phase]:
        """Show nothing of a phase."""
        yield Phase(name, total, io.StringIO(), None)

"""cProfile over all threads of the client.

Up to Python 3.11 a profile sees the thread that enabled it, so every thread gets its own and they are added up. From
3.12 on one enabled profile sees every thread and a second one is refused; but its one call stack mixes the threads up,
and the times it reports are wrong (python/cpython issue 116738, pull request 138229). So there one profile is enabled
that only passes each event on to the profile of the thread it came from; adding them up is then the same as before.
"""

from __future__ import annotations

import cProfile
import io
import pstats
import sys
import threading
from _thread import get_ident
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: A function: its file, its line and its name.
Function: TypeAlias = tuple[str, int, str]
#: Primitive calls, calls, own seconds, cumulative seconds.
Measurement: TypeAlias = tuple[int, int, float, float]
#: Each function's measurement, and how much of it was on behalf of each of its callers.
Entries: TypeAlias = dict[Function, tuple[int, int, float, float, dict[Function, Measurement]]]

#: Whether one enabled profile sees every thread.
SHARED = sys.version_info >= (3, 12)


class _Dispatcher(cProfile.Profile):
    """Passes the interpreter's events on to the profile of the thread they come from (Python 3.12 and later).

    The four methods are those that ``enable`` registers as callbacks, by these names, in ``Modules/_lsprof.c``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.profiles: dict[int, Any] = {}

    def _pystart_callback(self, *event: Any) -> None:
        profile = self.profiles.get(get_ident())
        if profile is not None:
            profile._pystart_callback(*event)

    def _pyreturn_callback(self, *event: Any) -> None:
        profile = self.profiles.get(get_ident())
        if profile is not None:
            profile._pyreturn_callback(*event)

    def _ccall_callback(self, *event: Any) -> None:
        profile = self.profiles.get(get_ident())
        if profile is not None:
            profile._ccall_callback(*event)

    def _creturn_callback(self, *event: Any) -> None:
        profile = self.profiles.get(get_ident())
        if profile is not None:
            profile._creturn_callback(*event)


class Profiler:
    """Profiles the threads that ask for it; does nothing when made with ``wanted=False``.

    Between :meth:`start` and :meth:`stop`, each thread wraps its work in :meth:`thread`. Times are wall-clock seconds,
    waiting included, summed over threads. Only one profiler can be started in a process at a time.
    """

    def __init__(self, wanted: bool = True) -> None:
        """Make a profiler that is not started yet."""
        self.wanted = wanted
        self._lock = threading.Lock()
        self._done: list[cProfile.Profile] = []
        self._dispatcher = _Dispatcher() if wanted and SHARED else None

    def start(self) -> None:
        """Start profiling; threads may enter :meth:`thread` from now on."""
        if self._dispatcher is not None:
            self._dispatcher.enable()

    def stop(self) -> None:
        """Stop profiling; all threads must have left :meth:`thread`."""
        if self._dispatcher is not None:
            self._dispatcher.disable()

    @contextmanager
    def thread(self) -> Iterator[None]:
        """Profile the calling thread for the length of the ``with`` block."""
        if not self.wanted:
            yield
            return
        profile = cProfile.Profile()
        if self._dispatcher is not None:
            self._dispatcher.profiles[get_ident()] = profile
        else:
            profile.enable()
        try:
            yield
        finally:
            if self._dispatcher is not None:
                del self._dispatcher.profiles[get_ident()]
            else:
                profile.disable()
            with self._lock:
                self._done.append(profile)

    def dump(self, path: Path) -> None:
        """Write the sum over all threads for ``pstats.Stats`` to read; write nothing when no thread was profiled."""
        stats = pstats.Stats(stream=io.StringIO())
        for profile in self._done:
            stats.add(profile)
        if self._done:
            path.parent.mkdir(exist_ok=True)
            stats.dump_stats(path)


def merge(parts: Iterable[Path], folder: Path, title: str) -> bool:
    """Add up the profiles ``parts``; return whether there were any.

    Writes ``profile.pstats`` and ``profile.txt`` (with ``title`` at its head) into the folder.
    """
    paths = sorted(parts)
    if not paths:
        return False
    text = io.StringIO()
    stats = pstats.Stats(*(str(path) for path in paths), stream=text)
    stats.dump_stats(folder / "profile.pstats")
    text.write(f"{title}\nSeconds are wall-clock time, waiting included, summed over all threads and processes.\n\n")
    stats.sort_stats("tottime").print_stats(40)
    stats.sort_stats("cumulative").print_stats(40)
    (folder / "profile.txt").write_text(text.getvalue(), encoding="utf-8")
    return True


def entries(path: Path) -> Entries:
    """Return a profile's functions, as ``pstats`` keeps them.

    Raises ``OSError``, ``ValueError``, ``TypeError`` or ``EOFError`` for a file that is no profile.
    """
    # typeshed leaves this attribute out.
    return dict(vars(pstats.Stats(str(path)))["stats"])


def function_name(function: Function) -> str:
    """Return a function's file, line and name as pstats prints them."""
    path, line, name = function
    return f"{path}:{line}({name})" if line else "{" + name.strip("<>") + "}"

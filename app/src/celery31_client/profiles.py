"""cProfile at the client: one profile per thread, since it sees only the thread that enabled it, added up."""

from __future__ import print_function

import cProfile
import marshal
import os
import pstats
import threading
from contextlib import contextmanager

from StringIO import StringIO

TOP = 40


class Profiles(object):
    """The profiles of the threads that ask for one; none at all when made with ``wanted=False``."""

    def __init__(self, wanted):
        """Make it empty."""
        self._wanted = wanted
        self._lock = threading.Lock()
        self._done = []

    @contextmanager
    def thread(self):
        """Profile the calling thread for the length of the ``with`` block."""
        if not self._wanted:
            yield
            return
        profile = cProfile.Profile()
        profile.enable()
        try:
            yield
        finally:
            profile.disable()
            with self._lock:
                self._done.append(profile)

    def write(self, folder, title):
        """Write ``profile.pstats`` and ``profile.txt``, added to what an earlier command left there."""
        path = os.path.join(folder, "profile.pstats")
        parts = self._done + ([path] if os.path.exists(path) else [])
        if not self._done:
            return
        # It takes names as bytes and as text.
        stream = StringIO()
        stats = pstats.Stats(*parts, stream=stream)
        with open(path, "wb") as dump:
            # What Python 2.7 writes by itself, later versions cannot read: this format, with text for text, they can.
            marshal.dump(readable(stats.stats), dump, 0)
        stats.sort_stats("tottime").print_stats(TOP)
        stats.sort_stats("cumulative").print_stats(TOP)
        with open(os.path.join(folder, "profile.txt"), "w") as text:
            text.write(title + "\nSeconds are wall-clock time, waiting included, summed over all threads.\n\n")
            text.write(stream.getvalue())


def readable(stats):
    """Return the entries of ``pstats.Stats.stats`` with all names as text."""
    return dict(
        (text(where), entry[:4] + (dict((text(caller), counts) for caller, counts in entry[4].items()),))
        for where, entry in stats.items()
    )


def text(where):
    """Return a function's place, ``(path, line, name)``, as text."""
    path, line, name = where
    return (path.decode("utf-8"), line, name.decode("utf-8")) if isinstance(path, bytes) else where

"""Progress for people, on stderr: a line every five seconds."""

from __future__ import division, print_function

import sys

from kombu.five import monotonic

EVERY = 5.0


def say(text):
    """Show a remark."""
    print(text, file=sys.stderr)
    sys.stderr.flush()


def count(number):
    """Return a whole number with its thousands parted."""
    return "{:,}".format(number)


class Phase(object):
    """One stretch of work with a known total."""

    def __init__(self, name, total):
        """Start at zero."""
        self._name = name
        self._total = total
        self._shown = (monotonic(), 0)

    def update(self, done, last=False):
        """Say how much is done, when it is time for that or this is the last word."""
        now = monotonic()
        before, had = self._shown
        if now - before < EVERY and not last:
            return
        rate = (done - had) / max(now - before, 1e-6)
        share = 100 * done // self._total if self._total else 100
        left = ", %s s left" % count(int((self._total - done) / rate)) if rate > 0 and done < self._total else ""
        self._shown = (now, done)
        say(
            "%s %s of %s (%d %%), %s/s%s" % (self._name, count(done), count(self._total), share, count(int(rate)), left)
        )

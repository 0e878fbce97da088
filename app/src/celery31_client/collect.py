"""Collecting: every result by its id, one ``get`` after the other as in the article, or in batches; each is checked."""

from __future__ import print_function

import json
import os

from celery import states
from celery.exceptions import TimeoutError as NotYet
from celery.result import AsyncResult
from kombu.five import monotonic

from celery31_client.progress import Phase

#: Seconds that one ``get`` waits before it is looked whether the end was asked for.
SLICE = 1.0
QUOTE = 500


class Collector(object):
    """Fetches and checks the results of one run."""

    def __init__(self, app, plan, folder, pairs, stop):
        """Take the pairs of id and queue; ``stop`` asks for an orderly end."""
        self._app = app
        self._plan = plan
        self._stop = stop
        self._expect = canonical(plan["expect"])
        self._path = os.path.join(folder, "faults.jsonl")
        self._faults = None
        self._pending = pairs
        self.counts = dict.fromkeys(("retrieved", "correct", "wrong", "failed", "lost"), 0)
        self.by_queue = {}
        for _, queue in pairs:
            mine = self.by_queue.setdefault(queue, dict.fromkeys(("posted", "correct", "wrong", "failed", "lost"), 0))
            mine["posted"] += 1
        self.finished = False
        #: When the last result was checked, in monotonic seconds.
        self.ended = monotonic()

    def run(self):
        """Collect until every id has its result, the deadline passes without a new one, or the end is asked for."""
        self.ended = monotonic()
        phase = Phase("collecting", len(self._pending))
        fetch = self._fetch_batches if self._plan["batch"] else self._fetch_each
        with open(self._path + ".new", "wb") as self._faults:
            # What had no result within the deadline is asked for once more after all the others.
            while self._pending and not self._stop.is_set():
                had = self.counts["retrieved"]
                self._pending = list(fetch(phase))
                if self.counts["retrieved"] == had and self._late():
                    break
            if not self._stop.is_set() or not self._pending:
                for identifier, queue in self._pending:
                    detail = "posted, but no result came within %g s of the last one" % self._plan["deadline"]
                    self._count(identifier, queue, "lost", detail)
                self.finished = True
        os.rename(self._path + ".new", self._path)
        phase.update(self.counts["retrieved"], last=True)

    def _late(self):
        return monotonic() - self.ended > self._plan["deadline"]

    def _fetch_each(self, phase):
        """Get one result after the other; yield those that did not come."""
        for identifier, queue in self._pending:
            result = AsyncResult(identifier, app=self._app)
            if self._await(result):
                self._judge(identifier, queue, result.status, result.result)
                phase.update(self.counts["retrieved"])
            else:
                yield identifier, queue

    def _await(self, result):
        """Wait for a result until the deadline; tell whether it came."""
        while not self._stop.is_set():
            if self._late():
                return result.ready()
            try:
                result.get(timeout=SLICE, propagate=False)
            except NotYet:
                continue
            return True
        return False

    def _fetch_batches(self, phase):
        """Get the results of many ids at once; yield those that did not come."""
        size = self._plan["batch"]
        for start in range(0, len(self._pending), size):
            waiting = dict(self._pending[start : start + size])
            while waiting and not self._stop.is_set():
                late = self._late()
                try:
                    for identifier, meta in self._app.backend.get_many(set(waiting), timeout=SLICE):
                        self._judge(identifier, waiting.pop(identifier), meta["status"], meta["result"])
                        phase.update(self.counts["retrieved"])
                except NotYet:
                    if late:
                        break
            for pair in waiting.items():
                yield pair

    def _judge(self, identifier, queue, state, value):
        self.ended = monotonic()
        self.counts["retrieved"] += 1
        if state != states.SUCCESS:
            self._count(identifier, queue, "failed", "%s: %s: %s" % (state, type(value).__name__, value))
        elif self._plan["check"] and canonical(value) != self._expect:
            self._count(identifier, queue, "wrong", "the result is %r, not %r" % (value, self._plan["expect"]))
        else:
            self._count(identifier, queue, "correct", None)

    def _count(self, identifier, queue, outcome, detail):
        self.counts[outcome] += 1
        self.by_queue[queue][outcome] += 1
        if detail is not None:
            fault = {"id": identifier, "queue": queue, "outcome": outcome, "detail": detail[:QUOTE]}
            self._faults.write(json.dumps(fault, sort_keys=True) + "\n")


def canonical(value):
    """Return JSON text by which values are compared: ``true`` is not 1, and 1.0 is not 1."""
    return json.dumps(value, sort_keys=True)

"""The record of a run: ``run.json``, plain data that everything after it reads.

The keys ``schema`` to ``environment`` are fixed; these stand beside them:

* ``state``: ``complete``; ``posted`` (and not collected yet); ``interrupted`` (posting or collecting was stopped);
  ``posting failed`` (the broker stayed away, or lacks a queue). ``taskmill collect`` goes on from all but the first.
* ``duplicates_from``: how ``counts.duplicates`` was found. ``workers``: by the workers' own counts of executions before
  and after; it is what they executed beyond one per distinct id. ``republished``: the workers' counts were not to be
  had (one was restarted, or none answered), and it is the number of messages sent twice because a confirm was missing;
  not all of them need to have been executed twice.
* ``client``: threads, processes, memory (the most it held, all its processes together, in bytes), CPU seconds, messages
  sent again, seconds that the broker blocked, seconds between posting and a later ``taskmill collect``.
* ``workers``: what the workers said of themselves. ``memcached``: its size and its evictions during the run.
* ``by_queue``: counts for each queue, with the seconds and the CPU seconds that its tasks' functions ran, and their
  latency. ``by_worker``: succeeded, failed and the same seconds for each worker that stored a result. ``task_seconds``:
  those of all.
* ``latency``: seconds in the queue, in execution and of both, as ``mean``, percentiles and ``max``, counted ``from``
  when a task was ``due`` (paced load) or ``posted``.
* ``clocks``: each worker's clock less the client's, at the start and at the end. ``clock_jumps``: seconds by which one
  moved that moved by more than half a second.
* ``requirements``: what was required of the run, and whether it is met.
* ``waiting``: messages that waited in a queue at the end.
* ``repaired``: what each ``taskmill repair`` made up for: ``at`` what time, how many were ``missing`` and how many of
  them ``posted`` once more, and what came of them. The counts are those after it; seconds, rates and latency those of
  the run itself.
* ``parked``: of the failed tasks, those that were lost with their process too often and are dead letters now.
* ``problems``: what is wrong, in words.

``counts.posted`` are messages that the broker has, or may have; ``confirmed`` those it confirmed; ``retrieved`` the
final results fetched. ``efficiency`` is ``null`` when the function's time or the workers' cores were not given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskmill.model.run_folder import read_json, write_json

if TYPE_CHECKING:
    from pathlib import Path

COMPLETE = "complete"
POSTED = "posted"
STOPPED = "interrupted"
FAILED = "posting failed"
#: Names of the percentiles in a summary of latencies, and which they are.
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}


def save(folder: Path, record: dict[str, Any]) -> None:
    """Write ``run.json``."""
    write_json(folder / "run.json", record)


def load(folder: Path) -> dict[str, Any] | None:
    """Read ``run.json``; ``None`` when there is none that can be read."""
    return read_json(folder / "run.json")

"""Run the steps of `make test` or `make test-all`, some beside each other, and show what came of them in one table.

`tests/suite.yml` lists the steps; `tests/suite_step.py` does one of them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from suite_step import RESULTS, ROOT, Outcome, Running, Step, digest, write

# Held by the one that uses the addresses of the scenarios.
LOCK = Path("/run/lock/taskmill-tests")


class Suite:
    """The steps, and what came of those that are done."""

    def __init__(self, steps: list[Step], jobs: int, console: Console) -> None:
        """Take the steps in their order."""
        self.steps = steps
        self.jobs = jobs
        self.console = console
        self.outcomes: dict[str, Outcome] = {}
        self.stop = threading.Event()
        self.tree = tree()
        self.before: dict[str, Any] = {}
        self.lock = threading.Lock()
        self.waiting: list[Step] = []
        self.under_way: dict[str, float] = {}

    def say(self, *lines: str) -> None:
        """Print lines as they are."""
        self.console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)

    def work(self) -> None:
        """Take one step after the other."""
        while not self.stop.is_set():
            with self.lock:
                if not self.waiting:
                    return
                step = self.take()
            if step is None:
                self.stop.wait(0.2)
                continue
            begun = time.monotonic()
            try:
                outcome = Running(step, self.stop).outcome()
            except Exception:  # noqa: BLE001 - whatever it is, the other steps go on
                said = traceback.format_exc().splitlines()
                outcome = Outcome("failed", time.monotonic() - begun, "an error of tests/suite.py", [], said)
            with self.lock:
                del self.under_way[step.name]
                self.outcomes[step.name] = outcome
                self.tell(step, outcome)
                self.keep()

    def take(self) -> Step | None:
        """Return the next step, which is under way then; ``None`` where all that wait need hosts that are in use."""
        in_use = {step.scenario for step in self.steps if step.name in self.under_way and step.scenario}
        step = next((step for step in self.waiting if step.scenario not in in_use), None)
        if step is not None:
            self.waiting.remove(step)
            self.under_way[step.name] = time.monotonic()
        return step

    def tell(self, step: Step, outcome: Outcome) -> None:
        """Say what came of a step; what it said when it failed."""
        note = f" ({outcome.note})" if outcome.note else ""
        self.say(*outcome.said)
        counted = f", {len(outcome.tests)} tests" if outcome.tests else ""
        self.say(f"{step.name}: {outcome.result} in {outcome.seconds:.0f} s{counted}{note}")

    def keep(self) -> None:
        """Write down what is done, for the next time."""
        steps = {**self.before, **{name: asdict(outcome) for name, outcome in self.outcomes.items()}}
        # What was tested on files that changed meanwhile, was tested on neither.
        known = self.tree if tree() == self.tree else ""
        write(RESULTS / "results.json", json.dumps({"tree": known, "steps": steps}, indent=1))

    def beside(self, steps: list[Step], jobs: int) -> None:
        """Do the steps, so many at a time, and say each minute what is under way."""
        self.waiting = list(steps)
        workers = [threading.Thread(target=self.work) for _ in range(jobs)]
        for worker in workers:
            worker.start()
        said = time.monotonic()
        while any(worker.is_alive() for worker in workers):
            time.sleep(0.2)
            if time.monotonic() - said > 60:
                said = time.monotonic()
                with self.lock:
                    now = ", ".join(f"{name} ({said - begun:.0f} s)" for name, begun in self.under_way.items())
                self.say(f"... {now}")

    def run(self) -> None:
        """Do all steps; those that want to be alone come last."""
        self.beside([step for step in self.steps if not step.alone], self.jobs)
        self.beside([step for step in self.steps if step.alone], 1)


def tree() -> str:
    """Return what tells this state of the repository from others."""
    return digest([Path()])


def report(suite: Suite, seconds: float, before: set[str] | None) -> bool:
    """Print the table, the slowest tests and the closing line; tell whether all is well.

    `before` are the names of the tests of the last time that the same steps were done.
    """
    outcomes = {step.name: suite.outcomes.get(step.name, Outcome("not run", 0)) for step in suite.steps}
    table = Table("step", "result", "seconds", "tests", "", box=None, pad_edge=False)
    for name, outcome in outcomes.items():
        table.add_row(name, outcome.result, f"{outcome.seconds:.0f}", str(len(outcome.tests) or ""), outcome.note)
    suite.console.print()
    suite.console.print(table)
    tests = {f"{name}: {test}": (taken, result) for name, out in outcomes.items() for test, taken, result in out.tests}
    slowest = sorted(tests, key=lambda test: -tests[test][0])[:10]
    suite.say("", "The slowest tests:", *(f"{tests[test][0]:7.1f} s  {test}" for test in slowest))
    if before is not None:
        gone, new = sorted(before - set(tests)), sorted(set(tests) - before)
        said = f"{len(new)} are new, {len(gone)} did not run now: {', '.join(gone[:10])}"
        suite.say("", f"{len(tests)} tests; " + (said if gone or new else "by name they are those of the last time."))
    bad = [name for name, outcome in outcomes.items() if outcome.result != "passed"]
    suite.say("", f"{'Not passed: ' + ', '.join(bad) if bad else 'All steps passed'}, in {seconds:.0f} s.")
    for name in bad:
        listed = [test for test, _, result in outcomes[name].tests if result == "failed"]
        suite.say(*(f"FAILED {name}: {test}" for test in listed), f"All that {name} said: {RESULTS / name / 'log'}")
    results = [result for _, result in tests.values()]
    # A step may fail without a test that does.
    failed = results.count("failed") + sum(1 for name in bad if "failed" not in [t[2] for t in outcomes[name].tests])
    suite.say(f"{results.count('passed')} passed, {failed} failed, {results.count('skipped')} skipped")
    return not bad


def main() -> int:
    """Parse the command line, run the steps, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suite", choices=["test", "all"], help="the steps of `make test` or those of `make test-all`")
    parser.add_argument("--jobs", type=int, default=2, help="how many steps at a time (2)")
    parser.add_argument("--only", default="", help="names of steps, with commas between")
    parser.add_argument("--resume", action="store_true", help="leave out what has passed on the very same files")
    given = parser.parse_args()
    steps = [Step(**{"suites": ["all"], **entry}) for entry in yaml.safe_load((ROOT / "tests/suite.yml").read_text())]
    only = [name for name in given.only.split(",") if name]
    unknown = sorted(set(only) - {step.name for step in steps})
    if unknown:
        parser.error(f"no step is called {', '.join(unknown)}; there are: {', '.join(step.name for step in steps)}")
    try:
        tree()
    except subprocess.CalledProcessError:
        parser.error(f"{ROOT} is no git clone, by which it is known what has changed")
    chosen = [step for step in steps if (step.name in only if only else given.suite in step.suites)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    held = LOCK.open("a+")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.seek(0)
        parser.error(f"tests are under way already, whose hosts have the same addresses: {held.read().strip()}")
    held.truncate(0)
    held.write(f"process {os.getpid()}, in {ROOT}\n")
    held.flush()
    last: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        last = json.loads((RESULTS / "results.json").read_text())
    console = Console(soft_wrap=False, width=None if sys.stdout.isatty() else 140)
    suite = Suite(chosen, given.jobs, console)
    if last.get("tree") == suite.tree:
        suite.before = last["steps"]
    if given.resume and suite.before:
        done = {name: Outcome(**outcome) for name, outcome in last["steps"].items() if outcome["result"] == "passed"}
        suite.outcomes = {step.name: done[step.name] for step in chosen if step.name in done}
        suite.steps = [step for step in chosen if step.name not in done]
    begun = time.monotonic()

    def interrupt(*_: object) -> None:
        suite.say("Ending; the hosts of the scenarios are taken down first.")
        suite.stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    suite.run()
    suite.steps = chosen
    before = None
    if {step.name for step in chosen} <= set(last.get("steps", {})):
        before = {f"{step.name}: {test[0]}" for step in chosen for test in last["steps"][step.name]["tests"]}
    return 0 if report(suite, time.monotonic() - begun, before) else 1


if __name__ == "__main__":
    sys.exit(main())

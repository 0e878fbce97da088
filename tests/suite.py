"""Run the steps of `make test` or `make test-all`, some beside each other, and show what came of them in one table.

`tests/suite.yml` lists the steps. A step is a command, or a Molecule scenario, which is driven action by action: where
its hosts were saved as an image, and nothing that makes them has changed since, they are restored from that.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / ".cache" / "tests"
IMAGES = Path("/var/lib/taskmill-lab/images")
# What makes the hosts of a scenario, unless its step says otherwise.
INPUTS = ("ansible.cfg", "roles", "playbooks", "plugins", "app/src", "requirements")
# What makes them in every case; {} is the folder of the scenario.
SCENARIO_INPUTS = (
    ".config/molecule",
    "molecule/resources",
    *(f"{{}}/{name}" for name in ("molecule.yml", "prepare.yml", "converge.yml", "files", "inventory", "tasks")),
)
# The actions that make hosts what they are to be.
MAKING = ("prepare", "check", "converge", "idempotence")
# Seconds that a step may take, unless it says otherwise; and to take its hosts down afterwards.
DEADLINE = 1500
DESTROY_DEADLINE = 180
# How a step is ended: what is sent to all of its processes, and the seconds that they have for it.
ENDING = ((signal.SIGINT, 20), (signal.SIGTERM, 5), (signal.SIGKILL, 5))
# Lines of its log that are shown of a step that fails, up to where it failed.
TAIL = 200
# Held by the one that uses the addresses of the scenarios.
LOCK = Path("/run/lock/taskmill-tests")


@dataclass
class Step:
    """One entry of suite.yml."""

    name: str
    suites: list[str]
    run: str = ""
    scenario: str = ""
    #: Holds the folder `molecule` of the scenario; the root where it is empty.
    directory: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    image: bool = False
    alone: bool = False
    deadline: int = DEADLINE


def scenarios_of(step: Step) -> str:
    """Return where Molecule looks for a step's scenario; also in the root, since it complains without a `default`."""
    return f"{{molecule,{step.directory}/molecule}}/*/molecule.yml" if step.directory else "molecule/*/molecule.yml"


@dataclass
class Outcome:
    """What came of a step; `tests` are its tests' names, seconds and results, `said` the log up to where it failed."""

    result: str
    seconds: float
    note: str = ""
    tests: list[tuple[str, float, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def digest(paths: Iterable[Path]) -> str:
    """Return a hash of the files below the paths, their names and modes; what git ignores does not count."""
    listed = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--"]
    names = subprocess.run([*listed, *map(str, paths)], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    total = hashlib.sha256()
    for name in sorted({name for name in names if name}):
        path = ROOT / os.fsdecode(name)
        if path.is_file():
            total.update(b"%s\0%o\0" % (name, path.stat().st_mode & 0o111) + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started in its session; what takes things down at an interrupt has time for it."""
    for number, seconds in ENDING:
        deadline = time.monotonic() + seconds
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.1)
    process.wait(10)


class Running:
    """A step under way: its log, its processes, its deadline."""

    def __init__(self, step: Step, stop: threading.Event) -> None:
        """Make its folder anew."""
        self.step = step
        self.stop = stop
        self.folder = RESULTS / step.name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.log = self.folder / "log"
        self.limit = step.deadline
        self.end = time.monotonic() + self.limit
        self.note = ""
        self.said: list[str] = []
        junit = f"--junitxml={self.folder}/tests.xml"
        self.environment = {
            **os.environ,
            **step.environment,
            "PYTEST_ADDOPTS": shlex.join([*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), junit]),
            "APP_JUNIT_XML": f"{self.folder}/app.xml",
            "MOLECULE_EPHEMERAL_DIRECTORY": str(RESULTS / "molecule" / step.name),
            "MOLECULE_GLOB": scenarios_of(step),
        }

    def call(self, *command: str) -> bool:
        """Run a command to its end or to the deadline; tell whether it ended well."""
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            while process.poll() is None:
                late = time.monotonic() > self.end
                if late or self.stop.wait(0.2):
                    self.note = f"did not end within {self.limit} s" if late else "interrupted"
                    end(process)
        if process.returncode != 0 and not self.said:
            self.said = self.log.read_text(errors="replace").splitlines()[-TAIL:]
        return process.returncode == 0

    def molecule(self, action: str) -> bool:
        """Do one action of the step's scenario; what takes arguments has them behind it."""
        return self.call("molecule", action.replace("_", "-"), "--scenario-name", self.step.scenario)

    def whole_scenario(self) -> bool:
        """Drive the scenario through its sequence, its hosts from an image where there is one."""
        scenario = Path(self.step.directory, "molecule", self.step.scenario)
        shared = yaml.safe_load((ROOT / ".config/molecule/config.yml").read_text())
        own = yaml.safe_load((ROOT / scenario / "molecule.yml").read_text())
        sequence: list[str] = (own.get("scenario") or shared["scenario"])["test_sequence"]
        image = ""
        if self.step.image:
            inputs = self.step.inputs or INPUTS
            paths = [*inputs, *(path.format(scenario) for path in SCENARIO_INPUTS)]
            image = f"{self.step.name}-{digest(map(Path, [*paths, 'roles/lab_host']))}"
            self.environment["LAB_IMAGE"] = image
        good = False
        try:
            if self.molecule("destroy"):
                if image and not (IMAGES / image / "seconds").is_file():
                    # Its saving was cut off.
                    shutil.rmtree(IMAGES / image, ignore_errors=True)
                good = self.molecule("create") and self.actions(sequence, image)
        finally:
            # Come what may, an interruption included.
            self.stop = threading.Event()
            self.limit = DESTROY_DEADLINE
            self.end = time.monotonic() + self.limit
            down = self.molecule("destroy")
        return good and down

    def actions(self, sequence: list[str], image: str) -> bool:
        """Do what stands between the making of the hosts and their end."""
        actions = [action for action in sequence if action not in {"destroy", "create"}]
        made = max((place + 1 for place, action in enumerate(actions) if action in MAKING), default=0)
        making, phases = actions[:made], actions[made:]
        ephemeral = Path(self.environment["MOLECULE_EPHEMERAL_DIRECTORY"])
        restored = (ephemeral / "restored").exists()
        if restored:
            seconds = float((IMAGES / image / "seconds").read_text())
            self.note = f"hosts restored, which took {seconds:.0f} s to make"
            # One action is left, which shows that they are what the play makes.
            making = [next(action for action in ("idempotence", "converge") if action in making)]
            state = yaml.safe_load((ephemeral / "state.yml").read_text()) or {}
            (ephemeral / "state.yml").write_text(yaml.safe_dump({**state, "converged": True}))
        begun = time.monotonic()
        if not all(self.molecule(action) for action in making):
            return False
        if image and not restored:
            seconds = time.monotonic() - begun
            save = [str(ROOT / "molecule/resources/save.yml"), f"--extra-vars=molecule_file={ephemeral}/molecule.yml"]
            if not self.call("ansible-playbook", f"--inventory={ephemeral}/inventory", *save):
                return False
            if (IMAGES / image).is_dir():
                # Last: an image without it is no whole one.
                os.sync()
                write(IMAGES / image / "seconds", f"{seconds:.1f}\n")
        return all(self.molecule(action) for action in phases)

    def outcome(self) -> Outcome:
        """Do the step."""
        begun = time.monotonic()
        good = self.whole_scenario() if self.step.scenario else self.call("bash", "-euc", self.step.run)
        tests = list(tests_in(self.folder))
        result = "passed" if good else "failed"
        return Outcome(result, time.monotonic() - begun, self.note, tests, self.said)


def tests_in(folder: Path) -> Iterator[tuple[str, float, str]]:
    """Read the reports of pytest in a folder."""
    for path in sorted(folder.glob("*.xml")):
        cases: list[ET.Element] = []
        # One that was cut off says nothing; the step has failed.
        with contextlib.suppress(ET.ParseError):
            cases = list(ET.parse(path).iter("testcase"))
        for case in cases:
            kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
            result = "skipped" if kinds == {"skipped"} else "failed" if kinds else "passed"
            yield f"{case.get('classname')}::{case.get('name')}", float(case.get("time", 0)), result


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
                step = self.waiting.pop(0)
                self.under_way[step.name] = time.monotonic()
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

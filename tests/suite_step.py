"""One step of `make test`: its command or its Molecule scenario, its processes and deadline, and what came of it.

A scenario is driven action by action: where its hosts were saved as an image, and nothing that makes them has changed
since, they are restored from that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

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
    #: Its play copies files that are not among the inputs, and hosts that are restored have those of the day before.
    copies: bool = False
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
            # What the inputs make was looked at before it was saved.
            making = ["converge"] if self.step.copies else []
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

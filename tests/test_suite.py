"""The runner behind `make test`: what it says of steps that end well, that fail, and that do not end."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import suite_step
import yaml
from python_file import load
from rich.console import Console
from wcmatch import glob

PROGRAM = Path(__file__).with_name("suite.py")


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module, in a repository of its own."""
    module = load(PROGRAM)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    for part in (module, suite_step):
        monkeypatch.setattr(part, "ROOT", tmp_path)
        monkeypatch.setattr(part, "RESULTS", tmp_path / ".cache")
    return module


@pytest.fixture
def run(suite: ModuleType) -> Callable[..., tuple[bool, str]]:
    """Return what runs steps, given as name and command, and says whether all is well and what was printed."""

    def steps(*entries: dict[str, object], before: set[str] | None = None) -> tuple[bool, str]:
        said = io.StringIO()
        these = [suite.Step(suites=["test"], **entry) for entry in entries]
        one = suite.Suite(these, 2, Console(file=said, width=140))
        one.run()
        return suite.report(one, 1.0, before), said.getvalue()

    return steps


def test_a_step_that_ends_well_is_a_line_of_the_table(run: Callable[..., tuple[bool, str]]) -> None:
    """Its log is not shown, and the closing line counts no failure."""
    good, said = run({"name": "fine", "run": "echo not to be shown"})
    assert good
    assert "fine: passed" in said
    assert "not to be shown" not in said
    assert said.splitlines()[-1] == "0 passed, 0 failed, 0 skipped"


def test_a_step_that_fails_says_why_and_the_others_go_on(run: Callable[..., tuple[bool, str]]) -> None:
    """The end of its log is shown, the others are done, and the closing line counts it."""
    good, said = run({"name": "bad", "run": "echo the reason; exit 3"}, {"name": "fine", "run": "true"})
    assert not good
    assert "the reason" in said
    assert "Not passed: bad, in" in said
    assert "fine: passed" in said
    assert said.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


def test_a_step_that_does_not_end_is_ended_with_all_it_started(
    run: Callable[..., tuple[bool, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its deadline, and the table says so; what takes no notice of an interrupt does not stay."""
    monkeypatch.setattr(suite_step, "ENDING", ((signal.SIGINT, 0.2), (signal.SIGTERM, 0.2), (signal.SIGKILL, 5)))
    program = f"(sleep 300 & echo $! > {tmp_path}/pid; wait); true"
    good, said = run({"name": "endless", "run": program, "deadline": 5})
    assert not good
    assert "did not end within 5 s" in said
    pid = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_a_step_that_wants_to_be_alone_comes_last(run: Callable[..., tuple[bool, str]], tmp_path: Path) -> None:
    """Nothing runs beside it, wherever it stands."""
    first = {"name": "alone", "run": f"test -e {tmp_path}/one -a -e {tmp_path}/two", "alone": True}
    good, _ = run(first, *({"name": name, "run": f"sleep 0.3; touch {tmp_path}/{name}"} for name in ("one", "two")))
    assert good


def test_two_steps_that_need_the_same_hosts_are_not_under_way_together(suite: ModuleType) -> None:
    """A step behind them goes before; one that needs no hosts waits for none."""
    entries = [("old", "default"), ("new", "default"), ("other", "redis"), ("lint", ""), ("units", "")]
    steps = [suite.Step(name=name, suites=["all"], scenario=scenario) for name, scenario in entries]
    one = suite.Suite(steps, 2, Console(file=io.StringIO()))
    one.waiting = list(steps)
    taken = [one.take() for _ in range(5)]
    assert [step and step.name for step in taken] == ["old", "other", "lint", "units", None]
    del one.under_way["old"]
    assert one.take() is steps[1]


def test_tests_are_counted_by_name_and_compared_with_the_last_time(
    run: Callable[..., tuple[bool, str]], tmp_path: Path
) -> None:
    """A test that failed is named, and so is one that did not run this time."""
    (tmp_path / "test_it.py").write_text("def test_good(): pass\ndef test_bad(): assert not 'so'\n")
    good, said = run(
        {"name": "tests", "run": f"{sys.executable} -m pytest -q test_it.py"},
        before={"tests: test_it::test_good", "tests: test_it::test_gone"},
    )
    assert not good
    assert "FAILED tests: test_it::test_bad" in said
    assert "1 are new, 1 did not run now: tests: test_it::test_gone" in said
    assert said.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"


def test_an_image_is_named_after_what_makes_it(suite: ModuleType, tmp_path: Path) -> None:
    """Another content, name or mode is another image; what git ignores is not looked at."""
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "roles").mkdir()
    role = tmp_path / "roles" / "one.yml"
    role.write_text("one")
    seen = [suite.digest([Path("roles")])]
    (tmp_path / "roles" / "ignored").write_text("anything")
    assert suite.digest([Path("roles")]) == seen[0]
    role.write_text("two")
    seen.append(suite.digest([Path("roles")]))
    role.chmod(0o755)
    seen.append(suite.digest([Path("roles")]))
    role.rename(role.with_name("two.yml"))
    seen.append(suite.digest([Path("roles")]))
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(("copies", "done"), [(False, ["verify"]), (True, ["converge", "verify"])])
def test_restored_hosts_are_not_made_again(
    suite: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: bool, done: list[str]
) -> None:
    """What made them was looked at before they were saved; what the image is not named after is copied anew."""
    monkeypatch.setattr(suite_step, "IMAGES", tmp_path)
    step = suite_step.Running(suite.Step(name="one", suites=["test"], image=True, copies=copies), threading.Event())
    hosts = Path(step.environment["MOLECULE_EPHEMERAL_DIRECTORY"])
    (tmp_path / "one-1").mkdir()
    (tmp_path / "one-1" / "seconds").write_text("7.0\n")
    hosts.mkdir(parents=True)
    (hosts / "restored").touch()
    (hosts / "state.yml").touch()
    actions: list[str] = []

    def molecule(action: str) -> bool:
        actions.append(action)
        return True

    monkeypatch.setattr(step, "molecule", molecule)
    assert step.actions(["destroy", "create", "check", "converge", "idempotence", "verify", "destroy"], "one-1")
    assert actions == done
    assert step.note == "hosts restored, which took 7 s to make"


def test_every_step_has_its_scenario(suite: ModuleType) -> None:
    """In the folder that it names, where Molecule looks for it; each scenario has a step."""
    root = PROGRAM.parents[1]
    steps = [
        suite.Step(**{"suites": ["all"], **entry}) for entry in yaml.safe_load((root / "tests/suite.yml").read_text())
    ]
    named = {
        Path(step.directory, "molecule", step.scenario, "molecule.yml"): suite_step.scenarios_of(step)
        for step in steps
        if step.scenario
    }
    there = [*root.glob("molecule/*/molecule.yml"), *root.glob("[!.]*/molecule/*/molecule.yml")]
    assert set(named) == {path.relative_to(root) for path in there}
    for path, pattern in named.items():
        assert str(path) in glob.glob(pattern, root_dir=root, flags=glob.BRACE)


def test_a_step_that_there_is_not_is_refused() -> None:
    """With the names that there are."""
    command = [sys.executable, PROGRAM, "test", "--only=nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no step is called nothing; there are: landscape" in done.stderr

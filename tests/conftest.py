"""What the tests without a host share: many bad inputs in one play, and templates without a play."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader, init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible_playbook import ROOT, run_playbook

#: Nobody answers there: what gets past the validation is unreachable, and changes nothing anywhere.
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
LINE = re.compile(
    r"^(?:TASK \[(?P<task>.*)\] \*+"
    r"|(?P<status>ok|changed|skipping|failed|fatal): \[(?P<host>[^\] ]+)[^\]]*\](?P<rest>.*))$",
    re.MULTILINE,
)
#: The tasks by which a role judges its input: those of its argument specs and of its tasks/validate*.yml.
CHECKS = r"^\w+ : (validate\w* \||Validating arguments against arg spec )"


def pytest_configure(config: pytest.Config) -> None:
    """Tell the marker of these tests, which is one of the app's, too."""
    config.addinivalue_line("markers", "thorough: takes long; in `make test-all` alone")


@dataclass
class Case:
    """What became of one host of a play: the tasks that it had a result in, those it failed in, and what these say."""

    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    said: str = ""
    unreachable: bool = False

    def refusal(self, checks: str = CHECKS) -> str:
        """Return what was said when the input was refused.

        Raises:
            AssertionError: The input was not refused, or something else than `checks` had a turn before or after.

        """
        assert self.failed, f"It was not refused, but went on to the host after {self.passed}."
        assert [task for task in self.passed + self.failed if not re.search(checks, task)] == []
        assert not self.unreachable, self.passed
        return self.said


@dataclass
class Played:
    """One run of ansible-playbook: all that it printed, and its cases by name."""

    output: str
    cases: dict[str, Case]


def messages(result: Any) -> Iterator[str]:
    """Yield the messages of a result, those of a loop's items too."""
    if isinstance(result, dict):
        if "msg" in result:
            yield result["msg"] if isinstance(result["msg"], str) else json.dumps(result["msg"])
        yield from (said for item in result.get("results", []) for said in messages(item))


def read(output: str, names: list[str]) -> dict[str, Case]:
    """Return what the output of a play says of each host."""
    cases = {name: Case() for name in names}
    task = ""
    for line in LINE.finditer(output):
        task = line["task"] or task
        if line["host"] not in cases:
            continue
        case = cases[line["host"]]
        if "UNREACHABLE!" in line["rest"]:
            case.unreachable = True
            continue
        told = case.failed if line["status"] in {"failed", "fatal"} else case.passed
        if task not in told:
            told.append(task)
        if "=> {" in line["rest"]:
            result = json.JSONDecoder().raw_decode(output, output.index("=> {", line.start()) + 3)[0]
            case.said = " ".join([case.said, *messages(result)]).strip()
    for case in cases.values():
        case.said = re.sub(r"\s+", " ", case.said)
    return cases


@pytest.fixture(scope="module")
def play_cases(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Played]:
    """Return a function that starts one playbook for many cases, each a host with the variables of its own.

    Hosts share neither facts nor variables, and each ends where it fails. `groups` lists hosts by group (all of them
    are in the group `all` anyway); a host whose variables do not say how to reach it is reached nowhere.
    """

    def run(
        playbook: Path | list[dict[str, Any]],
        cases: dict[str, dict[str, Any]],
        *options: str,
        groups: dict[str, list[str]] | None = None,
    ) -> Played:
        folder = tmp_path_factory.mktemp("cases")
        hosts = {name: {**NOWHERE, **variables} for name, variables in cases.items()}
        children = {name: {"hosts": dict.fromkeys(members)} for name, members in (groups or {}).items()}
        (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts, "children": children}}))
        if not isinstance(playbook, Path):
            (folder / "playbook.json").write_text(json.dumps(playbook))
            playbook = folder / "playbook.json"
        done = run_playbook(
            "--inventory", folder / "hosts.json", *options, playbook,
            # The names of all tasks are looked at, and their results.
            timeout=120, ANSIBLE_CALLBACK_RESULT_FORMAT="json", ANSIBLE_DISPLAY_SKIPPED_HOSTS="1",
        )  # fmt: skip
        return Played(done.stdout + done.stderr, read(done.stdout, list(cases)))

    return run


@pytest.fixture(scope="module")
def play_inputs(play_cases: Callable[..., Played]) -> Callable[..., Callable[[dict[str, Any]], tuple[Case, str]]]:
    """Return a function that applies a role once for a right input and many wrong ones, with nothing behind it.

    What it returns tells, for the variables of a wrong input, what became of it, and all that the play printed. The
    right input has to get as far as the host, or the wrong ones would be refused for something else than their fault.
    """

    def play(
        role: str, right: dict[str, Any], wrong: Iterable[dict[str, Any]], **reached: Any
    ) -> Callable[[dict[str, Any]], tuple[Case, str]]:
        names: dict[str, str] = {}
        for variables in wrong:
            names.setdefault(json.dumps(variables, sort_keys=True), f"wrong{len(names)}")
        cases = {"right": right, **{name: json.loads(text) for text, name in names.items()}}
        cases = {name: {**reached, **variables} for name, variables in cases.items()}
        tasks = [{"import_role": {"name": role}}]
        played = play_cases([{"hosts": "all", "gather_facts": False, "tasks": tasks}], cases)
        got = played.cases["right"]
        assert [task for task in got.failed if re.search(CHECKS, task)] == [], got.said
        assert got.unreachable or [task for task in got.passed + got.failed if not re.search(CHECKS, task)]
        return lambda variables: (played.cases[names[json.dumps(variables, sort_keys=True)]], played.output)

    return play


@pytest.fixture(scope="session")
def resolve() -> Callable[[Any, dict[str, Any]], Any]:
    """Return a function that gives the value of an expression, alone or in a dictionary, as Ansible has it."""
    init_plugin_loader()
    for folder in (ROOT / "plugins" / "filter", ROOT / "roles" / "systemd_unit" / "filter_plugins"):
        filter_loader.add_directory(str(folder))
    loader = DataLoader()

    def run(expression: Any, variables: dict[str, Any]) -> Any:
        if isinstance(expression, dict):
            return {key: run(value, variables) for key, value in expression.items()}
        return Templar(loader, variables).template(trust_as_template(expression))

    return run


@pytest.fixture(scope="session")
def render(resolve: Callable[[Any, dict[str, Any]], Any]) -> Callable[[Path, dict[str, Any]], str]:
    """Return a function that renders a template of a role with Ansible's own lookup, in this process.

    The variables are those given; before them come the role's defaults and its own `vars`, as on a host.
    """
    loader = DataLoader()

    def run(template: Path, variables: dict[str, Any]) -> str:
        known: dict[str, Any] = {}
        for folder in ("defaults", "vars"):
            file = template.parents[1] / folder / "main.yml"
            known |= (loader.load_from_file(str(file), trusted_as_template=True) or {}) if file.exists() else {}
        known |= {**variables, "__template": str(template)}
        text = resolve("{{ lookup('ansible.builtin.template', __template) }}", known)
        assert isinstance(text, str)
        return text

    return run


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one process, where they share what was played once."""
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415 - only with pytest-xdist is there a scheduler

    return LoadFileScheduling(config, log)

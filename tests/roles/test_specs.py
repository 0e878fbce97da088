"""Every role has the one shape, and its argument specs say the same as its defaults and its README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = sorted(path for path in [*ROOT.glob("roles/*"), *ROOT.glob("[!.]*/roles/*")] if path.is_dir())
SECRET = re.compile(r"password|secret|credentials|_url$|_backend$|_users$")
#: Entry points that Ansible must not validate before their first task, as README.md of their role says with the reason.
NOT_VALIDATED = {("load_run", "start"), ("load_run", "take-screenshots")}
#: What is known only in the course of an entry point, after what it runs.
KNOWN_LATER = {
    ("load_run", "run-unprofiled"): {"load_run_dir_on_client", "load_run_dir_on_controller"},
    ("load_run", "run-metadata"): {"load_run_environment"},
}
#: Roles whose other entry points have inputs of their own; those of preflight look at what playbooks are told.
WITH_ENTRY_POINTS = [role for role in ROLES if role.name == "load_run"]


@pytest.fixture(params=ROLES, ids=lambda role: role.name)
def role(request: pytest.FixtureRequest) -> Path:
    """Each role's directory."""
    assert isinstance(request.param, Path)
    return request.param


def load(path: Path) -> Any:
    """Return the content of a YAML file."""
    return yaml.safe_load(path.read_text())


def entry_points(role: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the options of each entry point of the role."""
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    assert all(isinstance(spec["options"], dict) for spec in specs.values())
    return {name: spec["options"] for name, spec in specs.items()}


def options(role: Path) -> dict[str, dict[str, Any]]:
    """Return the options of the role's main entry point."""
    return entry_points(role)["main"]


def every_option(role: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the options of all entry points, with their names."""
    return [item for point in entry_points(role).values() for item in point.items()]


def test_the_role_has_the_one_shape(role: Path) -> None:
    """README, defaults, specs, and tasks/main.yml as a table of contents that begins with the validation."""
    for file in ("README.md", "defaults/main.yml", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml"):
        assert (role / file).is_file(), file
    contents = load(role / "tasks" / "main.yml")
    assert contents[0].get("ansible.builtin.import_tasks") == "validate.yml"
    steps = [step for entry in contents for step in entry.get("block", [entry])]
    assert [step for step in steps if "ansible.builtin.import_tasks" not in step] == []
    assert not load(role / "meta" / "main.yml").get("dependencies")


def test_the_specs_are_equal_to_the_defaults(role: Path) -> None:
    """An input has one default, said in two places; an input without one is required."""
    specs = options(role)
    defaults = load(role / "defaults" / "main.yml") or {}
    assert {name: spec["default"] for name, spec in specs.items() if "default" in spec} == defaults
    assert {name for name, spec in specs.items() if spec.get("required")} == set(specs) - set(defaults)


def test_an_option_of_several_entry_points_is_described_once(role: Path) -> None:
    """Where entry points share an input, it is the same in all of them."""
    known: dict[str, dict[str, Any]] = {}
    for name, spec in every_option(role):
        assert spec == known.setdefault(name, spec), name


def text_of(file: Path) -> str:
    """Return a file of tasks without its comments, with the files that it imports and the templates that it renders."""
    text = re.sub(r"^ *#.*$", "", file.read_text(), flags=re.MULTILINE)
    imported = [text_of(file.parent / name) for name in re.findall(r"import_tasks: ([\w-]+\.yml)", text)]
    rendered = [(file.parents[1] / "templates" / name).read_text() for name in re.findall(r"'([\w.-]+\.j2)'", text)]
    return "\n".join([text, *imported, *rendered])


@pytest.mark.parametrize("role", WITH_ENTRY_POINTS, ids=lambda role: role.name)
def test_an_entry_point_describes_what_it_reads(role: Path) -> None:
    """Ansible looks an entry point up by the name of its file; what it validates there is what the tasks read."""
    described = entry_points(role)
    files = {file.stem: text_of(file) for file in (role / "tasks").glob("*.yml") if file.stem != "validate"}
    assert set(described) - set(files) == set()
    for point, text in files.items():
        named = set(re.findall(rf"(?<![\w-]){role.name}_\w+", text))
        left = re.findall(r"^ +register: (\w+)$|set_fact:\n +(\w+): ", text, re.MULTILINE)
        inputs = named - {name for pair in left for name in pair} - KNOWN_LATER.get((role.name, point), set())
        if (role.name, point) not in NOT_VALIDATED:
            assert set(described.get(point, {})) == inputs, point
    assert [point for point in described if (role.name, point) in NOT_VALIDATED] == []


def test_every_input_carries_the_roles_name_and_a_description(role: Path) -> None:
    """Inputs are `role_name_*`, and the specs hold the prose, the sub-options' too."""
    for name, spec in every_option(role):
        assert name.startswith(f"{role.name}_")
        assert spec["description"]
        assert [key for key, inner in spec.get("options", {}).items() if not inner.get("description")] == []


def test_a_secret_is_required_and_not_logged(role: Path) -> None:
    """What may hold a password has no default but none at all, and Ansible keeps its value out of its output."""
    for name, spec in every_option(role):
        inner = spec.get("options", {})
        if SECRET.search(name) and not any(SECRET.search(key) for key in inner):
            assert spec.get("no_log") is True, name
            assert spec.get("required") is True or spec["default"] == "", name
        assert [key for key in inner if SECRET.search(key) and inner[key].get("no_log") is not True] == []


def test_the_readme_leads_to_every_input(role: Path) -> None:
    """The role's README names each input, or the file that describes them all."""
    readme = (role / "README.md").read_text()
    assert readme.startswith(f"# {role.name}\n")
    assert "meta/argument_specs.yml" in readme or [name for name in options(role) if f"`{name}`" not in readme] == []


def test_every_handler_that_is_notified_exists(role: Path) -> None:
    """A role's tasks notify handlers of the same role, and none of its handlers is left without use."""
    handlers = load(role / "handlers" / "main.yml") if (role / "handlers" / "main.yml").is_file() else []
    names = {handler.get("listen", handler["name"]) for handler in handlers or []}
    notified: set[str] = set()
    for file in [*role.glob("tasks/*.yml"), *role.glob("handlers/*.yml")]:
        for match in re.findall(r"^ *notify: *(\S.*)$", file.read_text(), re.MULTILINE):
            notified |= {name.strip(" '\"") for name in match.strip("[]").split(",")}
        for block in re.findall(r"^( *)notify:\n((?:\1 *- .*\n)+)", file.read_text(), re.MULTILINE):
            notified |= {line.strip(" -'\"") for line in block[1].splitlines()}
    assert notified == names

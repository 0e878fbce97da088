"""Every role has the one shape, and its argument specs say the same as its defaults and its README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = sorted(path for path in [*ROOT.glob("roles/*"), *ROOT.glob("[!.]*/roles/*")] if path.is_dir())
SECRET = re.compile(r"password|secret|_url$|_backend$|_users$")


@pytest.fixture(params=ROLES, ids=lambda role: role.name)
def role(request: pytest.FixtureRequest) -> Path:
    """Each role's directory."""
    assert isinstance(request.param, Path)
    return request.param


def load(path: Path) -> Any:
    """Return the content of a YAML file."""
    return yaml.safe_load(path.read_text())


def options(role: Path) -> dict[str, dict[str, Any]]:
    """Return the options of the role's argument specs."""
    main = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]
    assert isinstance(main["options"], dict)
    return main["options"]


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


def test_every_input_carries_the_roles_name_and_a_description(role: Path) -> None:
    """Inputs are `role_name_*`, and the specs hold the prose, the sub-options' too."""
    for name, spec in options(role).items():
        assert name.startswith(f"{role.name}_")
        assert spec["description"]
        assert [key for key, inner in spec.get("options", {}).items() if not inner.get("description")] == []


def test_a_secret_is_required_and_not_logged(role: Path) -> None:
    """What may hold a password has no default, and Ansible keeps its value out of its output."""
    for name, spec in options(role).items():
        inner = spec.get("options", {})
        if SECRET.search(name) and not any(SECRET.search(key) for key in inner):
            assert spec.get("no_log") is True, name
            assert spec.get("required") is True, name
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

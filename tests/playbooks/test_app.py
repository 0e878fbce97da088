"""An app of a user's own in the wiring: what is refused, what things are called after it, who gets its environment."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import wiring
import yaml
from ansible_playbook import ROOT

SECRET = "not-to-be-seen"
SHOP = ROOT / "molecule/own-app/files/shop"
RIGHT: dict[str, Any] = {
    "app_name": "shop.celery:app",
    "app_source": str(SHOP),
    "app_requirements": str(SHOP / "requirements.txt"),
    "app_tasks": {"shop.tasks.invoice": "orders"},
    "app_environment": {"SECRET_KEY": SECRET, "DEBUG": "0"},
}
#: What each case sets, and what is said of it.
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no-task": (
        {"app_tasks": {}},
        (
            "app_tasks is {}: give each task that the load publishes, by its registered name, with the queue that the "
            "app sends it to, "
            "such as {shop.tasks.invoice: orders}. An app that says nothing of queues has the one called celery."
        ),
    ),
    "a-list-of-tasks": ({"app_tasks": ["shop.tasks.invoice"]}, 'app_tasks is ["shop.tasks.invoice"]: give each task'),
    "a-task-without-a-queue": (
        {"app_tasks": {"shop.tasks.invoice": None}},
        'app_tasks is {"shop.tasks.invoice": null}: give each task',
    ),
    "one-argument": (
        {"app_arguments": 20},
        (
            "app_arguments is 20: give a list, with one entry for each argument of the tasks, such as [20], or [] for "
            "none."
        ),
    ),
    "arguments-by-name": ({"app_arguments": {"net": 20}}, 'app_arguments is {"net": 20}: give a list'),
    "a-dotted-function": (
        {"app_function": "shop.prices.gross"},
        (
            "app_function is 'shop.prices.gross': give MODULE:FUNCTION, such as shop.prices:gross, or leave "
            "it empty. A "
            "task can be called, "
            "too, such as shop.tasks:invoice."
        ),
    ),
    "a-dotted-value": (
        {"app_function": "shop.prices:gross", "app_expected": "19"},
        "app_expected is '19': give MODULE:FUNCTION",
    ),
    "a-text-for-packages": ({"app_packages": "shop"}, 'app_packages is "shop": give a list, such as [shop], or'),
    "no-list-of-packages": (
        {"app_system_packages": None},
        "app_system_packages is null: give a list, such as [libpq5]",
    ),
    "no-requirements": ({"app_requirements": None}, "app_requirements is null: give a text."),
    "no-source": ({"app_source": None}, "app_source is null: give a text."),
    "a-number-for-a-name": ({"app_name": 5}, "app_name is 5: give a text."),
    "in-a-directory-of-flower": (
        {"app_name": "flower.celery:app"},
        (
            "The app 'flower.celery:app' would stand in /opt/flower, and flower has its own files there. Set app_home "
            "to another directory, such as /opt/flower-app."
        ),
    ),
    "in-a-directory-of-the-client": ({"app_name": "taskmill"}, "in /opt/taskmill, and load_client has its own files"),
    "in-a-directory-of-the-browser": ({"app_name": "browser"}, "in /opt/browser, and browser has its own files"),
    "below-another": ({"app_home": "/opt/py-spy/app"}, "in /opt/py-spy/app, and py-spy has its own files there."),
    "in-a-directory-that-was-moved": (
        {"flower_home": "/srv/web", "app_home": "/srv/web"},
        "would stand in /srv/web, and flower has its own files there.",
    ),
    "an-environment-of-nothing": (
        {"app_environment": None},
        "app_environment is no dictionary: give NAME: value for each variable of the workers, or {} for none.",
    ),
    "an-environment-as-text": ({"app_environment": f"SECRET_KEY={SECRET}"}, "app_environment is no dictionary: give"),
    "beat-where-no-app-is": (
        {"app_beat": True, "beat_host": "broker1"},
        "beat_host is 'broker1', which is not in the group 'workers'. Name one of these, which have the app: ",
    ),
    "a-value-without-a-function": (
        {"app_expected": "shop.prices:expected"},
        (
            "app_expected is 'shop.prices:expected', and app_function is empty: the right value is worked out "
            "where the "
            "function is timed. "
            "Name the function behind the task as well, or the task itself, such as shop.tasks:invoice."
        ),
    ),
}


@pytest.fixture(scope="module")
def judged(play_cases: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the checks of the app say of each case, beside one that is right and the example."""
    folder = tmp_path_factory.mktemp("judged")
    (folder / "playbooks").mkdir()
    (folder / "flower.py").touch()
    for name in ("playbooks/group_vars", "app", "requirements"):
        (folder / name).symlink_to(ROOT / name)
    plays = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())
    [play] = [play for play in plays if play["name"] == "Check the app and its workers"]
    # For the filters of a sister of one of the roles, which site.yml has by another play.
    play["tasks"].append({"import_role": {"name": "systemd_unit"}, "when": False})
    book = folder / "playbooks/play.json"
    book.write_text(json.dumps([{**play, "hosts": "all", "any_errors_fatal": False}]))
    cases = {name: RIGHT | bad for name, (bad, _) in BAD.items()}
    cases |= {
        "elsewhere": {**RIGHT, "app_name": "flower", "app_source": str(folder / "flower.py"), "app_home": "/opt/shop"},
        "beside": {**RIGHT, "app_home": "/opt/flowers"},
    }
    return play_cases(book, {"right": RIGHT, "example": wiring.EXAMPLE, "no-app": {}, **cases})


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_a_load_is_refused(judged: Any, name: str) -> None:
    """With what to give instead."""
    assert BAD[name][1] in judged.cases[name].refusal(r"^preflight : app \|")
    assert SECRET not in judged.output


def test_an_app_may_be_called_as_another_part_where_it_has_a_directory_of_its_own(judged: Any) -> None:
    """And one whose directory only begins with the same letters is no neighbour."""
    assert judged.cases["elsewhere"].failed == [], judged.cases["elsewhere"].said
    assert judged.cases["beside"].failed == [], judged.cases["beside"].said


def test_every_directory_of_a_part_is_known_to_the_checks(apps: dict[str, dict[str, Any]]) -> None:
    """Of each role that has one of its own; that of the app is the app's."""
    homes = {}
    for file in ROOT.glob("roles/*/defaults/main.yml"):
        for name, value in (yaml.safe_load(file.read_text()) or {}).items():
            if name.endswith("_home") and name != "celery_app_home":
                homes[file.parents[1].name] = value
    assert homes.items() <= apps["package"]["preflight_homes"].items()
    assert set(homes) == {"browser", "flower", "load_client"}


def test_an_inventory_without_an_app_is_refused(judged: Any) -> None:
    """By both ways to say one, and how the example is had."""
    said = judged.cases["no-app"].refusal(r"^preflight : app \|")
    assert said.partition(") ")[2] == (
        "has no app. Set app_name, app_source and app_tasks in its group_vars/all/app.yml (docs/your-app.md), or have "
        "`make new` write them. For the example, have app_description name app/src/fibonacci/taskmill.yml, as "
        "inventory/lab does."
    )


@pytest.mark.parametrize("name", ["right", "example"])
def test_a_function_and_a_value_may_be_left_out(judged: Any, name: str) -> None:
    """An app that says its tasks alone is taken, by all checks of site.yml; so is the example."""
    assert judged.cases[name].failed == [], judged.cases[name].said
    assert [task for task in judged.cases[name].passed if task.startswith("celery_worker : validate")]


def test_site_looks_at_the_app_before_it_changes_anything() -> None:
    """By the checks of the roles themselves; only checks come before, and the lab's hosts."""
    plays = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())
    names = [play["name"] for play in plays]
    place = names.index("Check the app and its workers")
    assert all(name.startswith(("Check ", "Boot the lab")) for name in names[:place])
    asked = [task["ansible.builtin.import_role"] for task in plays[place]["tasks"]]
    assert asked == [
        {"name": "preflight", "tasks_from": "app"},
        {"name": "celery_app", "tasks_from": "validate"},
        {"name": "celery_worker", "tasks_from": "validate"},
        {"name": "celery_beat", "tasks_from": "validate"},
    ]


#: Names that the wiring makes of an app's.
NAMES = ["load_name", "celery_app_home", "celery_worker_directory", "celery_worker_venv_path", "celery_worker_app"]


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Values of the wiring for apps of several names."""
    folder = tmp_path_factory.mktemp("apps")
    hosts: dict[str, dict[str, Any]] = {
        "example": {},
        "package": {**RIGHT, "app_name": "shop"},
        "module": RIGHT,
        "file": {"app_name": "tasks", "app_source": "/srv/shop/tasks.py"},
        "wheel": {"app_name": "shop", "app_source": "/srv/shop-1.0-py3-none-any.whl"},
        "changed": {"app_arguments": [3], "app_packages": []},
    }
    more = [
        "app_packages",
        "app_source",
        "app_tasks",
        "app_function",
        "break_arguments",
        "load_option_defaults",
        "app_batch",
        "app_arguments",
        "app_requirements",
        "celery_worker_environment",
        "load_settings",
        "preflight_homes",
    ]
    show = {
        "copy": {
            "content": "{{ dict(names | zip(query('ansible.builtin.vars', *names))) | to_json }}",
            "dest": f"{folder}/{{{{ inventory_hostname }}}}",
        }
    }
    wiring.play(folder, wiring.landscape(hosts), [show], names=[*NAMES, *more])
    return {host: json.loads((folder / host).read_text()) for host in hosts}


@pytest.mark.parametrize(
    ("host", "slug", "app"),
    [
        ("example", "fibonacci", "fibonacci"),
        ("package", "shop", "shop"),
        ("module", "shop", "shop.celery:app"),
        ("file", "tasks", "tasks"),
    ],
)
def test_directories_are_called_after_the_first_word_of_the_app(
    apps: dict[str, dict[str, Any]], host: str, slug: str, app: str
) -> None:
    """And Celery is told the whole name."""
    values = [slug, f"/opt/{slug}", f"/opt/{slug}/src", f"/opt/{slug}/venv", app]
    assert {name: apps[host][name] for name in NAMES} == dict(zip(NAMES, values, strict=True))


def test_what_is_the_examples_is_no_other_apps(apps: dict[str, dict[str, Any]]) -> None:
    """Its package alone is copied, in batches, with its argument; of another app all is copied, one by one."""
    values = ["app_packages", "app_batch", "app_arguments"]
    assert [apps["example"][name] for name in values] == [["fibonacci"], 100, [20]]
    assert [apps["package"][name] for name in values] == [[], 1, []]
    assert apps["wheel"]["app_requirements"] == ""
    assert apps["file"]["app_requirements"].endswith("requirements/app.txt")


def test_a_description_is_of_the_app_that_it_names(apps: dict[str, dict[str, Any]]) -> None:
    """What an inventory sets outranks it, one by one; of another app nothing of it is left."""
    described = yaml.safe_load((ROOT / "app/src/fibonacci/taskmill.yml").read_text())
    example, changed, other = apps["example"], apps["changed"], apps["file"]
    assert example["app_source"] == str(ROOT / "app/src")
    for name in ("app_packages", "app_tasks", "app_arguments", "app_function", "app_batch", "break_arguments"):
        assert example[name] == described[name], name
    assert (changed["app_arguments"], changed["app_packages"]) == ([3], [])
    assert changed["app_tasks"] == described["app_tasks"]
    # The command that repeats a run names what was changed.
    assert changed["load_option_defaults"]["app_arguments"] == [20]
    assert "fibonacci" not in json.dumps(
        {name: value for name, value in other.items() if name != "load_option_defaults"}
    )
    assert (other["app_tasks"], other["app_function"], other["break_arguments"]) == ({}, "", [])


def test_the_wiring_knows_no_app() -> None:
    """Neither playbooks nor roles have the example's name, but where an inventory without an app is told of it."""
    files = [path for folder in ("playbooks", "roles", "plugins") for path in (ROOT / folder).rglob("*.*")]
    found = {
        (str(path.relative_to(ROOT)), line.strip())
        for path in files
        if path.suffix in {".yml", ".j2", ".py"}
        for line in path.read_text().splitlines()
        if "fibonacci" in line.lower()
    }
    assert found == {
        ("roles/preflight/tasks/app.yml", "app/src/fibonacci/taskmill.yml, as inventory/lab does."),
        ("playbooks/vars/renamed-variables.yml", "fibonacci_n: app_arguments"),
    }


def test_workers_get_the_environment_and_reports_its_names(apps: dict[str, dict[str, Any]]) -> None:
    """No value of it is in the settings that a record has."""
    assert apps["module"]["celery_worker_environment"] == RIGHT["app_environment"]
    settings = apps["module"]["load_settings"]
    assert settings["app_environment"] == ["DEBUG", "SECRET_KEY"]
    assert settings["beat"] is False
    assert SECRET not in json.dumps(settings)

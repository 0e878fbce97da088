"""The role celery_app without a host: every kind of source, and what is refused."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

Refused = Callable[[dict[str, Any]], tuple[Any, str]]

SECRET = "not-to-be-seen"
NOBODY = 65534
#: What each case sets beside the right inputs, and what is said of it; FOLDER is that of the sources.
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a factory": (
        {"celery_app_name": "shop:create_app()"},
        (
            "celery_app_name is 'shop:create_app()', which `celery --app` does not take. Give a module, such "
            "as shop or "
            "shop.celery, or a "
            "module and what the Celery app is called there, such as shop.celery:app. What has to be called "
            "(a factory) "
            "is none: name a "
            "module that calls it, as in `app = create_app()`."
        ),
    ),
    "a path for a name": (
        {"celery_app_name": "shop/celery.py"},
        "celery_app_name is 'shop/celery.py', which `celery --app` does not take.",
    ),
    "no directory": (
        {"celery_app_source": "/nowhere/shop"},
        (
            "There is no directory /nowhere/shop on the controller. celery_app_source is the directory that holds the "
            "app's packages and "
            "modules, one .py file, a wheel (.whl), or an address of git (git+https://HOST/PATH@REF)."
        ),
    ),
    "no file": ({"celery_app_source": "/nowhere/tasks.py"}, "There is no file /nowhere/tasks.py on the controller."),
    "no wheel": (
        {"celery_app_source": "/nowhere/shop-1-py3-none-any.whl"},
        "There is no wheel /nowhere/shop-1-py3-none-any.whl on the controller.",
    ),
    "the package itself": (
        {"celery_app_source": "FOLDER/project/shop"},
        (
            "The app 'shop.celery:app' is not in FOLDER/project/shop on the controller: there is neither shop/ nor "
            "shop.py. "
            "celery_app_source names the directory that holds it (for a package shop, the one that shop/ is in), "
            "celery_app_name the Python "
            "module."
        ),
    ),
    "packages without the app": (
        {"celery_app_packages": ["other"]},
        (
            "there is neither shop/ nor shop.py among other. celery_app_source names the directory that holds "
            "it (for a "
            "package shop, the "
            "one that shop/ is in), celery_app_name the Python module, and celery_app_packages, where it is given, has "
            "to have it."
        ),
    ),
    "packages of one file": (
        {"celery_app_source": "FOLDER/project/tasks.py", "celery_app_packages": ["tasks"]},
        (
            "celery_app_packages names tasks, and celery_app_source is one file, which is copied as it is. Leave "
            "celery_app_packages out."
        ),
    ),
    "another file": (
        {"celery_app_source": "FOLDER/project/tasks.py"},
        (
            "The app 'shop.celery:app' is not in FOLDER/project on the controller: there is neither shop/ nor shop.py "
            "among tasks.py."
        ),
    ),
    "no ref": (
        {"celery_app_source": "git+https://git.example/shop"},
        (
            "celery_app_source is to be an address of git: git+https://HOST/PATH@REF or "
            "git+ssh://git@HOST/PATH@REF, with "
            "#subdirectory=DIRECTORY behind it where the app is not at its root. REF is a tag, a commit or a branch, "
            "and has to be there."
        ),
    ),
    "a token": (
        {"celery_app_source": f"git+https://{SECRET}@git.example/shop@v1"},
        "A user or a password of https:// belongs to git's own settings on the controller (git help credentials)",
    ),
    "a password": (
        {"celery_app_source": f"git+ssh://git:{SECRET}@git.example/shop@v1"},
        "A user or a password of https:// belongs to git's own settings on the controller (git help credentials)",
    ),
    "no requirements": (
        {"celery_app_requirements": "/nowhere.txt"},
        (
            "There is no requirements file /nowhere.txt on the controller. celery_app_requirements names a file with "
            "what the app needs"
        ),
    ),
    "empty requirements": ({"celery_app_requirements": ""}, "It may be empty where celery_app_source is a wheel."),
    "no Debian package": (
        {"celery_app_system_packages": ["libpq5", "libpq5 git", "--yes"]},
        "celery_app_system_packages: libpq5 git, --yes is no name of a Debian package.",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two packages, a file and what is not source; a repository of it with a tag; a wheel."""
    folder = tmp_path_factory.mktemp("sources")
    for name in (
        "project/shop",
        "project/other",
        "project/.git-like",
        "project/environment/lib",
        "project/node_modules",
    ):
        (folder / name).mkdir(parents=True)
    for name in (
        "shop/__init__.py",
        "shop/celery.py",
        "other/__init__.py",
        "tasks.py",
        ".env",
        ".git-like/x",
        "node_modules/x.py",
    ):
        (folder / "project" / name).write_text(f"# {name}\n")
    (folder / "project/environment/pyvenv.cfg").touch()
    (folder / "project/environment/lib/module.py").touch()
    (folder / "requirements.txt").write_text("celery\n")
    (folder / "shop-1-py3-none-any.whl").touch()
    git = ["git", "-C", str(folder / "project"), "-c", "user.name=shop", "-c", "user.email=shop@example"]
    for command in (["init", "--quiet"], ["add", "shop", "other"], ["commit", "--quiet", "-m", "first"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return folder


def inputs(folder: Path, **other: Any) -> dict[str, Any]:
    """Return right inputs with some others."""
    right = {
        "celery_app_name": "shop.celery:app",
        "celery_app_source": "FOLDER/project",
        "celery_app_requirements": "FOLDER/requirements.txt",
        **other,
    }
    return {
        key: value.replace("FOLDER", str(folder)) if isinstance(value, str) else value for key, value in right.items()
    }


@pytest.fixture(scope="module")
def refused(play_inputs: Callable[..., Refused], folder: Path) -> Refused:
    """What became of every bad input."""
    return play_inputs("celery_app", inputs(folder), [inputs(folder, **bad) for bad, _ in BAD.values()])


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_anything_is_touched(refused: Refused, folder: Path, name: str) -> None:
    """In words that say what to give instead; of a secret nothing is shown."""
    bad, said = BAD[name]
    case, output = refused(inputs(folder, **bad))
    assert said.replace("FOLDER", str(folder)) in case.refusal()
    assert SECRET not in output


#: Sources of every kind, and the files that a host gets of each.
SOURCES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "directory": ({}, {"shop/__init__.py", "shop/celery.py", "other/__init__.py", "tasks.py"}),
    "packages": ({"celery_app_packages": ["shop"]}, {"shop/__init__.py", "shop/celery.py"}),
    "file": (
        {
            "celery_app_source": "FOLDER/project/tasks.py",
            "celery_app_name": "tasks",
            "celery_app_requirements": "~/requirements.txt",
        },
        {"tasks.py"},
    ),
    "git": (
        {"celery_app_source": "git+file://FOLDER/project@v1"},
        {"shop/__init__.py", "shop/celery.py", "other/__init__.py"},
    ),
    "subdirectory": (
        {"celery_app_source": "git+file://FOLDER/project@v1#subdirectory=shop", "celery_app_name": "celery"},
        {"__init__.py", "celery.py"},
    ),
    "wheel": (
        {"celery_app_source": "FOLDER/shop-1-py3-none-any.whl", "celery_app_requirements": ""},
        set(),
    ),
}


@pytest.fixture(scope="module")
def played(play_cases: Callable[..., Any], folder: Path) -> Any:
    """What became of the source of each kind, copied to this machine; each target had another one before."""
    this = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        # One that is here, with a group of its name.
        "celery_app_user": getpass.getuser(),
    }
    cases = {}
    for name, (given, _) in SOURCES.items():
        home = folder / "hosts" / name
        (home / "src/before").mkdir(parents=True)
        (home / "src/before/module.py").touch()
        (home / "venv").symlink_to("venv.d")
        mine = {"celery_app_home": str(home), "celery_app_cache": str(folder / "cache")}
        cases[name] = {**this, **inputs(folder, **given, **mine)}
    for name, made in {"foreign": ["src", "venv"], "bare": ["src"], "blank": [], "venv-alone": ["venv"]}.items():
        for directory in made:
            (folder / "hosts" / name / directory).mkdir(parents=True)
            (folder / "hosts" / name / directory / "theirs").touch()
        cases[name] = {**this, **inputs(folder, celery_app_home=str(folder / "hosts" / name))}
    cases["theirs"] = cases["git"] | {"celery_app_cache": str(folder / "theirs")}
    cases["no-such-tag"] = cases["git"] | inputs(folder, celery_app_source="git+file://FOLDER/project@v9")
    # Where it is fetched to, as the role has it: what this user has fetched before, and what another one has.
    theirs = folder / "theirs" / sha256(cases["git"]["celery_app_source"].encode()).hexdigest()[:16]
    git = ["git", "clone", "--quiet", str(folder / "project"), str(theirs)]
    subprocess.run(git, check=True, capture_output=True)
    for path in (theirs, theirs / ".git"):
        os.chown(path, NOBODY, NOBODY)
    # All of the role that needs no packages of the distribution.
    tasks: list[dict[str, Any]] = [
        {"import_role": {"name": "celery_app", "tasks_from": "validate"}},
        {"import_role": {"name": "celery_app", "tasks_from": "look"}},
        {"import_role": {"name": "celery_app", "tasks_from": "fetch"}, "when": "__celery_app_kind == 'git'"},
        {"import_role": {"name": "celery_app", "tasks_from": "copy"}},
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
        return play_cases([{"hosts": "all", "gather_facts": False, "tasks": tasks}], cases)


@pytest.mark.parametrize("name", SOURCES)
def test_a_host_gets_the_source_and_nothing_else(played: Any, folder: Path, name: str) -> None:
    """No virtual environment, nothing with a dot, nothing of what was there before."""
    assert played.cases[name].failed == [], played.cases[name].said
    source = folder / "hosts" / name / "src"
    assert source.is_dir()
    assert {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()} == SOURCES[name][1]


@pytest.mark.parametrize("name", ["foreign", "bare"])
def test_what_an_app_of_that_name_has_there_stays(played: Any, folder: Path, name: str) -> None:
    """A directory that the role has not made is not made equal to anything."""
    home = folder / "hosts" / name
    assert played.cases[name].said == (
        f"{home}/src is on {name} already, and not from here: {home}/venv is no link of this role's. All of it would "
        "be removed. Move it away if nothing needs it, or set celery_app_home (app_home) to another directory."
    )
    assert (home / "src/theirs").exists()


@pytest.mark.parametrize("name", ["blank", "venv-alone"])
def test_where_there_is_no_source_it_is_copied(played: Any, folder: Path, name: str) -> None:
    """As on a host that has nothing of the app."""
    assert played.cases[name].failed == [], played.cases[name].said
    assert (folder / "hosts" / name / "src/shop/celery.py").exists()


def test_the_commit_of_a_repository_is_told(played: Any, folder: Path) -> None:
    """By its full name, with the tag that it was asked by."""
    command = ["git", "-C", str(folder / "project"), "rev-parse", "v1"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert f"shop.celery:app is commit {commit} of file://{folder}/project (v1)." in played.cases["git"].said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_repository_that_another_user_has_fetched_is_not_trusted(played: Any, folder: Path) -> None:
    """git refuses it; what it advises would run that user's code."""
    said = played.cases["theirs"].said
    [theirs] = (folder / "theirs").iterdir()
    assert said.endswith(
        f"file://{folder}/project cannot be fetched to {theirs} on the controller, which belongs to another user, as "
        f"whom Ansible has run before. Delete it (sudo rm -r {theirs}), or set celery_app_cache to a directory that "
        "this user owns."
    )


def test_a_repository_that_cannot_be_fetched_is_told_with_gits_words(played: Any, folder: Path) -> None:
    """By its address, and what git says of the tag."""
    said = played.cases["no-such-tag"].said
    assert f"file://{folder}/project cannot be fetched to {folder}/cache/" in said
    assert "on the controller: Failed to checkout v9" in said

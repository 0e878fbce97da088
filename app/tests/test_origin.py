"""``taskmill inspect`` of an app that is not a directory here: a repository of git, or a wheel."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml

from inspected_apps import DOCS, SINGLE, inspected, write
from taskmill.inspection.origin import opened
from taskmill.model.errors import TaskmillError

HOSTS = ["--hosts", "broker=10.0.0.1 worker=10.0.0.2"]
METADATA = """\
Metadata-Version: 2.1
Name: shop
Version: 1.0
Requires-Dist: celery>=5.3
Requires-Dist: tomli; python_version < "3.11"
Requires-Dist: pytest; extra == "test"
"""


def git(directory: Path, *words: str) -> str:
    """Run git in a directory, and return what it says."""
    known = ["-c", "user.name=shop", "-c", "user.email=shop@example", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", directory, *known, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository: at v1 the app is at its root, and later in a directory of it, with requirements in two files."""
    folder = write(tmp_path / "shop.git", DOCS)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "First")
    git(folder, "tag", "v1")
    git(folder, "rm", "--quiet", "-r", "proj")
    needs = {
        "requirements.txt": "-r more.txt\ncelery==5.5\n-c limits.txt\n",
        "more.txt": "redis==5.0\n",
        "limits.txt": "kombu<6\n",
    }
    write(folder / "backend", {**DOCS, **needs})
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Second")
    return folder


def variables(inventory: Path) -> dict[str, object]:
    """Return what an inventory says of its app."""
    found: dict[str, object] = yaml.safe_load((inventory / "group_vars/all/app.yml").read_text())
    return found


def test_a_tag_of_a_repository(repository: Path, tmp_path: Path) -> None:
    """The inventory has the address as it was given."""
    address = f"git+file://{repository}@v1"
    done = inspected(address, "--inventory", str(tmp_path / "mine"), *HOSTS)
    assert done.error == f"fetching file://{repository} ...\nimporting the app ...\n"
    assert "proj/tasks.py:4" in done.out
    found = variables(tmp_path / "mine")
    assert (found["app_name"], found["app_source"]) == ("proj", address)
    assert "app_packages" not in found
    assert "app_requirements" not in found


@pytest.mark.parametrize("given", ["", "@main#subdirectory=backend", "@main#subdirectory=backend/proj"])
def test_what_a_repository_needs_is_kept(repository: Path, tmp_path: Path, given: str) -> None:
    """Hosts get the commit that was looked at, or what was asked for, and the app's requirements from the inventory."""
    done = inspected(f"git+file://{repository}{given}", "--inventory", str(tmp_path / "mine"), *HOSTS)
    assert done.code == 0, done.error
    found = variables(tmp_path / "mine")
    ref = "main" if given else git(repository, "rev-parse", "HEAD")
    assert found["app_source"] == f"git+file://{repository}@{ref}#subdirectory=backend"
    assert found.get("app_packages") == (["proj"] if given.endswith("proj") else None)
    assert found["app_requirements"] == "{{ inventory_dir }}/requirements.txt"
    text = (tmp_path / "mine/requirements.txt").read_text()
    assert text == "redis==5.0\ncelery==5.5\n-c constraints-1.txt\n"
    assert (tmp_path / "mine/constraints-1.txt").read_text() == "kombu<6\n"


def test_a_wheel(tmp_path: Path) -> None:
    """It is copied as it is, and what it says that it needs is installed."""
    wheel = tmp_path / "shop-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**DOCS, "shop-1.0.dist-info/METADATA": METADATA}.items():
            archive.writestr(name, text)
    done = inspected(wheel, "--inventory", str(tmp_path / "mine"), *HOSTS)
    assert done.code == 0, done.error
    found = variables(tmp_path / "mine")
    assert (found["app_name"], found["app_source"]) == ("proj", str(wheel))
    assert "app_packages" not in found
    assert (tmp_path / "mine/requirements.txt").read_text() == 'celery>=5.3\ntomli; python_version < "3.11"\n'


REFUSED = {
    "https://git.example/shop": (
        "https://git.example/shop is no directory: give an address of git as git+https://HOST/PATH@REF, with "
        "#subdirectory=DIRECTORY behind it where the app is not at its root"
    ),
    "git@git.example:shop": (
        "git@git.example:shop is no directory: give an address of git as git+https://HOST/PATH@REF, with "
        "#subdirectory=DIRECTORY behind it where the app is not at its root"
    ),
    "git+https://me:hunter2@git.example/shop@v1": (
        "git+https://git.example/shop@v1 was given with a user or a password in it, which logs and lists of processes "
        "show: leave them to git's own settings (git help credentials)"
    ),
    "git+shop@v1": (
        "git+shop@v1 is no address of git: give git+https://HOST/PATH@REF, with #subdirectory=DIRECTORY behind it "
        "where the app is not at its root"
    ),
    "git+file://FOLDER/shop.git@--force": (
        "git+file://FOLDER/shop.git@--force is no address of git: give git+https://HOST/PATH@REF, with "
        "#subdirectory=DIRECTORY behind it where the app is not at its root"
    ),
    "git+file://FOLDER/shop.git@v9": (
        "git+file://FOLDER/shop.git@v9 cannot be fetched; the last lines of git:\n"
        "    error: pathspec 'v9' did not match any file(s) known to git\n"
        "  `git clone file://FOLDER/shop.git` and `git checkout v9` have to work here first"
    ),
    "git+file://FOLDER/shop.git@v1#subdirectory=backend": "git+file://FOLDER/shop.git@v1 has no directory backend",
    "git+file://FOLDER/shop.git@v1#subdirectory=../..": "git+file://FOLDER/shop.git@v1 has no directory ../..",
    "FOLDER/none.whl": "FOLDER/none.whl is not there: give a wheel, or the directory that holds your app",
    "FOLDER/empty.whl": "FOLDER/empty.whl is no wheel: build it anew, as by `pip wheel --no-deps DIRECTORY`",
}


@pytest.mark.parametrize("address", REFUSED)
def test_what_cannot_be_had(repository: Path, address: str) -> None:
    """What was wrong is said, and what mends it; no password is."""
    folder = repository.parent
    (folder / "empty.whl").touch()
    text = REFUSED[address].replace("FOLDER", str(folder))
    with pytest.raises(TaskmillError) as raised, opened(address.replace("FOLDER", str(folder)), print):
        pass
    assert str(raised.value) == text


def test_a_machine_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is missing is said."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TaskmillError) as raised, opened("git+https://git.example/shop@v1", print):
        pass
    assert str(raised.value) == (
        "git+https://git.example/shop@v1 cannot be fetched, as git is not installed here: apt-get install git"
    )


def test_a_repository_that_is_a_package_itself(tmp_path: Path) -> None:
    """No host could import it, as its directory has another name there."""
    files = {"__init__.py": "", "celery.py": DOCS["proj/celery.py"].replace("proj.tasks", "shop.tasks")}
    folder = write(tmp_path / "shop", {**files, "tasks.py": SINGLE["tasks.py"].replace("Celery('tasks'", "Celery('a'")})
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "First")
    done = inspected(f"git+file://{folder}@main", "--app", "shop.celery", "--inventory", str(tmp_path / "mine"), *HOSTS)
    assert done.error.startswith(
        f"git+file://{folder}@main is a package itself, from its root on, and hosts import what a repository has in "
        f"it: clone it to a directory that has the package's name, and give that directory"
    )

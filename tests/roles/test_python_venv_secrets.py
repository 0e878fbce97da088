"""Users and passwords in the requirements of the role python_venv: who sees them while pip installs, and afterwards."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader

ROLE = Path(__file__).parents[2] / "roles/python_venv"
SECRET = "not-to-be-seen"
MASK = ROLE / "files/mask_addresses.py"


class Guarded(SimpleHTTPRequestHandler):
    """Serves files to those who come with the user of their directory."""

    #: Users with their passwords, by the first directory of a path.
    users: ClassVar = {"one": f"shop:{SECRET}-1", "two": f"shop:{SECRET}-2", "three": f"{SECRET}-3:"}

    def do_GET(self) -> None:
        """Ask who it is, where it is not said."""
        wanted = base64.b64encode(self.users[self.path.split("/")[1]].encode()).decode()
        if self.headers.get("Authorization") == f"Basic {wanted}":
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="shop"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server with a repository in each directory; its address."""
    folder = tmp_path / "served"
    for name in Guarded.users:
        repository = folder / name / "shop.git"
        repository.mkdir(parents=True)
        for command in (
            ["init", "--quiet", "--bare"],
            ["-c", "user.name=shop", "-c", "user.email=shop@example", "commit-tree", "-m", "first", EMPTY_TREE],
        ):
            done = subprocess.run(["git", *command], cwd=repository, check=True, capture_output=True, text=True)
        subprocess.run(["git", "update-ref", "refs/tags/v1", done.stdout.strip()], cwd=repository, check=True)
        subprocess.run(["git", "update-server-info"], cwd=repository, check=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Guarded, directory=str(folder))) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


#: A tree without a file, which every repository has.
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@pytest.fixture
def values(tmp_path: Path, resolve: Callable[[Any, dict[str, Any]], Any]) -> Callable[[str], Callable[[str], Any]]:
    """Return a function that takes a requirements file, and returns one that gives the role's own variables."""
    lookup_loader.add_directory(str(ROLE / "lookup_plugins"))
    known: dict[str, Any] = {"python_venv_path": str(tmp_path / "a host/venv"), "python_venv_wheels": []}
    for folder in ("defaults", "vars"):
        known |= DataLoader().load_from_file(str(ROLE / folder / "main.yml"), trusted_as_template=True)

    def given(text: str) -> Callable[[str], Any]:
        (tmp_path / "requirements.txt").write_text(text)
        mine = known | {"python_venv_requirements": str(tmp_path / "requirements.txt")}
        return lambda name: resolve(f"{{{{ {name} }}}}", mine)

    return given


def test_git_gets_users_and_passwords_from_a_file_of_roots_own(
    values: Callable[[str], Callable[[str], Any]], server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several of one host, and a token without a password; no argument of git has them."""
    monkeypatch.setenv("TOKEN", f"{SECRET}-2")
    monkeypatch.setenv("HOME", str(tmp_path))
    addresses = {"one": f"shop:{SECRET}-1", "two": "shop:${TOKEN}", "three": f"{SECRET}-3"}
    lines = [f"shop-{name} @ git+http://{user}@{server}/{name}/shop.git@v1" for name, user in addresses.items()]
    role = values("\n".join(lines))
    given = role("__python_venv_given")
    assert given["faults"] == []
    assert given["files"] == {
        "requirements.txt": "".join(f"shop-{name} @ git+http://{server}/{name}/shop.git@v1\n" for name in addresses)
    }
    assert SECRET not in given["text"]
    file = Path(role("__python_venv_credentials_file"))
    file.parent.mkdir(parents=True)
    [write] = [
        task
        for block in yaml.safe_load((ROLE / "tasks/build.yml").read_text())
        for task in block.get("block", [])
        if task["name"] == "build | Write the users and passwords of repositories"
    ]
    assert (write["no_log"], write["ansible.builtin.copy"]["mode"]) == (True, "0600")
    file.write_text(role(write["ansible.builtin.copy"]["content"].strip("{} ")))
    environment = {**os.environ, "GIT_TRACE": "1", **role("__python_venv_pip_environment")}
    for name in addresses:
        command = ["git", "ls-remote", f"http://{server}/{name}/shop.git"]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        assert "refs/tags/v1" in done.stdout, done.stderr
        assert "git-remote-http" in done.stderr
        assert SECRET not in done.stderr + " ".join(environment[key] for key in environment if key != "TOKEN")


def test_what_is_secret_is_removed_whatever_becomes_of_the_installation(
    values: Callable[[str], Callable[[str], Any]],
) -> None:
    """Both files, where there are any; without them pip has nothing of it."""
    build = yaml.safe_load((ROLE / "tasks/build.yml").read_text())
    [remove] = next(task["always"] for task in build if "always" in task)
    assert remove["ansible.builtin.file"] == {"path": "{{ __python_venv_entry }}", "state": "absent"}
    loop = remove["loop"].strip().removeprefix("{{").removesuffix("}}")
    role = values(f"shop @ git+https://{SECRET}@git.example/shop@v1\n")
    assert role(loop) == [role("__python_venv_credentials_file")]
    assert values("celery\n")(loop) == []
    assert role("__python_venv_git_settings['credential.useHttpPath']") == "false"
    assert values("celery\n")("__python_venv_pip_environment") == {"GIT_TERMINAL_PROMPT": "0"}


def test_a_variable_that_is_not_set_is_named(
    values: Callable[[str], Callable[[str], Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its place, and with where to set it; git would say that it knows no such user."""
    monkeypatch.delenv("TOKEN", raising=False)
    role = values("celery  # ${OTHER}\nshop @ git+https://${TOKEN}@git.example/shop@v1\n")
    assert role("__python_venv_given")["faults"] == [
        (
            f"{tmp_path}/requirements.txt, line 2: ${{TOKEN}} is an environment variable that is not set on this "
            "machine. Set it where ansible-playbook is started, as in TOKEN=... ansible-playbook site.yml."
        )
    ]


@pytest.mark.parametrize("code", [0, 3])
def test_what_pip_says_is_shown_without_passwords(code: int) -> None:
    """Of a line that it cannot read it shows all; its exit code stays."""
    line = f"ERROR: shop @ git+https://u:{SECRET}@git.example/shop@v1 oops, and https://{SECRET}@index.example"
    program = f"import sys; print({line!r}); sys.stderr.write({line!r}); sys.exit({code})"
    done = subprocess.run(
        [sys.executable, "-", sys.executable, "-c", program],
        input=MASK.read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    said = "ERROR: shop @ git+https://***@git.example/shop@v1 oops, and https://***@index.example"
    assert (done.returncode, done.stdout, done.stderr) == (code, f"{said}\n", said)


def test_every_call_of_pip_is_masked(values: Callable[[str], Callable[[str], Any]]) -> None:
    """By the program that it is an argument of, on its standard input."""
    tasks = yaml.safe_load((ROLE / "tasks/packages.yml").read_text())
    calls = [task["ansible.builtin.command"] for task in tasks if "ansible.builtin.command" in task]
    assert len(calls) == 3
    assert all("__python_venv_pip_of_environment" in call["argv"] for call in calls)
    assert {call["stdin"] for call in calls} == {"{{ __python_venv_mask }}"}
    assert values("celery\n")("__python_venv_masked") == ["/usr/bin/python3", "-"]

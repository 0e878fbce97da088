"""What celery_app leaves on a host, after side_effect.yml has damaged it and the role was applied again."""

from __future__ import annotations

import os
import re
from pathlib import Path

from testinfra.host import Host

ROOT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SOURCE = ROOT / "app" / "src" / "fibonacci"


def as_user(host: Host, code: str) -> str:
    """Run Python code from the app's src, as the app's user."""
    return host.check_output(
        "cd /opt/fibonacci/src && setpriv --reuid=celery --regid=celery --init-groups"
        " /opt/fibonacci/venv/bin/python -c %s",
        code,
    )


def test_the_app_answers_with_the_right_value(host: Host) -> None:
    """The app's user runs the installed function in the installed environment."""
    assert as_user(host, "from fibonacci.tasks import fibonacci; print(fibonacci(20))") == "6765"


def test_the_source_is_the_controllers(host: Host) -> None:
    """Every file of the controller is there unchanged, and none besides; bytecode does not count."""
    there = host.check_output("cd /opt/fibonacci/src/fibonacci && find . -type f ! -name '*.pyc' | sort")
    wanted = sorted(path for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc")
    names = [str(path.relative_to(SOURCE)) for path in wanted]
    assert there.splitlines() == sorted(f"./{name}" for name in names)
    assert host.run("test -e /opt/fibonacci/src/fibonacci/old").rc == 1
    for name in names:
        copy = host.file(f"/opt/fibonacci/src/fibonacci/{name}")
        assert copy.content == (SOURCE / name).read_bytes()


def test_the_packages_are_the_pinned_ones(host: Host) -> None:
    """Every package of the hashed file that fits the host is installed in its version."""
    freeze = host.check_output("/opt/fibonacci/venv/bin/python -m pip freeze --all")
    installed = set(freeze.lower().replace("_", "-").split())
    requirements = (ROOT / "requirements" / "app.txt").read_text().lower().replace("_", "-")
    pinned = set(re.findall(r"^([\w.-]+==\S+) \\$", requirements, re.MULTILINE))
    assert len(pinned) > 10
    assert pinned - installed == set()
    assert host.run("/opt/fibonacci/venv/bin/python -m pip check").rc == 0


def test_the_interpreter_is_the_distributions(host: Host) -> None:
    """The environment is made with the host's own python3."""
    assert host.file("/opt/fibonacci/venv/bin/python").linked_to == host.file("/usr/bin/python3").linked_to


def test_the_user_can_neither_log_in_nor_change_the_code(host: Host) -> None:
    """No shell, no password, and nothing below the app's home that the user could write to."""
    user = host.user("celery")
    assert user.shell == "/usr/sbin/nologin"
    assert user.password.startswith(("!", "*"))
    as_user = "cd / && setpriv --reuid=celery --regid=celery --init-groups"
    assert host.check_output(f"{as_user} find /opt/fibonacci ! -type l -writable") == ""


def test_an_app_of_one_file_came_beside_the_first(host: Host) -> None:
    """By the first word of its name; with requirements without hashes, a file of theirs and its bounds."""
    assert host.check_output("cd /opt/reports/src && find . -type f ! -name '*.pyc'") == "./reports.py"
    run = (
        "cd /opt/reports/src && setpriv --reuid=celery --regid=celery --init-groups /opt/reports/venv/bin/python -c %s"
    )
    assert host.check_output(run, "import reports; print(*reports.app)") == "click vine"
    version = "from importlib.metadata import version; print(version('vine'))"
    assert host.check_output(run, version) == "5.1.0"
    assert host.file("/opt/reports/venv/requirements.txt").mode == 0o600
    assert host.package("libpq5").is_installed


def test_a_user_at_work_keeps_its_home(host: Host) -> None:
    """It ran something when the other app came, and could not have got another home."""
    assert host.service("busy").is_running
    assert host.user("celery").home == "/opt/fibonacci"


def test_a_damaged_environment_was_replaced_and_leftovers_removed(host: Host) -> None:
    """The environment in use is another one than the damaged, which stays for now."""
    damaged = host.file("/root/damaged-environment").content_string
    in_use = host.file("/opt/fibonacci/venv").linked_to
    assert in_use != damaged
    kept = {f"/opt/fibonacci/venv.d/{name}" for name in host.file("/opt/fibonacci/venv.d").listdir()}
    assert kept == {damaged, in_use}
    assert host.check_output("/opt/fibonacci/venv/bin/celery --version")

"""The command `taskmill` as it is installed; no broker is there."""

from __future__ import annotations

import os
from pathlib import Path

import tomllib
from testinfra.host import Host

ROOT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
RUN = "taskmill run --runs-directory /var/lib/taskmill/runs --task any=red --tasks 1 --n 1"


def test_the_command_tells_its_version_and_its_usage(host: Host) -> None:
    """The version is the project's, and the help names the parts of a run."""
    project = tomllib.loads((ROOT / "app" / "pyproject.toml").read_text())["project"]
    assert project["version"] in host.check_output("taskmill --version")
    usage = host.check_output("taskmill --help")
    assert all(part in usage for part in ("run", "publish", "collect", "report"))


def test_the_exit_code_is_the_programs(host: Host) -> None:
    """A mistyped option ends with the program's own code, and no trace of Python."""
    done = host.run("taskmill run --no-such-option")
    assert done.rc == 2
    assert "no-such-option" in done.stderr
    assert "Traceback" not in done.stderr


def test_root_becomes_the_commands_user_by_exec(host: Host) -> None:
    """The process that was started is the program itself, so its signals and terminal are too."""
    # It waits for what the pipe has to say.
    seen = host.check_output(
        "mkfifo -m 0644 /tmp/pipe\n"
        f"{RUN} --environment /tmp/pipe & pid=$!\n"
        "sleep 3; ps -o user=,args= -p $pid; kill $pid; rm /tmp/pipe"
    )
    user, program = seen.split(maxsplit=1)
    assert user == "taskmill"
    assert program.startswith("/opt/taskmill/venv/bin/python -m taskmill run ")


def test_a_broker_that_is_not_there_is_named(host: Host) -> None:
    """The command reads its environment file, ends with 3, and keeps the password to itself."""
    done = host.run(RUN)
    assert done.rc == 3
    assert "127.0.0.1:5672" in done.stderr
    assert "not-to-be-seen" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_the_directory_it_is_called_from_lends_it_no_module(host: Host) -> None:
    """A package of the same name in the caller's directory is not what runs."""
    host.check_output("mkdir -p /tmp/other/taskmill && touch /tmp/other/taskmill/__init__.py")
    assert "taskmill" in host.check_output("cd /tmp/other && taskmill --version")
    assert host.run("cd /root && taskmill --version").rc == 0


def test_the_password_is_for_the_command_alone(host: Host) -> None:
    """The file is closed to others, whom the command turns away."""
    file = host.file("/etc/taskmill/taskmill.env")
    assert (file.user, file.group, file.mode) == ("root", "taskmill", 0o640)
    as_nobody = "cd / && setpriv --reuid=nobody --regid=nogroup --clear-groups"
    done = host.run(f"{as_nobody} taskmill --version")
    assert done.rc == 77
    assert "sudo taskmill" in done.stderr


def test_runs_are_kept_where_the_command_may_write(host: Host) -> None:
    """The directory of the runs belongs to the user; program and environment do not."""
    as_user = "cd / && setpriv --reuid=taskmill --regid=taskmill --init-groups"
    host.check_output(f"{as_user} test -w /var/lib/taskmill/runs")
    assert host.check_output(f"{as_user} find /opt/taskmill ! -type l -writable") == ""
    user = host.user("taskmill")
    assert user.shell == "/usr/sbin/nologin"
    assert user.password.startswith(("!", "*"))

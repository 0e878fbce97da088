"""``taskmill inspect``."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from taskmill.cli.values import SECONDS, JsonType, VariableType
from taskmill.inspection import inventory, text
from taskmill.inspection.facts import facts
from taskmill.inspection.look import Options, look
from taskmill.inspection.origin import opened
from taskmill.inspection.problems import problems
from taskmill.model import errors
from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@click.command("inspect")
@click.argument("app")
@click.option(
    "--app", "name", default="", metavar="NAME", help="What celery --app takes; found by itself when not given."
)
@click.option(
    "--python", type=click.Path(path_type=Path), help="A Python, or its environment, that has the app's requirements."
)
@click.option("--requirements", type=click.Path(path_type=Path), help="The app's requirements or lock file.")
@click.option("--env", "variables", type=VariableType(), multiple=True, help="For the import; repeat it.")
@click.option("--timeout", type=SECONDS, default=60.0, show_default=True, help="Seconds that the import may take.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON in place of text.")
@click.option(
    "--inventory", "directory", type=click.Path(file_okay=False, path_type=Path), help="Write an inventory there."
)
@click.option("--hosts", default="", help="Hosts of it: 'broker=ADDRESS worker=ADDRESS client=ADDRESS'.")
@click.option(
    "--like",
    type=click.Path(file_okay=False, path_type=Path),
    help="In place of --hosts: the inventory to copy them from.",
)
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="A task of the load; repeat it.")
@click.option("--args", "arguments", type=JsonType(), help="What these are called with, a JSON list.")
def inspect_command(app: str, *, as_json: bool, directory: Path | None, **options: Any) -> None:
    """Look at the Celery app APP: what a cluster has to know of it, and what will hurt.

    APP is a directory, a .py file, a wheel, or an address of git: git+https://HOST/PATH@REF#subdirectory=DIRECTORY.

    APP is imported in a process of its own, in an environment that is made from its requirements and deleted again.
    """
    arguments = options["arguments"][0] if options["arguments"] is not None else None
    if arguments is not None and not isinstance(arguments, list):
        raise click.BadParameter("give a JSON list, such as [20]", param_hint="--args")
    if directory is not None:
        if bool(options["hosts"]) == (options["like"] is not None):
            raise click.UsageError("with --inventory, give one of --hosts and --like")
        like = options["like"]
        hosts = inventory.model(like) if like is not None else inventory.hosts_files(options["hosts"])
        inventory.refuse_existing(directory, [*hosts, inventory.APP])
    variables = dict(options["variables"])
    how = Options(options["name"], options["python"], options["requirements"], variables, options["timeout"])
    with stopped_alike(), opened(app, tell) as origin:
        subject = look(origin, how, tell)
        told, hurts = facts(subject), problems(subject)
        try:
            found = inventory.variables(subject, options["tasks"], arguments)
            of_app = inventory.files_of(subject, found)
        except TaskmillError:
            if directory is not None or options["tasks"]:
                raise
            found, of_app = None, {}
    if as_json:
        outcome = {"facts": told, "problems": hurts, "variables": found}
        click.echo(json.dumps(msgspec.to_builtins(outcome), indent=2))
    else:
        click.echo(text.shown(told, hurts))
    if directory is not None and found is not None:
        files = {**hosts, **of_app}
        inventory.write(directory, files)
        click.echo(written(directory, files, found), err=as_json)


def tell(words: str) -> None:
    """Say what is done now."""
    click.echo(f"{words} ...", err=True)


def written(directory: Path, files: dict[Path, str], found: dict[str, Any]) -> str:
    """Return what was written, and the next command."""
    lines = ["", *(f"{directory / inventory.APP}:", files[inventory.APP].rstrip()), ""]
    if inventory.REQUIREMENTS in files:
        # The last line, where that is more than what the app's own file says.
        more = [one for one in inventory.STORED_BY.values() if files[inventory.REQUIREMENTS].endswith(f"\n{one}\n")]
        lines.append(f"{directory / inventory.REQUIREMENTS}: {', and '.join(['what the app needs', *more])}")
    lines.append(f"The load will call {', '.join(found['app_tasks'])} with {json.dumps(found['app_arguments'])}.")
    lines.append(
        "Arguments and tasks of your own: --task NAME --args '[...]', or app_tasks and app_arguments in that file."
    )
    where = shlex.quote(str(directory))
    secrets = [f"vault_{name.lower()}" for name, value in found.get("app_environment", {}).items() if "vault" in value]
    if secrets:
        names = ", ".join(secrets)
        # Where taskmill's own environment has it, a shell that has not entered that does not.
        beside = Path(sys.executable).with_name("ansible-vault")
        program = shlex.quote(str(beside)) if beside.exists() else "ansible-vault"
        lines.append(f"First give a value to {names}: {program} create {where}/group_vars/all/vault.yml")
    vault = " ARGS=--ask-vault-pass" if secrets else ""
    return "\n".join([*lines, "Next:", f"  make load INVENTORY={where} TASKS=1000{vault}"])


@contextmanager
def stopped_alike() -> Iterator[None]:
    """Have SIGTERM do as Ctrl-C does: nothing is left of the app's processes, and nothing is written."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        click.echo("taskmill: stopped; nothing was written", err=True)
        sys.exit(errors.INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)

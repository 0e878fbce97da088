"""The inventory of an app: its variables, and its hosts."""

from __future__ import annotations

import contextlib
import importlib
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskmill.inspection import system_packages
from taskmill.model.errors import TaskmillError
from taskmill.model.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

    from taskmill.inspection.probed import Parameter, Task
    from taskmill.inspection.subject import Subject

#: The groups of hosts.yml, by what HOSTS calls them, each with the name of its hosts.
GROUPS = {
    "broker": ("broker", "broker"),
    "results": ("results", "results"),
    "monitor": ("monitor", "monitor"),
    "worker": ("workers", "worker"),
    "workers": ("workers", "worker"),
    "client": ("client", "client"),
}
APP = Path("group_vars", "all", "app.yml")
REQUIREMENTS = Path("requirements.txt")
NETWORK = Path("group_vars", "all", "network.yml")
MEANT = "broker=ADDRESS worker=ADDRESS client=ADDRESS; USER@ADDRESS, and several with commas between, are taken too"
#: Variables of the wiring with the address of the broker and of the result backend, as a worker has them.
ADDRESSES = {"broker": "{{ celery_worker_broker_url }}", "results": "{{ celery_worker_result_backend }}"}
MEMCACHED = "python-memcached==1.62"
#: The requirement that stores results there.
STORED_BY = {"memcached": MEMCACHED, "redis": "celery[redis]"}


def value_for(parameter: Parameter) -> Any:
    """Return a value that a parameter may take, by its annotation; 1 where it says nothing."""
    kinds: tuple[tuple[str, Any], ...] = (
        (r"(?i)list|sequence|iterable|tuple|set\b", [1, 2, 3]),
        (r"(?i)dict|mapping", {}),
        ("str", "text"),
        ("float|Decimal", 1.5),
        ("bool", True),
    )
    return next((value for pattern, value in kinds if re.search(pattern, parameter.annotation)), 1)


def by_name_alone(task: Task) -> list[str]:
    """Return the parameters that a task has to be given by name."""
    return [one.name for one in task.parameters or [] if one.keyword]


def arguments_of(task: Task) -> list[Any] | None:
    """Return arguments that a task may be called with; None where some go by name alone, or are not known."""
    if task.parameters is None or by_name_alone(task):
        return None
    return [value_for(one) for one in task.parameters]


def load_of(tasks: Sequence[Task], names: Sequence[str]) -> tuple[list[Task], list[Any]]:
    """Return the tasks of a load, all called with the same arguments, and these.

    Without ``names``, it is the most tasks that keep results and may be called alike. Raises ``TaskmillError`` where
    there are none.
    """
    known = {task.name: task for task in tasks if task.queue}
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f"registered are {', '.join(known) or 'none'}"
            raise TaskmillError(f"--task {name}: the app registers no such task: {hint}")
    if not known:
        raise TaskmillError(
            "the app registers no task whose queue is known: import the tasks' modules (include=), or name one by --app"
        )
    if names:
        chosen = [known[name] for name in names]
        for task in chosen:
            if alone := by_name_alone(task):
                raise TaskmillError(
                    f"--task {task.name} takes {', '.join(alone)} by name alone, and a load gives arguments by their "
                    "place: give a default there, or name another task"
                )
        return chosen, arguments_of(chosen[0]) or []
    alike: dict[str, tuple[list[Task], list[Any]]] = {}
    kept = [task for task in known.values() if not task.ignore_result] or list(known.values())
    for task in kept:
        arguments = arguments_of(task)
        if arguments is not None:
            alike.setdefault(repr(arguments), ([], arguments))[0].append(task)
    if not alike:
        raise TaskmillError(
            "every task takes arguments by name alone, and a load gives them by their place, or its parameters are not "
            "known: say which is the load, by --task NAME --args '[...]'"
        )
    # Tasks without arguments are often those that clean up, or that beat sends.
    return max(alike.values(), key=lambda one: (bool(one[1]), len(one[0])))


def variables(subject: Subject, names: Sequence[str], arguments: list[Any] | None) -> dict[str, Any]:
    """Return what ``group_vars/all/app.yml`` says."""
    app = subject.app
    chosen, guessed = load_of(subject.tasks, names)
    path, source = subject.code.path, subject.origin.source(subject.root)
    found: dict[str, Any] = {"app_name": app.name, "app_source": source}
    if path != subject.root and source != str(path) and path.is_relative_to(subject.root):
        found["app_packages"] = [path.relative_to(subject.root).parts[0]]
    needs = subject.requirements
    if needs is not None:
        found["app_requirements"] = (
            str(needs.source) if text_of(subject) is None else "{{ inventory_dir }}/requirements.txt"
        )
    if subject.result_store != "memcached":
        found["result_store"] = subject.result_store
    found["app_tasks"] = {task.name: task.queue for task in chosen}
    found["app_arguments"] = guessed if arguments is None else arguments
    if {queue.name for queue in subject.queues} != {task.queue for task in chosen}:
        found["app_queues"] = [queue.name for queue in subject.queues]
    if any(queue.arguments for queue in subject.queues):
        found["rabbitmq_queues"] = [{"name": one.name, "arguments": one.arguments} for one in subject.queues]
    if any(queue.declared for queue in subject.queues):
        found["broker_workers_declare"] = True
        exchanges = {queue.exchange for queue in subject.queues if queue.exchange}
        if exchanges - {queue.name for queue in subject.queues}:
            named = sorted(exchanges | {queue.name for queue in subject.queues})
            found["broker_task_queues"] = "|".join(re.escape(name).replace("\\-", "-") for name in named)
    if subject.has_beat:
        found["app_beat"] = True
    if subject.system:
        found["app_system_packages"] = system_packages.packages(subject.system.values())
    if subject.needed_variables:
        found["app_environment"] = {
            name: ADDRESSES[subject.addresses[name]] if name in subject.addresses else f"{{{{ vault_{name.lower()} }}}}"
            for name in subject.needed_variables
        }
    return found


def text_of(subject: Subject) -> str | None:
    """Return the requirements file that the inventory gets; None where the app's own does as it stands."""
    needs = subject.requirements
    if needs is None:
        return None
    adds = subject.lacks_client_of_store and not needs.any_hashed
    if needs.as_it_is and not adds and subject.origin.stays(needs.source):
        return None
    if not needs.as_it_is:
        text = needs.text
    elif subject.origin.stays(needs.source):
        text = f"-r {needs.source}\n"
    else:
        text = needs.carried()[0]
    store = subject.result_store
    return f"{text}# Stores results in {store}.\n{STORED_BY[store]}\n" if adds else text


def hosts(text: str) -> dict[str, Any]:
    """Return ``hosts.yml`` from ``broker=ADDRESS worker=ADDRESS ...``; raise ``TaskmillError`` for what is none."""
    by_address: dict[str, str] = {}
    groups: dict[str, dict[str, Any]] = {}
    count: dict[str, int] = {}
    for word in text.split():
        kind, _, addresses = word.partition("=")
        if kind not in GROUPS or not all(addresses.split(",")):
            raise TaskmillError(f"HOSTS has '{word}': give {MEANT}")
        group, name = GROUPS[kind]
        for address in addresses.split(","):
            if address not in by_address:
                count[name] = count.get(name, 0) + 1
                by_address[address] = f"{name}{count[name]}"
            groups.setdefault(group, {})[by_address[address]] = None
    for group in ("broker", "workers"):
        if group not in groups:
            kind = group.removesuffix("s")
            raise TaskmillError(f"HOSTS names no {kind}: add {kind}=ADDRESS")
    for group in ("results", "monitor", "client"):
        groups.setdefault(group, {next(iter(groups["broker"])): None})
    listed = {name: reached_by(address) for address, name in by_address.items()}
    order = ("broker", "results", "monitor", "workers", "client")
    return {"all": {"hosts": listed, "children": {group: {"hosts": groups[group]} for group in order}}}


def reached_by(address: str) -> dict[str, str]:
    """Return the variables by which Ansible reaches a host, given as ADDRESS or USER@ADDRESS."""
    user, at, host = address.rpartition("@")
    if host in {"localhost", "127.0.0.1"}:
        return {"ansible_connection": "local"}
    return {"ansible_host": host, **({"ansible_user": user} if at else {})}


def yaml() -> ModuleType:
    """Return PyYAML, which the machine that runs Ansible has; raise ``TaskmillError`` where it is not installed."""
    try:
        return importlib.import_module("yaml")
    except ImportError as error:
        raise TaskmillError("writing an inventory needs PyYAML: pip install 'taskmill[inventory]'") from error


def as_yaml(found: dict[str, Any]) -> str:
    """Return variables as YAML, a line each."""
    lines = (
        yaml().safe_dump({name: value}, default_flow_style=True, width=math.inf, sort_keys=False)
        for name, value in found.items()
    )
    return "".join(f"{line.strip()[1:-1]}\n" for line in lines)


def files_of(subject: Subject, found: dict[str, Any]) -> dict[Path, str]:
    """Return the files of an inventory that are the app's, with their text."""
    requirements, needs = text_of(subject), subject.requirements
    files = {APP: f"---\n{as_yaml(found)}"}
    if requirements is not None and needs is not None:
        files[REQUIREMENTS] = requirements
        if needs.as_it_is and not subject.origin.stays(needs.source):
            files |= {Path(name): text for name, text in needs.carried()[1].items()}
    return files


def hosts_files(text: str) -> dict[Path, str]:
    """Return ``hosts.yml`` for what HOSTS says, and TLS between these hosts, as ``inventory/vms`` has it."""
    listed = yaml().safe_dump(hosts(text), sort_keys=False).replace(" null\n", "\n")
    return {Path("hosts.yml"): f"---\n{listed}", NETWORK: "---\ntls: true\n"}


def model(directory: Path) -> dict[Path, str]:
    """Return the files of an inventory that is there, without its secrets."""
    if not (directory / "hosts.yml").is_file():
        raise TaskmillError(f"{directory} is no inventory to copy: it has no hosts.yml")
    inside = ((path.relative_to(directory), path) for path in sorted(directory.rglob("*")) if path.is_file())
    return {name: path.read_text() for name, path in inside if not any(part.startswith(".") for part in name.parts)}


def refuse_existing(directory: Path, names: Iterable[Path] = (Path("hosts.yml"), APP)) -> None:
    """Raise ``TaskmillError`` where an inventory has any of these files already."""
    there = [str(name) for name in names if (directory / name).exists()]
    if there:
        more = f" and {len(there) - 1} more of the files" if len(there) > 1 else ""
        named = f"{'hosts.yml' if 'hosts.yml' in there else there[0]}{more}"
        raise TaskmillError(
            f"{directory} has {named} already, and nothing was changed: give another directory, or delete what is there"
        )


def write(directory: Path, files: dict[Path, str]) -> None:
    """Write the files of an inventory, all or none; raise ``TaskmillError`` where one is there already."""
    refuse_existing(directory, files)
    written: list[Path] = []
    made: list[Path] = []
    try:
        for name, text in files.items():
            path = directory / name
            made += reversed([folder for folder in path.parents if not folder.exists()])
            path.parent.mkdir(parents=True, exist_ok=True)
            written.append(path)
            path.write_text(text)
    except BaseException:
        # What could not be made is not there, or is somebody else's.
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise

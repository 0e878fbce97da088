"""Imports a Celery app and writes down what it is. The app's own Python reads this from its standard input.

It needs nothing but the app's Celery (5) and Python 3.8. Its only argument is a JSON object:

| key | value |
|---|---|
| ``root`` | directory that the app's modules are imported from; the current one |
| ``output`` | file that the outcome is written to, as JSON: the keys of ``App``, or ``error`` |
| ``names`` | what ``celery --app`` may be given, the best first |
| ``module``, ``attribute`` | where the app was seen in the source; empty when ``names`` has one that the user gave |
| ``seconds`` | how long the import may take, before the log gets where it stands |
| ``settings`` | names of Celery's settings to tell |
"""

from __future__ import annotations

import ast
import faulthandler
import importlib.util
import inspect
import json
import os
import re
import sys
import traceback
from collections import deque
from datetime import timedelta
from importlib import metadata
from typing import Any

#: Read the environment for others.
READERS = frozenset({"decouple", "dotenv", "environ", "environs", "starlette"})
#: Values of variables that are not there; an address has the variable's name behind it.
MADE_UP, ADDRESS = "1", "http://127.0.0.1:9/"
#: In the addresses of CELERY_BROKER_URL and CELERY_RESULT_BACKEND, which the hosts replace.
OF_HOSTS = "127.0.0.1:9"
FROM_ENVIRONMENT = "from the environment"
#: Names of variables that hold an address, and what those are called that hold the broker's or the result backend's.
OF_ADDRESS = "UR[IL]|(BROKER|BACKEND)$"
OF_CLUSTER = {"broker": "BROKER|AMQP|RABBIT|CELERY", "results": "RESULT|BACKEND|CELERY"}
#: Where the settings of pydantic 2 are, those of pydantic 1, and these within pydantic 2.
SETTINGS = ("pydantic_settings", "pydantic.env_settings", "pydantic.v1.env_settings")
MAPPINGS = frozenset({"os", "_collections_abc", "collections.abc"})


class Environment:
    """Which variables the app's code reads, and a made-up value for each that it cannot do without."""

    def __init__(self, root: str) -> None:
        """Take the directory of the app's code, and look on from here."""
        self.root = root
        self.read: dict[str, dict[str, Any]] = {}
        self.values: dict[str, str] = {}
        #: Who copies or searches the environment reads what was handed out, in that order, and means none of it.
        self.handed_out: deque[str] = deque()
        kind: Any = type(os.environ)
        plain, names = kind.__getitem__, kind.__iter__

        def iterate(environ: Any) -> Any:
            self.handed_out.clear()
            for name in names(environ):
                self.handed_out.append(name)
                yield name

        def getitem(environ: Any, name: Any) -> Any:
            if self.handed_out and self.handed_out[0] == name:
                return plain(environ, self.handed_out.popleft())
            self.handed_out.clear()
            reader, at_once, frame = self.reader()
            try:
                value = plain(environ, name)
            except KeyError:
                if frame is None:
                    raise
                if at_once:
                    self.values[name] = ADDRESS + name if re.search(OF_ADDRESS, name) else MADE_UP
                self.note(name, frame, needed=at_once, given=False)
                if not at_once:
                    raise
                return self.values[name]
            if frame is not None:
                self.values[name] = value
                self.note(name, frame, needed=at_once or reader in READERS, given=True)
            return value

        kind.__getitem__, kind.__iter__ = getitem, iterate

    def reader(self) -> tuple[str, bool, Any]:
        """Return who reads, whether by ``environ[name]``, and the frame of the app's code; None where another reads."""
        frame: Any = sys._getframe(2)
        at_once = True
        while frame is not None and frame.f_globals.get("__name__") in MAPPINGS:
            at_once = False
            frame = frame.f_back
        reader = "" if frame is None else str(frame.f_globals.get("__name__")).partition(".")[0]
        if reader in READERS:
            at_once = False
            while frame is not None and not self.own(frame):
                frame = frame.f_back
        return reader, at_once, frame if frame is not None and self.own(frame) else None

    def own(self, frame: Any) -> bool:
        """Return whether a frame is of the app's code."""
        return own_file(frame.f_code.co_filename, self.root)

    def of_settings(self, error: str) -> None:
        """Note what the app's classes of pydantic's settings take, since these copy all variables.

        One without a default is needed where it is there, where its class has a file for it, and where the import
        failed with this ``error``, over what its class lacks.
        """
        lacks = re.search(r"validation errors? for (\w+)[\s\S]*[Ff]ield required", error)
        waiting = [vars(sys.modules[name])["BaseSettings"] for name in SETTINGS if name in sys.modules]
        there = {name.upper(): value for name, value in dict(os.environ).items()}
        for kind in waiting:
            waiting += kind.__subclasses__()
            file = os.path.realpath(file_of(kind))
            own = file.endswith(".py") and own_file(file, self.root)
            for name, line, required in fields_of(kind, file, there) if own else ():
                given = name.upper() in there
                failed = lacks is not None and lacks.group(1) == kind.__name__
                needed = required and (given or failed or bool(config_of(kind, "env_file")))
                if given:
                    self.values[name] = there[name.upper()]
                self.note_at(name, file, line, needed, given)

    def of_cluster(self, addresses: dict[str, Any]) -> list[dict[str, Any]]:
        """Return each variable that was read, and which of the cluster's ``addresses`` it is, if any."""
        for name, one in self.read.items():
            for what, address in addresses.items():
                if isinstance(address, str) and "://" in address and self.values.get(name) == address:
                    one["cluster"] = what if re.search(OF_CLUSTER[what], name) else ""
        return list(self.read.values())

    def note(self, name: Any, frame: Any, needed: bool, given: bool) -> None:
        """Keep where a variable was first read."""
        if isinstance(name, str):
            self.note_at(name, os.path.realpath(frame.f_code.co_filename), frame.f_lineno, needed, given)

    def note_at(self, name: str, file: str, line: int, needed: bool, given: bool) -> None:
        """Keep a variable, unless it is known from elsewhere already."""
        known = {"name": name, "file": file, "line": line, "needed": needed, "given": given}
        self.read.setdefault(name, dict(known, made_up=name in self.values and not given))


def own_file(path: str, root: str) -> bool:
    """Return whether a file is of the app's code; a compiled module has the name that it had where it was compiled."""
    inside = os.path.join(os.path.realpath(root), "")
    return os.path.isabs(path) and os.path.realpath(path).startswith(inside) and "-packages" + os.sep not in path


def file_of(kind: type) -> str:
    """Return the file of a class, whose module may have failed; empty where there is none."""
    try:
        spec = importlib.util.find_spec(kind.__module__)
    except (ImportError, ValueError):
        return ""
    return (spec and spec.origin) or ""


def fields_of(kind: Any, file: str, there: dict[str, str]) -> list[tuple[str, int, bool]]:
    """Return for each field of a class of settings its variable, its line, and whether it has no default.

    Of several variables it is the first that is ``there``, by their names in capitals.
    """
    with open(file, "rb") as source:
        body = [node for node in ast.walk(ast.parse(source.read())) if isinstance(node, ast.ClassDef)]
    lines = {
        node.target.id: node.lineno
        for one in body
        if one.name == kind.__name__
        for node in one.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    found = []
    for field, names, required in variables_of(kind):
        name = next((name for name in names if name.upper() in there), names[0])
        heeded = name if config_of(kind, "case_sensitive") else name.upper()
        found.append((heeded, lines.get(field, 0), required))
    return found


def variables_of(kind: Any) -> list[tuple[str, list[str], bool]]:
    """Return each field of a class of settings, its variables, and whether it has no default."""
    if not hasattr(kind, "model_fields"):
        fields = kind.__fields__.items()
        return [(field, sorted(one.field_info.extra["env_names"]), bool(one.required)) for field, one in fields]
    found = []
    for field, info in kind.model_fields.items():
        alias = info.validation_alias
        choices = [one if isinstance(one, str) else one.path[0] for one in getattr(alias, "choices", [alias]) if one]
        names = [str(one) for one in choices] or [config_of(kind, "env_prefix") + field]
        found.append((field, names, info.is_required()))
    return found


def config_of(kind: Any, name: str) -> Any:
    """Return an option of a class of settings."""
    return kind.model_config.get(name) if hasattr(kind, "model_config") else getattr(kind.__config__, name)


def find(names: list[str], module: str, attribute: str) -> tuple[Any, str]:
    """Return the app and the name that ``celery --app`` finds it by; raise what its import raises."""
    from celery import Celery
    from celery.app.utils import find_app

    wanted: Any = None
    if module:
        wanted = vars(importlib.import_module(module)).get(attribute)
    last: Exception = ImportError(names[0])
    for name in names:
        try:
            found = find_app(name)
        except (AttributeError, ImportError) as error:
            last = error
            if len(names) == 1:
                raise
            continue
        # A proxy of the app is an app, too.
        if isinstance(found, Celery) and (not module or found is wanted):
            return found, name
        last = TypeError("%s is %s, not a Celery app" % (name, type(found).__name__))
    raise last


def described(app: Any, wanted: list[str]) -> dict[str, Any]:
    """Return what the app is, as the worker that starts with it would see it."""
    app.loader.import_default_modules()
    app.finalize()
    queues: dict[str, Any] = {}
    tasks = [task_of(app, app.tasks[name], queues) for name in sorted(app.tasks) if not name.startswith("celery.")]
    for queue in app.amqp.queues.values():
        queues.setdefault(queue.name, queue)
    error, backend = "", ""
    try:
        backend = app.backend.__class__.__name__
        result_url = getattr(app.backend, "url", None)
    except Exception as raised:  # noqa: BLE001  # whatever the app's backend raises
        error, result_url = last_line(raised), None
    broker = app.connection_for_read()
    return {
        "tasks": tasks,
        "queues": [queue_of(queues[name]) for name in sorted(queues)],
        "settings": {name: setting_of(app, name) for name in wanted if name in app.conf},
        "beat": [
            {"name": str(name), "task": str(entry["task"]), "schedule": str(entry["schedule"])}
            for name, entry in sorted((app.conf.beat_schedule or {}).items(), key=str)
        ],
        "broker": scheme_of(app.conf.get("broker_url")),
        "broker_heeded": (broker.hostname, broker.port) == ("127.0.0.1", 9),
        "backend": backend,
        "backend_heeded": not result_url or OF_HOSTS in str(result_url),
        "backend_error": error,
        "own_backend": own_backend(app.conf.get("result_backend")),
    }


def own_backend(url: Any) -> str:
    """Return the scheme of the result backend that the app itself names; one that the hosts replace is none."""
    return FROM_ENVIRONMENT if OF_HOSTS in str(url) else scheme_of(url)


def scheme_of(url: Any) -> str:
    """Return the scheme of an address, which may have a password behind it."""
    if isinstance(url, (list, tuple)):
        url = url[0] if url else ""
    if url == MADE_UP or str(url).startswith(ADDRESS):
        return FROM_ENVIRONMENT
    return re.split("[:;]", str(url or ""))[0]


def setting_of(app: Any, name: str) -> dict[str, Any]:
    """Return a setting's value, and whether it is Celery's own."""
    from celery.app.defaults import DEFAULTS

    value = app.conf.get(name)
    return {"value": plain(value), "default": value == DEFAULTS.get(name)}


def plain(value: Any) -> Any:
    """Return a value as JSON can carry it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return getattr(value, "__qualname__", None) or str(value)[:200]


def task_of(app: Any, task: Any, queues: dict[str, Any]) -> dict[str, Any]:
    """Return what a task is; its queue is put to the others."""
    function = inspect.unwrap(getattr(task.run, "__func__", task.run))
    try:
        place = {"file": inspect.getsourcefile(function) or "", "line": inspect.getsourcelines(function)[1]}
    except (OSError, TypeError):
        place = {"file": "", "line": 0}
    described = dict(place, name=task.name, queue="", exchange="", routing_key="", priority=None, route_error="")
    try:
        route = app.amqp.router.route(dict(task._get_exec_options()), task.name, args=(), kwargs={})
    except Exception as error:  # noqa: BLE001  # whatever the app's router raises
        described["route_error"] = last_line(error)
        route = {}
    queue = route.get("queue")
    if isinstance(queue, str):
        queue = app.amqp.queues[queue]
    exchange = route.get("exchange") or ""
    exchange = getattr(exchange, "name", exchange)
    key = route.get("routing_key") or ""
    if queue is None and not described["route_error"]:
        queue = bound(app, exchange, key)
    if queue is not None:
        queues.setdefault(queue.name, queue)
        described["queue"] = queue.name
    described.update(exchange=exchange, routing_key=key, priority=route.get("priority"))
    for name in ("acks_late", "ignore_result", "serializer", "time_limit", "soft_time_limit"):
        described[name] = plain(getattr(task, name, None))
    described["retry_delay"] = plain(getattr(task, "default_retry_delay", None))
    # These attributes are there with autoretry_for alone.
    backoff = getattr(task, "autoretry_for", ()) and getattr(task, "retry_backoff", False)
    described["backoff"] = plain(getattr(task, "retry_backoff_max", 600)) if backoff else 0
    described["parameters"] = parameters_of(task.run)
    return described


def bound(app: Any, exchange: str, key: str) -> Any:
    """Return the queue that a message to an exchange comes to, or None."""
    for queue in app.amqp.queues.values():
        kind = queue.exchange.type
        words = "".join(
            {"*": "[^.]+", "#": ".*"}.get(part, re.escape(part)) for part in re.split("([*#])", queue.routing_key)
        )
        fits = kind == "fanout" or queue.routing_key == key or (kind == "topic" and re.fullmatch(words, key))
        if queue.exchange.name == (exchange or app.conf.task_default_exchange) and fits:
            return queue
    return None


def parameters_of(function: Any) -> list[dict[str, Any]] | None:
    """Return the parameters that a call has to give, with their annotations as text; None where they are not known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    needed = []
    for one in parameters:
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            annotation = "" if one.annotation is one.empty else one.annotation
            text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
            needed.append({"name": one.name, "annotation": text, "keyword": one.kind == one.KEYWORD_ONLY})
    return needed


def queue_of(queue: Any) -> dict[str, Any]:
    """Return a queue as the broker would be asked for it."""
    from kombu.transport.base import to_rabbitmq_queue_arguments

    options = ("expires", "message_ttl", "max_length", "max_length_bytes", "max_priority")
    arguments = to_rabbitmq_queue_arguments(
        dict(queue.queue_arguments or {}), **{name: getattr(queue, name) for name in options}
    )
    return {
        "name": queue.name,
        "exchange": queue.exchange.name if queue.exchange is not None else "",
        "arguments": plain(arguments),
        "declared": not (queue.no_declare or (queue.exchange is not None and queue.exchange.no_declare)),
        "durable": bool(queue.durable),
    }


def installed() -> dict[str, dict[str, Any]]:
    """Return each installed distribution's version, and whether it brings its system libraries along."""
    found = {}
    for one in metadata.distributions():
        name = one.metadata["Name"]
        if name:
            carries = any(str(path).split("/")[0].endswith(".libs") for path in one.files or ())
            found[re.sub("[-_.]+", "-", name).lower()] = {"version": one.version, "carries": carries}
    return found


def django_of() -> dict[str, Any] | None:
    """Return Django's settings module and DEBUG, where the app has set Django up."""
    if "django.conf" not in sys.modules or not sys.modules["django.conf"].settings.configured:
        return None
    return {
        "settings": os.environ.get("DJANGO_SETTINGS_MODULE", ""),
        "debug": bool(sys.modules["django.conf"].settings.DEBUG),
    }


def last_line(error: BaseException) -> str:
    """Return an exception in one line."""
    return traceback.format_exception_only(type(error), error)[-1].strip()


def failure(error: BaseException, root: str) -> dict[str, Any]:
    """Return what an exception is, and where in the app's code it came up."""
    own = [one for one in traceback.extract_tb(error.__traceback__) if own_file(one.filename, root)]
    place = {"file": os.path.realpath(own[-1].filename), "line": own[-1].lineno} if own else {"file": "", "line": 0}
    if isinstance(error, SyntaxError):
        place = {"file": error.filename or "", "line": error.lineno or 0}
    return dict(place, kind=type(error).__name__, text=last_line(error), module=getattr(error, "name", None) or "")


def main() -> None:
    """Do it all; whatever the app does, the outcome is written, if its process lives on."""
    asked = json.loads(sys.argv[1])
    sys.argv = ["celery"]
    faulthandler.dump_traceback_later(asked["seconds"])
    environment = Environment(asked["root"])
    outcome: dict[str, Any] = {"python": "%d.%d.%d" % sys.version_info[:3]}
    addresses: dict[str, Any] = {}
    try:
        import celery

        outcome["celery"] = celery.__version__
        app, outcome["name"] = find(asked["names"], asked["module"], asked["attribute"])
        outcome.update(described(app, asked["settings"]))
        addresses = {"broker": app.conf.get("broker_url"), "results": app.conf.get("result_backend")}
        outcome["django"] = django_of()
        outcome["distributions"] = installed()
    except BaseException as error:  # noqa: BLE001  # whatever the app raises, SystemExit included
        traceback.print_exc()
        outcome["error"] = failure(error, asked["root"])
    environment.of_settings(outcome.get("error", {}).get("text", ""))
    outcome["environment"] = environment.of_cluster(addresses)
    with open(asked["output"] + ".part", "w") as file:
        json.dump(outcome, file)
    os.replace(asked["output"] + ".part", asked["output"])
    # Threads and handlers of the app's own do not keep it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

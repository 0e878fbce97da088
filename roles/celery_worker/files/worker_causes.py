"""Name the cause why a worker does not come up, from what it wrote and what systemd says of its unit.

Plain functions of plain data. On a host watch_workers.py stands behind this file, on the same stdin, and what stands
there cannot be imported: so table and functions are one file, of more than 400 lines. Both run on Python 2.7 too.
"""

from __future__ import unicode_literals

import os
import re
from collections import namedtuple

try:
    from shlex import quote
except ImportError:
    from pipes import quote

#: What becomes of a worker with such a cause: it ends; it tries again, which may help; it tries in vain; it answers,
#: and its tasks fail.
ENDED, TRIES, IN_VAIN, ANSWERS = "ended", "tries", "in vain", "answers"

#: A cause is told by one of its `signs`, regular expressions for the lines of the log and of systemd's properties. What
#: their groups caught, and the facts about the worker, fill in `why` (what is wrong, and what mends it) and `command`,
#: to be typed at `place`. In a sign PACKAGE stands for the app's own package.
Cause = namedtuple("Cause", "name signs why place command state")

HOST, BROKER = "{host}", "the broker's host"
#: What systemd writes of a unit beside the unit's own lines.
OF_SYSTEMD = re.compile(r"celery-(?:beat|worker@\S+)\.service: |(?:Start|Stopp)(?:ed|ing) ")
#: Of Debian 12; Debian 13 has the same names, or packages that provide them.
DEBIAN_PACKAGES = dict(
    pair.split("=")
    for pair in """
    libGL.so.1=libgl1 libSM.so.6=libsm6 libXext.so.6=libxext6 libXrender.so.1=libxrender1 libaio.so.1=libaio1
    libcairo.so.2=libcairo2 libgeos_c.so.1=libgeos-c1v5 libglib-2.0.so.0=libglib2.0-0 libgmp.so.10=libgmp10
    libgomp.so.1=libgomp1 libgssapi_krb5.so.2=libgssapi-krb5-2 libgthread-2.0.so.0=libglib2.0-0
    libkrb5.so.3=libkrb5-3 libldap-2.5.so.0=libldap-2.5-0 libmagic.so.1=libmagic1 libmariadb.so.3=libmariadb3
    libmemcached.so.11=libmemcached11 libodbc.so.2=libodbc2 libopenjp2.so.7=libopenjp2-7
    libpango-1.0.so.0=libpango-1.0-0 libpq.so.5=libpq5 libproj.so.25=libproj25 librdkafka.so.1=librdkafka1
    libsasl2.so.2=libsasl2-2 libsnappy.so.1=libsnappy1v5 libsndfile.so.1=libsndfile1 libsqlite3.so.0=libsqlite3-0
    libsybdb.so.5=libsybdb5 libtesseract.so.5=libtesseract5 libtiff.so.6=libtiff6 libvips.so.42=libvips42
    libwebp.so.7=libwebp7 libxml2.so.2=libxml2 libxmlsec1.so.1=libxmlsec1 libxslt.so.1=libxslt1.1
    libzbar.so.0=libzbar0
    """.split()  # noqa: SIM905  a list would be as long as the rest
)

#: Directories that belong to all, so no app is given one of them to write to.
SHARED = ("/", "/etc", "/opt", "/srv", "/usr", "/var", "/var/cache", "/var/lib", "/var/log", "/var/spool")

# Looked through in this order, so what is more special comes first.
CAUSES = [
    # What systemd alone knows.
    Cause(
        "writable path missing",
        [
            (
                r"Failed to set up mount namespacing: (?:/run/systemd/unit-root)?(?P<path>/\S+): No such file or "
                r"directory"
            )
        ],
        "the unit names {path}, which is not on the host. Make the directory, owned by {user}, or take it from "
        "celery_worker_writable_paths.",
        HOST,
        "install --directory --owner={user} --group={user} {path}",
        ENDED,
    ),
    Cause(
        "namespaces",
        [r"^ExecMainStatus=226$"],
        "systemd could not confine it (226/NAMESPACE): a path of celery_worker_writable_paths is not on the host, "
        "or the host, itself a container perhaps, does not allow namespaces. Make the paths; where it is the "
        "host, allow them there.",
        HOST,
        "journalctl --no-pager --lines=20 --grep=namespac --unit={unit}",
        ENDED,
    ),
    Cause(
        "program missing",
        [r"^ExecMainStatus=203$", r"env: \W(?P<program>/.+)\W: (?:No such file or directory|Permission denied)"],
        "its program {virtualenv}/bin/celery cannot be executed: the virtual environment is not there or is not "
        "whole, it holds no Celery, or the Python that it was made with is gone.",
        HOST,
        "{virtualenv}/bin/python -m celery --version",
        ENDED,
    ),
    Cause(
        "user missing",
        [r"^ExecMainStatus=21[67]$"],
        "there is no user {user} on this host, or no group of that name (celery_worker_user).",
        HOST,
        "getent passwd {user}; getent group {user}",
        ENDED,
    ),
    Cause(
        "directory missing",
        [r"^ExecMainStatus=200$"],
        "its directory {directory} is not on the host, or closed to the user {user}.",
        HOST,
        "namei --long {directory}",
        ENDED,
    ),
    Cause(
        "memory",
        [r"^Result=oom-kill$", r"killed by the OOM killer"],
        "it took more memory than it may, and the kernel killed it. Raise its memory_max (or "
        "celery_worker_memory_max), or give it fewer pool processes (concurrency).",
        HOST,
        "journalctl --no-pager --dmesg --lines=50",
        ENDED,
    ),
    Cause(
        "start timeout",
        [r"^Result=timeout$"],
        "it had not started when the unit's time was up, and systemd killed it. The host is overloaded, or a "
        "drop-in of the unit waits for something.",
        HOST,
        "systemctl show --property=TimeoutStartUSec,ExecStartPre,DropInPaths {unit}",
        ENDED,
    ),
    # The app does not load.
    Cause(
        "syntax error",
        [
            (
                r'File "(?P<path>[^"]+)", line '
                r"(?P<line>\d+)\n(?:.*\n){0,3}?(?:SyntaxError|IndentationError|TabError): (?P<what>.+)"
            )
        ],
        "{path} is no Python that its interpreter understands; line {line}: {what}.",
        HOST,
        "{virtualenv}/bin/python -m py_compile {path}",
        ENDED,
    ),
    Cause(
        "system library",
        [r"(?P<library>lib[\w.+-]+\.so[.\d]*): cannot open shared object file"],
        "a Python package needs the system library {library}, which is not on the host. {debian}",
        HOST,
        "{find_library}",
        ENDED,
    ),
    Cause(
        "environment",
        [
            (
                r"(?:<frozen os>|/(?:os|UserDict)\.py)\W+line \d+, in __getitem__\n(?:.*\n){0,3}?KeyError: "
                r"u?'(?P<variable>\w+)'"
            ),
            r"ImproperlyConfigured: The (?P<variable>[A-Z_]+) setting must not be empty",
            r"ImproperlyConfigured: Set the (?P<variable>\w+) environment variable",
            r"settings are not configured\. You must either define the environment variable (?P<variable>\w+)",
            r"UndefinedValueError: (?P<variable>\w+) not found\. Declare it as envvar",
        ],
        "the app reads {variable} from the environment, and the worker has no such variable. Give it in "
        "app_environment, or in this worker's `environment` (celery_worker_nodes); a secret belongs into a vault.",
        HOST,
        "grep --only-matching '^[A-Za-z_]*=' /etc/celery/{name}.env",
        ENDED,
    ),
    Cause(
        "read-only path",
        [
            # Of a directory that is to be made, and of a file.
            (
                r"(?:mkdir\(.*\n(?:[ ^~]+\n)?|in (?:mkdir|makedirs)\n)\w+: \[Errno 30\] Read-only file system: "
                r"u?'(?P<made>[^']+)'"
            ),
            r"\[Errno 30\] Read-only file system: u?'(?P<path>[^']+)'",
        ],
        "the app writes {path}, and all but /tmp is read-only to a worker. {writable}",
        HOST,
        "ls -ld {parent}",
        ENDED,
    ),
    Cause(
        "permission",
        [r"\[Errno 13\] Permission denied: u?'(?P<path>[^']+)'"],
        "the worker's user {user} may not open or run {path}. {opened}",
        HOST,
        "namei --long {path}",
        ENDED,
    ),
    Cause(
        "pool's package",
        [
            r"No module named '?(?P<module>gevent|eventlet)\b",
            r"[Yy]ou need to install (?:the )?(?P<module>gevent|eventlet)",
        ],
        "the pool {module} needs the Python package {module}. Add it to the app's requirements, or choose a pool that "
        "needs none: prefork, threads or solo.",
        HOST,
        "{virtualenv}/bin/python -m pip show {module}",
        ENDED,
    ),
    Cause(
        "app's module",
        [
            r"Unable to load celery application\.\s+The module (?P<module>[\w.]+) was not found",
            r"(?:Import|ModuleNotFound)Error: No module named '?(?P<module>PACKAGE(?:\.[\w.]+)?)\b",
        ],
        "there is no module {module} in {directory}, where the app's source is. Look whether the source has it "
        "and all of it was copied, and whether the app's name, {app}, is right.",
        HOST,
        "ls {directory}",
        ENDED,
    ),
    Cause(
        "app's name",
        [
            r"Unable to load celery application\.\s+The module (?P<module>[\w.]+):(?P<attribute>\w+) was not found",
            r"AttributeError: '(?P<type>\w+)' object has no attribute 'user_options'",
        ],
        "the app's name, {app}, leads to no Celery app: the module has no such variable, or its value is something "
        "else.",
        HOST,
        "grep --recursive --include='*.py' 'Celery(' {directory}",
        ENDED,
    ),
    Cause(
        "app in a package",
        [r"Unable to load celery application\.\s+Module '(?P<module>[^']+)' has no attribute '\w+'"],
        "the module {module} has no variable `app` or `celery` with a Celery app, and neither has {module}.celery, "
        "which is not there or cannot be imported: Celery does not say which, the next command does. An app of another "
        "name is given as MODULE:VARIABLE.",
        HOST,
        '{as_worker} {virtualenv}/bin/python -c "import {module}.celery"\'',
        ENDED,
    ),
    # The broker.
    Cause(
        "login",
        [r"ACCESS_REFUSED - Login was refused", r"can only log in via localhost"],
        "the broker at {broker} refuses the login of {login}: it has no such user, the password is another one, "
        "or, for guest, logins come from its own host alone.",
        BROKER,
        "rabbitmqctl authenticate_user {login}",
        IN_VAIN,
    ),
    Cause(
        "virtual host",
        [r"NOT_ALLOWED - vhost '?(?P<vhost>[^']+?)'? not found"],
        "the broker at {broker} has no virtual host {vhost}. Make it, or correct the end of the broker's URL; "
        "there %2F stands for /.",
        BROKER,
        "rabbitmqctl list_vhosts",
        IN_VAIN,
    ),
    Cause(
        "virtual host's permissions",
        [r"access to vhost '(?P<vhost>[^']+)' refused for user '(?P<login>[^']+)'"],
        "the broker's user {login} has no permissions in the virtual host {vhost}.",
        BROKER,
        "rabbitmqctl list_permissions --vhost {vhost}",
        IN_VAIN,
    ),
    Cause(
        "queue arguments",
        [
            (
                r"inequivalent arg '(?P<argument>[^']+)' for (?P<kind>queue|exchange) '(?P<queue>[^']+)' in vhost "
                r"'(?P<vhost>[^']+)': (?P<what>.+)"
            )
        ],
        "the app declares the {kind} {queue} otherwise than it is on the broker; {argument}: {what}. Have the "
        "app's settings and the broker say the same; what is declared changes only by deleting it.",
        BROKER,
        "rabbitmqctl list_{kind}s --vhost {vhost} name durable auto_delete arguments",
        ENDED,
    ),
    Cause(
        "declare",
        [
            (
                r"(?:Queue|Exchange)\.(?:declare|bind): \(403\) ACCESS_REFUSED - (?:\w+ )?access to "
                r"(?P<kind>queue|exchange) '(?P<queue>[^']+)' in vhost '(?P<vhost>[^']+)' "
                r"refused for user '(?P<login>[^']+)'"
            )
        ],
        "the broker's user {login} may not declare the {kind} {queue}. Set broker_workers_declare: true in the "
        "inventory, by which the workers may declare the queues of app_tasks and exchanges of these names "
        "(broker_task_queues has further names); on a broker of your own, give the user that permission (configure; "
        "write and read to bind). Or have the app leave the {kind} alone (no_declare=True), and the broker declare it "
        "beforehand.",
        BROKER,
        "rabbitmqctl list_permissions --vhost {vhost}",
        ENDED,
    ),
    Cause(
        "broker's permissions",
        [
            (
                r"ACCESS_REFUSED - (?:\w+ )?access to (?P<kind>queue|exchange) '(?P<queue>[^']+)' in vhost "
                r"'(?P<vhost>[^']+)' refused for user '(?P<login>[^']+)'"
            )
        ],
        "the broker's user {login} may not use the {kind} {queue}. Give it the permission: read to consume a "
        "queue, write to publish to an exchange.",
        BROKER,
        "rabbitmqctl list_permissions --vhost {vhost}",
        ENDED,
    ),
    Cause(
        "certificate",
        [r"CERTIFICATE_VERIFY_FAILED\] certificate verify failed: (?P<what>[^(\n]+?)\.? \(_ssl"],
        "it does not trust the certificate of the broker at {broker}: {what}. Give the authority's file "
        "(celery_worker_broker_ca), or a certificate that names the host of the broker's URL.",
        HOST,
        "openssl s_client -connect {broker} </dev/null",
        IN_VAIN,
    ),
    Cause(
        "broker's name",
        [
            (
                r"Cannot connect to \w+://(?:[^@\s]*@)?(?P<broker>[^/\s]+)/\S*: \[Errno -\d+\] (?:Name or "
                r"service not known|Temporary failure in name resolution|No address associated with hostname)"
            ),
            r"beat: Connection error: \[Errno -\d+\] ",
        ],
        "this host knows no address for the name in the broker's URL, {broker}. Correct it, or have this host's "
        "resolver know it.",
        HOST,
        "getent hosts {broker_host}",
        TRIES,
    ),
    Cause(
        "broker",
        [
            (
                r"Cannot connect to \w+://(?:[^@\s]*@)?(?P<broker>[^/\s]+)/\S*: (?:\[Errno \d+\] "
                r")?(?P<what>Connection refused|Connection reset by peer|No route to host|"
                r"Network is unreachable|Connection timed out|timed out)"
            ),
            r"beat: Connection error: (?:\[Errno \d+\] )?(?P<what>[A-Z]?[a-z ]+)",
        ],
        "the broker at {broker} cannot be reached: {what}. It does not run, listens on another port or address, "
        "or a firewall is between.",
        BROKER,
        "systemctl status rabbitmq-server; ss --listening --tcp --numeric",
        TRIES,
    ),
    Cause(
        "schedule's tables",
        [r"(?:no such table: |relation \"|Table ')(?:[\w-]+\.)?(?P<table>django_celery_beat_\w+)"],
        "beat reads its schedule from the app's database, which has no table {table}. Run the app's migrations: "
        "manage.py migrate.",
        HOST,
        "{as_worker} {virtualenv}/bin/python manage.py migrate'",
        ENDED,
    ),
    # The result store.
    Cause(
        "result store's package",
        [
            r"[Yy]ou need to install the (?P<module>[\w.-]+) library",
            r"No module named '?(?P<module>redis|pymemcache|pylibmc|memcache|sqlalchemy|pymongo)\b",
        ],
        "results go to a store whose Python package, {module}, is not installed. Add it to the app's requirements.",
        HOST,
        "{virtualenv}/bin/python -m pip show {module}",
        ANSWERS,
    ),
    Cause(
        "result store's name",
        [r"/celery/app/backends\.py\W+line \d+, in by_name\n(?:.*\n)*?.*No module named '?(?P<module>\w+)"],
        "Celery has no result backend of the name {module}, with which the URL of the results begins. Correct it, or "
        "add the package that brings it to the app's requirements.",
        HOST,
        "{as_worker} {virtualenv}/bin/celery report'",
        ENDED,
    ),
    Cause(
        "result store",
        [
            r"(?P<what>Error \S+ connecting to \S+?)\.(?: |$)",
            r"Connection to Redis lost",
            r"/(?:pymemcache|memcache|pylibmc)/(?:.*\n)+?.*(?P<what>ConnectionRefusedError|TimeoutError|gaierror)",
            r"(?P<what>OperationalError: .+)",
            r"MemcachedUnavailableError: (?P<what>.+)",
        ],
        "the store that results go to cannot be reached: {what}. It does not run, its address is another one, or "
        "a firewall is between.",
        HOST,
        "{as_worker} {virtualenv}/bin/celery --app={app} report'",
        ANSWERS,
    ),
    # What the worker is given to do.
    Cause(
        "unregistered task",
        [
            r"Received unregistered task of type u?'(?P<task>[^']+)'",
            # As the package taskmill_worker says it.
            r"is rejected: no such task is registered in this worker\. id=\S+ task=u?'(?P<task>[^']+)'",
        ],
        "messages ask for the task {task}, which this worker does not know: the name is another one, or no module "
        "that the worker loads holds it (`imports`, `include` or autodiscover_tasks of the app).",
        HOST,
        "{as_worker} {virtualenv}/bin/celery --app={app} inspect registered'",
        ANSWERS,
    ),
    Cause(
        "serializer",
        [
            r"Refusing to deserialize (?:untrusted|disabled) content of type (?P<type>\w+)",
            r"is rejected: [^(]*\(ContentDisallowed\)\..* content_type=u?'(?P<type>[^']+)'",
        ],
        "messages come serialized as {type}, which the app does not accept. Publish with another "
        "(task_serializer), or, where all who can publish are trusted, add it to accept_content.",
        HOST,
        "{as_worker} {virtualenv}/bin/celery --app={app} report'",
        ANSWERS,
    ),
    # The rest of the process.
    Cause(
        "pool",
        [
            r"Invalid value for '-P' / '--pool'",
            r"/celery/concurrency/__init__\.py\W+line \d+, in get_implementation\n(?:.*\n)*?.*No module named",
        ],
        "there is no pool of that name. Choose one of prefork, threads, gevent and solo.",
        HOST,
        "grep --only-matching -- '--pool=[^ \"]*' /etc/celery/{name}.env",
        ENDED,
    ),
    Cause(
        "pid file",
        [r"Pidfile \((?P<path>[^)]+)\) already exists"],
        "there is a pid file already, {path}: two workers share one, or an ended worker left it. Leave out "
        "--pidfile, for systemd needs none, or give each worker its own.",
        HOST,
        "cat {path}",
        ENDED,
    ),
    Cause(
        "port",
        [r"\[Errno 98\] (?P<what>.*[Aa]ddress already in use.*)"],
        "the app listens on a port that another process has: two workers on this host want the same one. Give "
        "each its own in its `environment`, or have the app listen in one of them alone.",
        HOST,
        "ss --listening --tcp --numeric --processes",
        ENDED,
    ),
    # Last, since a cause above may be told in the same words.
    Cause(
        "dependency",
        [r"(?:Import|ModuleNotFound)Error: No module named '?(?P<module>\w+(?:\.\w+)*)"],
        "the app imports {module}, and no installed package has it. Add the package to the app's requirements; if "
        "it is the app's own, not all of its source was copied to {directory}.",
        HOST,
        "{virtualenv}/bin/python -m pip list",
        ENDED,
    ),
]


def is_below(path, directory):
    """Tell whether a path is the directory, or is below it."""
    return (path + "/").startswith(directory.rstrip("/") + "/")


def how_to_write(path, directory, known):
    """Return how a worker comes to write to a path, for which this directory would have to be writable."""
    own = (
        "Have the app write to a directory of its own, such as /var/lib/{slug} or /var/log/{slug}, and add that to "
        "{writable_paths}, which has it made; or, if it is a log, to stderr, which the journal keeps."
    ).format(**known)
    for place in (known["directory"], known["virtualenv"]):
        if is_below(path, place):
            return "Nothing below {} can be made writable, since a deployment replaces it. {}".format(place, own)
    if directory in SHARED or is_below(known["directory"], directory):
        return own
    return "Add {} to {}.".format(directory, known["writable_paths"])


def how_to_open(path, known):
    """Return how a worker comes to open or run a path."""
    if any(is_below(path, place) for place in ("/home", "/root")):
        return (
            "/home and /root are closed to workers. Have the app use another path; where it is the user's home, as for "
            "a library's cache, set HOME to /var/lib/{slug} in app_environment, and add /var/lib/{slug} to "
            "{writable_paths}, which has it made."
        ).format(**known)
    return (
        "Change its owner or mode, or have the app use another path; to a worker the app's source is read-only, and "
        "/home and /root are closed."
    )


def about(caught, facts):
    """Return what fills in a cause's texts: `facts` about the worker, what a sign `caught`, what follows from it."""
    known = dict(facts)
    known.update((key, value.strip()) for key, value in caught.items() if value)
    known.setdefault("what", "it does not say why")
    # No code of the app's runs as root.
    known["as_worker"] = "runuser -u {user} -- sh -c 'set -a; . /etc/celery/{name}.env; cd {directory};".format(**facts)
    known["slug"] = re.sub(r"\W.*", "", facts["app"])
    known["writable_paths"] = "celery_{}_writable_paths".format("beat" if facts["name"] == "celery-beat" else "worker")
    if "made" in known or "path" in known:
        path = os.path.normpath(os.path.join(facts["directory"], known.get("made") or known["path"]))
        parent = os.path.dirname(path)
        writable = how_to_write(path, path if "made" in known else parent, known)
        known.update(path=path, parent=parent, writable=writable, opened=how_to_open(path, known))
    known["broker_host"] = re.sub(r":\d+$", "", known.get("broker", ""))
    library = known.get("library")
    package = DEBIAN_PACKAGES.get(library)
    known["debian"] = "Debian has it in the package {}: add that to app_system_packages.".format(package)
    known["find_library"] = "apt-get install {}".format(package)
    if not package:
        known["debian"] = "Add the Debian package that has it to app_system_packages."
        known["find_library"] = "apt-file search {}".format(library)
    return known


def for_shell(known):
    """Return what fills in a command: each value is one word of a shell, but for the beginnings of commands."""
    return {key: value if key in ("as_worker", "find_library") else quote(value) for key, value in known.items()}


def find_cause(text, facts):
    """Return the cause of which `text` has a sign, and the last match of it; a pair of None if there is none."""
    package = re.escape(re.split(r"[.:]", facts["app"])[0])
    for cause in CAUSES:
        for sign in cause.signs:
            found = list(re.finditer(sign.replace("PACKAGE", package), text, re.MULTILINE))
            if found:
                return cause, found[-1]
    return None, None


def said(text, match):
    """Return the line of `text` that tells what happened: the last of `match`, or else the last that Celery wrote."""
    if match:
        start = text.rfind("\n", 0, match.end() - 1) + 1
        return text[start:].split("\n", 1)[0].strip()
    lines = [line.strip() for line in text.splitlines() if line.strip() and not OF_SYSTEMD.match(line)]
    return lines[-1] if lines else ""


def explain_cause(lines, properties, facts):
    """Return in words why a worker does not come up, as a dictionary of text.

    `lines` are those of its log, `properties` those that systemd shows of its unit, by name. `facts` are text about the
    worker: name, unit, host, app, directory, virtualenv, user, and of its broker's URL login and broker (HOST:PORT).

    cause    name of the cause; empty if none is known, as are why and next
    state    ENDED, TRIES, IN_VAIN or ANSWERS
    why      what is wrong, and what mends it
    said     the line by which Celery or systemd tells it
    next     the command to type next, and where
    """
    evidence = ["{}={}".format(key, properties[key]) for key in ("Result", "ExecMainStatus") if key in properties]
    text = "\n".join(evidence + list(lines))
    cause, match = find_cause(text, facts)
    if cause is None:
        return {"cause": "", "state": ENDED, "why": "", "said": said("\n".join(lines), None), "next": ""}
    known = about(match.groupdict(), facts)
    return {
        "cause": cause.name,
        "state": cause.state,
        "why": cause.why.format(**known),
        "said": said(text, match),
        "next": "{}: {}".format(cause.place.format(**known), cause.command.format(**for_shell(known))),
    }

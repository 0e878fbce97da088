"""Compare the workers that run with what is installed, and wait for them.

Usage: python - outdated NAME...
       python - await NAME... --app APP --directory DIR --virtualenv DIR --user USER --seconds S

`outdated` prints a JSON list of the workers that do not run, or whose process was started with
another digest than the one in the environment file. `await` returns once each worker is up to
date and answers a ping, and prints what its log complains of. It exits with 1 and an explanation when
one is late, and at once when one has ended or tries in vain. worker_causes.py and worker_secrets.py stand
before it on stdin.

The name `celery-beat` stands for beat, which answers no ping: it is up once its unit has started.
"""

import argparse
import json
import os
import pwd
import re
import socket
import subprocess
import sys
import time

try:
    from urllib import unquote
except ImportError:
    from urllib.parse import unquote

#: Of the files that stand before this one.
explain_cause, mask, read_environment, secrets = explain_cause, mask, read_environment, secrets  # noqa: F821, PLW0127

#: What the role celery_beat calls beat; no worker may have this name.
BEAT = "celery-beat"
#: Lines of a log that a message shows, and characters of one.
SHOWN, LONGEST = 20, 400
#: Seconds for the other workers once one has ended.
GRACE = 10
#: Seconds of the past in which a complaint in the log is news.
RECENT = 300

#: Prints what the nodes answer, by name, in a line of its own, as the app may print too. `celery inspect` has no JSON
#: before Celery 4.
PING = """
import json, os, sys
from celery.app.utils import find_app
app = find_app(sys.argv[1])
app.set_current()
if os.environ["CELERY_BROKER_URL"].startswith("amqps:"):
    import broker_tls
inspect = app.control.inspect(destination=sys.argv[2:], timeout=5)
print("\\nPONG " + json.dumps(inspect.ping() or {}))
"""


def become(user):
    """Become another user for good."""
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def unit(name):
    """Return the unit of the worker `name`, or of beat."""
    return ("{}.service" if name == BEAT else "celery-worker@{}.service").format(name)


def show(name):
    """Return what systemd says about the worker, by property."""
    properties = "ActiveState,SubState,MainPID,Job,Result,ExecMainStatus,InvocationID"
    command = ["systemctl", "show", "--property=" + properties, unit(name)]
    lines = subprocess.check_output(command).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def process_environment(pid):
    """Return the environment that the process `pid` was started with; empty if there is none."""
    try:
        with open("/proc/{}/environ".format(pid), "rb") as stream:
            entries = stream.read().decode("utf-8", "replace").split("\0")
    except (IOError, OSError):
        return {}
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def installed_environment(name):
    """Return the variables in the worker's environment file; empty if there is none."""
    return read_environment("/etc/celery/{}.env".format(name))


def is_outdated(name, state):
    """Tell whether the worker does not run, or runs on something else than what is installed."""
    if state["ActiveState"] != "active":
        return True
    digest = process_environment(state["MainPID"]).get("CELERY_WORKER_DIGEST")
    return not digest or digest != installed_environment(name).get("CELERY_WORKER_DIGEST")


def has_ended(state):
    """Tell whether the worker's process has ended, and nothing but the unit's Restart= would start another."""
    ended = state["ActiveState"] == "failed" or state["SubState"] == "auto-restart"
    return ended and state.get("Job", "") in ("", "0")


def run_as_worker(code, arguments, virtualenv, environment, options):
    """Return what a piece of Python prints and complains of, as text, when a worker's user runs it in its place."""
    # An app that hangs when it is imported must not hang the play.
    command = ["timeout", "--kill-after=5", str(options.seconds + 10)]
    command += [os.path.join(virtualenv, "bin/python"), "-c", code] + arguments  # noqa: RUF005  runs on Python 2.7 too
    # Python 2.7 would take nothing but ASCII for text.
    variables = {key.encode("utf-8"): value.encode("utf-8") for key, value in environment.items()}
    done = subprocess.Popen(
        command,
        cwd=options.directory,
        env=variables,
        preexec_fn=lambda: become(options.user),  # noqa: PLW1509  there is one thread
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return [stream.decode("utf-8", "replace") for stream in done.communicate()]


def ping(names, environment, options):
    """Ask the workers, as one of them would; return those that answer, and the error if any."""
    nodes = {"{}@{}".format(name, socket.gethostname()): name for name in names}
    out, error = run_as_worker(PING, [options.app] + sorted(nodes), options.virtualenv, environment, options)  # noqa: RUF005
    pongs = [line[len("PONG ") :] for line in out.splitlines() if line.startswith("PONG ")]
    answers = json.loads(pongs[-1]) if pongs else {}
    return {nodes[node] for node in answers if node in nodes}, error.strip().splitlines()[-1:]


def output_of(command):
    """Return what a command prints, as text, whether or not it fails."""
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.communicate()[0].decode("utf-8", "replace")


def plain(line):
    """Return a line without colours, tabs and what YAML cannot show but in escapes."""
    line = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", line).expandtabs(4).rstrip()
    return re.sub("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]", "?", line)


def facts(name, environment, options):
    """Return what explain_cause() wants to know of the worker and of its broker."""
    address = re.match(r"\w+://(?:([^:/@]*)(?::[^@/]*)?@)?([^/?;]*)", environment.get("CELERY_BROKER_URL", ""))
    login, broker = address.groups() if address else (None, None)
    return {
        "name": name,
        "unit": unit(name),
        "host": socket.gethostname(),
        "app": options.app,
        "directory": options.directory,
        "virtualenv": environment.get("CELERY_WORKER_VIRTUALENV", options.virtualenv),
        "user": options.user,
        "login": unquote(login or "guest"),
        "broker": broker or "its URL",
    }


def journal(name, state, since=None):
    """Return the last lines of the log of the worker's last process; those since then alone, in Unix seconds."""
    # What a process wrote at its end may still be on its way.
    output_of(["journalctl", "--sync"])
    command = ["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=200"]
    if since:
        command += ["--since=@{:.0f}".format(since)]
    invocation = state.get("InvocationID")
    if invocation:
        # What the process wrote, and what systemd says of it.
        command += ["_SYSTEMD_INVOCATION_ID=" + invocation, "+", "INVOCATION_ID=" + invocation]
    else:
        command += ["--unit=" + unit(name)]
    return [plain(line) for line in output_of(command).splitlines()]


def look(name, state, lines, options):
    """Return why the worker has trouble, as explain_cause() says it; `lines` are of its log."""
    return explain_cause(lines, state, facts(name, installed_environment(name), options))


def hidden_error(name, options):
    """Return the lines of the error in the submodule `celery` of the app's package, of which Celery says nothing."""
    environment = installed_environment(name)
    virtualenv = environment.get("CELERY_WORKER_VIRTUALENV", options.virtualenv)
    code = "import {}.celery".format(options.app)
    error = run_as_worker(code, [], virtualenv, dict(environment, PATH=os.environ["PATH"]), options)[1]
    lines = [plain(line) for line in error.splitlines()]
    # There need not be one.
    return [] if not lines or "{}.celery'".format(options.app) in lines[-1] else lines


def message(name, state, error, options):
    """Return what is wrong with a worker that does not answer, what it said, and what to type next."""
    lines, hide = journal(name, state), secrets(installed_environment(name))
    cause = look(name, state, lines, options)
    hidden = hidden_error(name, options) if cause["cause"] == "app in a package" else []
    if hidden:
        lines, cause = hidden, look(name, {}, hidden, options)
    seen = "systemd says {ActiveState} ({SubState})".format(**state)
    if has_ended(state):
        said = ["it has ended. {}, {Result}, status {ExecMainStatus}.".format(seen, **state)]
    else:
        said = ["{}. {}.".format("it tries in vain" if cause["state"] == "in vain" else "it is late", seen)]
    said[0] = ("Beat does not start: " if name == BEAT else "The worker {} does not answer: ").format(name) + said[0]
    said += ["Why: " + cause["why"]] if cause["why"] else []
    said += ["The last lines of its log:"] if lines else ["Its log is empty."]
    # Of a password that was cut nothing would tell that it is one.
    said += ["    " + mask(line, hide)[:LONGEST] for line in lines[-SHOWN:]]
    said += ["The last ping said: " + plain(error[0])] if error and not has_ended(state) else []
    said += [saying(cause, hide), "Next, on " + cause["next"]] if cause["why"] else [saying(cause, hide)]
    said += ["The whole log, on {}: journalctl --unit={}".format(socket.gethostname(), unit(name))]
    return mask("\n".join(line for line in said if line), hide)


def saying(cause, hide):
    """Return who tells the cause, and in which words but for what is to `hide`; empty if nobody says anything."""
    who = "systemd" if re.match(r"(Result|ExecMainStatus)=", cause["said"]) else "Celery"
    return "{} says: {}".format(who, mask(cause["said"], hide)[:LONGEST]) if cause["said"] else ""


def complaint(name, state, since, options):
    """Return what the log of a worker that answers complains of since then (Unix seconds); empty if of nothing."""
    cause = look(name, {}, journal(name, state, since), options)
    if cause["state"] != "answers":
        return ""
    hide = secrets(installed_environment(name))
    said = [
        "The worker {} answers, but: {}".format(name, cause["why"]),
        saying(cause, hide),
        "Next, on " + cause["next"],
    ]
    return mask("\n".join(said), hide)


def in_vain(names, states, since, options):
    """Return those of the workers whose log says since then that waiting for them is in vain."""
    looks = [(name, look(name, {}, journal(name, states[name], since), options)) for name in names]
    return [name for name, cause in looks if cause["state"] == "in vain"]


def wait(options):
    """Return what to say about the workers that do not come up in time; empty if all answer."""
    began = time.time()
    deadline = began + options.seconds
    waiting, error, said = list(options.names), [], {}
    while True:
        states = {name: show(name) for name in waiting}
        if not said and any(state["ActiveState"] == "deactivating" for state in states.values()):
            # It ends its tasks first; how long it may take is bounded by the unit.
            deadline = time.time() + options.seconds
        failed = [name for name in waiting if has_ended(states[name])]
        current = [name for name in waiting if name not in failed and not is_outdated(name, states[name])]
        if BEAT in current:
            waiting.remove(BEAT)
        elif current:
            environment = process_environment(states[current[0]]["MainPID"])
            answering, error = ping(current, environment, options)
            waiting = [name for name in waiting if name not in answering]
        # Beat connects while its unit starts.
        trying = [name for name in waiting if name in current or (name == BEAT and name not in failed)]
        failed += in_vain(trying, states, began, options)
        if failed and not said:
            # The others may have the same fault, and are told with it.
            deadline = min(deadline, time.time() + GRACE)
        said.update((name, message(name, states[name], error, options)) for name in failed)
        waiting = [name for name in waiting if name not in said]
        if not waiting or time.time() > deadline:
            late = [] if said else waiting
            said.update((name, message(name, states[name], error, options)) for name in late)
            return [said[name] for name in options.names if name in said]
        time.sleep(0.3)


def tell(stream, texts):
    """Write texts, an empty line between them, whatever the locale."""
    getattr(stream, "buffer", stream).write("\n\n".join(texts).encode("utf-8"))


def main():
    """Do what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=["outdated", "await"])
    for option in ("--app", "--directory", "--virtualenv", "--user"):
        parser.add_argument(option)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if options.action == "outdated":
        print(json.dumps([name for name in options.names if is_outdated(name, show(name))]))
        return
    faults = wait(options)
    tell(sys.stderr, faults)
    if faults:
        sys.exit(1)
    since = time.time() - RECENT
    complaints = [complaint(name, show(name), since, options) for name in options.names]
    tell(sys.stdout, [said for said in complaints if said])


if __name__ == "__main__":
    main()

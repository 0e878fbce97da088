"""Compare the workers that run with what is installed, and wait for them.

Usage: python - outdated NAME...
       python - await NAME... --app APP --directory DIR --virtualenv DIR --user USER --seconds S

`outdated` prints a JSON list of the workers that do not run, or whose process was started with
another digest than the one in the environment file. `await` returns once each worker is up to
date and answers a ping, and exits with 1 and an explanation when one has failed or is late.
"""

import argparse
import json
import os
import pwd
import socket
import subprocess
import sys
import time

#: Prints what the nodes answer, by name. `celery inspect` has no JSON before Celery 4.
PING = """
import json, os, sys
from celery.app.utils import find_app
app = find_app(sys.argv[1])
app.set_current()
if os.environ["CELERY_BROKER_URL"].startswith("amqps:"):
    import broker_tls
inspect = app.control.inspect(destination=sys.argv[2:], timeout=5)
print(json.dumps(inspect.ping() or {}))
"""


def become(user):
    """Become another user for good."""
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def unit(name):
    """Return the unit of the worker `name`."""
    return "celery-worker@{}.service".format(name)


def show(name):
    """Return what systemd says about the worker, by property."""
    command = ["systemctl", "show", "--property=ActiveState,SubState,MainPID,Job", unit(name)]
    lines = subprocess.check_output(command).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def process_environment(pid):
    """Return the environment that the process `pid` was started with; empty if there is none."""
    try:
        with open("/proc/{}/environ".format(pid), "rb") as stream:
            entries = stream.read().decode().split("\0")
    except (IOError, OSError):
        return {}
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def installed_digest(name):
    """Return the digest in the worker's environment file, or an empty string."""
    try:
        with open("/etc/celery/{}.env".format(name)) as stream:
            lines = stream.read().splitlines()
    except (IOError, OSError):
        return ""
    key = "CELERY_WORKER_DIGEST="
    return next((line[len(key) :] for line in lines if line.startswith(key)), "")


def is_outdated(name, state):
    """Tell whether the worker does not run, or runs on something else than what is installed."""
    if state["ActiveState"] != "active":
        return True
    digest = process_environment(state["MainPID"]).get("CELERY_WORKER_DIGEST")
    return not digest or digest != installed_digest(name)


def ping(names, environment, options):
    """Ask the workers, as one of them would; return those that answer, and the error if any."""
    nodes = {"{}@{}".format(name, socket.gethostname()): name for name in names}
    command = [os.path.join(options.virtualenv, "bin/python"), "-c", PING, options.app]
    command += sorted(nodes)
    done = subprocess.Popen(
        command,
        cwd=options.directory,
        env=environment,
        preexec_fn=lambda: become(options.user),  # noqa: PLW1509  there is one thread
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, error = (stream.decode() for stream in done.communicate())
    try:
        answers = json.loads(out)
    except ValueError:
        answers = {}
    return {nodes[node] for node in answers if node in nodes}, error.strip().splitlines()[-1:]


def explain(name, state, error):
    """Return why the worker `name` is not ready, and where to look."""
    return "The worker {} does not answer. systemd says {} ({}).{}\nLook at: journalctl -u celery-worker@{}".format(
        name, state["ActiveState"], state["SubState"], " The last try said: " + error[0] if error else "", name
    )


def wait(options):
    """Return what to say about the workers that are not ready in time; empty if all are."""
    deadline = time.time() + options.seconds
    waiting, error = list(options.names), []
    while True:
        states = {name: show(name) for name in waiting}
        if any(state["ActiveState"] == "deactivating" for state in states.values()):
            # It ends its tasks first; how long it may take is bounded by the unit.
            deadline = time.time() + options.seconds
        current = [name for name in waiting if not is_outdated(name, states[name])]
        if current:
            environment = process_environment(states[current[0]]["MainPID"])
            answering, error = ping(current, environment, options)
            waiting = [name for name in waiting if name not in answering]
        failed = [name for name in waiting if states[name]["ActiveState"] == "failed"]
        if not waiting or failed or time.time() > deadline:
            return [explain(name, states[name], error) for name in failed or waiting]
        time.sleep(0.3)


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
    if faults:
        sys.exit("\n".join(faults))


main()

"""Bring this host's workers to what a turn needs, or back to what they are without.

What they load and their variables change by a piece of their units under /run, which goes with the host's next boot
and which the role does not know. `begin` starts those anew whose settings are other ones, waits until all take tasks,
and empties their notes of executions.

Usage: `workers.py begin DIRECTORY JSON`, with `modules` (of this directory), `without` (features of the
package taskmill_worker) and `environment` in the JSON; `workers.py end`.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROLE = Path("/etc/celery")
VARIABLES = Path("/run/celery-worker-turn")
PIECE = Path("/run/systemd/system/celery-worker@.service.d/turn.conf")
#: In every turn.
ALWAYS = ["executions", "ready"]
#: Seconds that workers may take until they take tasks; a warm stop of the ones before is part of it.
PATIENCE = 120
INCLUDE = "--include="
#: The line in a worker's environment file by which it is the role's.
MARK = "# Environment of the worker {}."


def systemctl(*words):
    """Run it and return what it says."""
    return subprocess.run(["systemctl", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def unit(name):
    """Return the unit of a worker."""
    return f"celery-worker@{name}.service"


def installed():
    """Return, sorted, the names of the workers that the role has installed; other files are no workers."""
    paths = sorted(ROLE.glob("*.env"))
    return [path.stem for path in paths if MARK.format(path.stem) in path.read_text().splitlines()]


def variables_of(path):
    """Return the variables of an environment file that the role wrote."""
    lines = shlex.split(path.read_text(), comments=True)
    return dict(line.partition("=")[::2] for line in lines)


def changed(before, directory, wanted):
    """Return the variables that are to stand in the place of those before."""
    options = before["CELERY_WORKER_OPTIONS"].split()
    loaded = [name for word in options if word.startswith(INCLUDE) for name in word[len(INCLUDE) :].split(",")]
    # After taskmill_worker, whose signals then come first.
    modules = loaded + ALWAYS + wanted["modules"]
    options = [INCLUDE + ",".join(modules)] + [word for word in options if not word.startswith(INCLUDE)]
    return {
        "CELERY_WORKER_OPTIONS": " ".join(options),
        "PYTHONPATH": ":".join(filter(None, (before.get("PYTHONPATH"), str(directory)))),
        "CELERY_WORKER_EXECUTIONS": str(directory / "executions"),
        "CELERY_WORKER_READY": str(directory / "ready"),
        "CELERY_WORKER_IN_TASK": str(directory / "in-task"),
        "TASKMILL_WORKER_WITHOUT": ",".join(filter(None, [before.get("TASKMILL_WORKER_WITHOUT"), *wanted["without"]])),
        **wanted["environment"],
    }


def write(path, text):
    """Write a file where it is not so already; say whether it was."""
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True


def begin(directory, wanted):
    """Start the workers anew that are not as wanted; return when all take tasks, their notes empty."""
    names = installed()
    piece = f"[Service]\nReadWritePaths={directory}\nEnvironmentFile={VARIABLES}/%i.env\n"
    all_new = write(PIECE, piece)
    outdated = []
    for name in names:
        variables = changed(variables_of(ROLE / (name + ".env")), directory, wanted)
        quoted = {key: re.sub(r'([\\"`$])', r"\\\1", str(value)) for key, value in variables.items()}
        text = "".join('{}="{}"\n'.format(*item) for item in sorted(quoted.items()))
        if write(VARIABLES / (name + ".env"), text) or all_new:
            outdated.append(unit(name))
    if outdated:
        systemctl("daemon-reload")
        systemctl("reset-failed", *outdated)
        systemctl("restart", *outdated)
    await_ready(directory / "ready", names)
    # Not removed: pool processes have them open.
    for path in (directory / "executions").iterdir():
        path.open("w").close()
    # Of processes that were killed in a task.
    for path in (directory / "in-task").iterdir():
        path.unlink()


def await_ready(directory, names):
    """Wait until every worker has noted that it takes tasks; end with their names when that takes too long."""
    end = time.monotonic() + PATIENCE
    while True:
        mains = dict(zip(names, systemctl("show", "--property=MainPID", "--value", *map(unit, names)).split()))
        away = [name for name, main in mains.items() if not is_ready(directory / name, main)]
        if not away:
            return
        if time.monotonic() > end:
            sys.exit("within {} s these workers did not take tasks: {}".format(PATIENCE, ", ".join(away)))
        time.sleep(0.2)


def is_ready(path, main):
    """Say whether it is the main process of now that noted it."""
    return path.exists() and path.read_text() == main


def end():
    """Start the workers anew without the piece, where there is one."""
    if not PIECE.exists():
        return
    PIECE.unlink()
    shutil.rmtree(str(VARIABLES))
    systemctl("daemon-reload")
    systemctl("restart", *map(unit, installed()))


if sys.argv[1] == "begin":
    begin(Path(sys.argv[2]), json.loads(sys.argv[3]))
else:
    end()

"""Tell which workers are installed on this host, and what code they would run.

Usage: python - DIRECTORY VIRTUALENV... Prints one JSON object:

workers  names of the workers whose environment file the role has written
enabled  names of the workers that start at boot
limited  names of the workers whose limits the role has written
unit     whether the unit they are instances of is there
digests  by VIRTUALENV, SHA-256 over the source below DIRECTORY and over its packages
packages by VIRTUALENV, the names of its packages, in lower case
"""

import glob
import hashlib
import json
import os
import re
import sys

#: What stands in an environment file that the role has written, as a line each: of which worker it is, and the digest.
MARK = "# Environment of the worker {}."
DIGEST = "CELERY_WORKER_DIGEST="
#: What the role writes to a worker's limits, without comments and empty lines.
LIMITS = re.compile(r"^\[Service\]\nMemory(Max|Limit)=\S+$")


def find_packages(virtualenv):
    """Return, sorted, the paths of what pip has noted of the packages of a virtual environment."""
    return sorted(glob.glob(os.path.join(virtualenv, "lib/py*/site-packages/*-info")))


def digest_code(directory, virtualenv):
    """Return a hexadecimal digest that changes whenever source or packages do."""
    digest = hashlib.sha256()
    for parent, folders, names in os.walk(directory):
        folders[:] = sorted(folder for folder in folders if folder != "__pycache__")
        for name in sorted(names):
            if not name.endswith((".pyc", ".pyo")):
                path = os.path.join(parent, name)
                with open(path, "rb") as stream:
                    content = hashlib.sha256(stream.read()).hexdigest()
                digest.update("{} {}\n".format(os.path.relpath(path, directory), content).encode())
    for path in [os.path.realpath(virtualenv)] + find_packages(virtualenv):  # noqa: RUF005  runs on Python 2.7 too
        digest.update("{}\n".format(path).encode())
    return digest.hexdigest()


def names(pattern):
    """Return, sorted, what the star of `pattern` stands for in the paths that there are."""
    start, end = pattern.split("*")
    return sorted(path[len(start) : -len(end)] for path in glob.glob(pattern))


def lines_of(path):
    """Return the lines of a file, as text; none of what is no file, such as a link to nowhere."""
    if not os.path.isfile(path):
        return []
    with open(path, "rb") as stream:
        return stream.read().decode("utf-8", "replace").splitlines()


def is_environment(name, lines, enabled):
    """Tell whether the role has written these lines, for the worker of that name; `enabled` start at boot."""
    marks = [line for line in lines if line.startswith(MARK[: MARK.index("{")])]
    digests = [line for line in lines if line.startswith(DIGEST)]
    # Earlier versions left no mark, and what they installed starts at boot.
    return bool(digests) and (marks == [MARK.format(name)] or (not marks and name in enabled))


def is_limits(lines):
    """Tell whether the role has written these lines to a worker's limits."""
    own = [line for line in lines if line and not line.startswith("#")]
    return bool(LIMITS.match("\n".join(own))) and lines[0].startswith("#")


def workers(directory, enabled):
    """Return, sorted, the names of the workers whose environment file in `directory` the role has written."""
    pattern = os.path.join(directory, "*.env")
    return [name for name in names(pattern) if is_environment(name, lines_of(pattern.replace("*", name)), enabled)]


def limited(directory):
    """Return, sorted, the names of the workers whose limits among the units in `directory` the role has written."""
    pattern = os.path.join(directory, "celery-worker@*.service.d", "limits.conf")
    return [name for name in names(pattern) if name and is_limits(lines_of(pattern.replace("*", name)))]


def main():
    """Print what is installed."""
    units = "/etc/systemd/system"
    enabled = names(os.path.join(units, "multi-user.target.wants", "celery-worker@*.service"))
    found = {
        "workers": workers("/etc/celery", enabled),
        "enabled": enabled,
        "limited": limited(units),
        "unit": os.path.exists(os.path.join(units, "celery-worker@.service")),
        "digests": {virtualenv: digest_code(sys.argv[1], virtualenv) for virtualenv in sys.argv[2:]},
        "packages": {
            virtualenv: [os.path.basename(path).split("-")[0].lower() for path in find_packages(virtualenv)]
            for virtualenv in sys.argv[2:]
        },
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

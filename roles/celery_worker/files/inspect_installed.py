"""Tell which workers are installed on this host, and what code they would run.

Usage: python - DIRECTORY VIRTUALENV... Prints one JSON object:

workers  names of the workers that have an environment file
enabled  names of the workers that start at boot
limited  names of the workers that have limits of their own
unit     whether the unit they are instances of is there
digests  by VIRTUALENV, SHA-256 over the source below DIRECTORY and over its packages
"""

import glob
import hashlib
import json
import os
import sys


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
    packages = glob.glob(os.path.join(virtualenv, "lib/py*/site-packages/*-info"))
    for path in [os.path.realpath(virtualenv)] + sorted(packages):  # noqa: RUF005  runs on Python 2.7 too
        digest.update("{}\n".format(path).encode())
    return digest.hexdigest()


def names(pattern):
    """Return, sorted, what the star of `pattern` stands for in the paths that there are."""
    start, end = pattern.split("*")
    return sorted(path[len(start) : -len(end)] for path in glob.glob(pattern))


def main():
    """Print what is installed."""
    unit = "/etc/systemd/system/celery-worker@{}.service"
    wants = "/etc/systemd/system/multi-user.target.wants/celery-worker@*.service"
    found = {
        "workers": names("/etc/celery/*.env"),
        "enabled": names(wants),
        "limited": names(unit.format("*") + ".d"),
        "unit": os.path.exists(unit.format("")),
        "digests": {virtualenv: digest_code(sys.argv[1], virtualenv) for virtualenv in sys.argv[2:]},
    }
    print(json.dumps(found))


main()

"""Tell which workers are installed on this host, and what code they would run.

Usage: python - DIRECTORY VIRTUALENV. Prints one JSON object:

workers  names of the workers that have an environment file
unit     whether the unit they are instances of is there
digest   SHA-256 over the source below DIRECTORY and over the packages of VIRTUALENV
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
    packages = glob.glob(os.path.join(virtualenv, "lib/python*/site-packages/*-info"))
    for path in [os.path.realpath(virtualenv), *sorted(packages)]:
        digest.update("{}\n".format(path).encode())
    return digest.hexdigest()


def main():
    """Print what is installed."""
    files = glob.glob("/etc/celery/*.env")
    workers = sorted(os.path.basename(path)[: -len(".env")] for path in files)
    unit = os.path.exists("/etc/systemd/system/celery-worker@.service")
    digest = digest_code(sys.argv[1], sys.argv[2])
    print(json.dumps({"workers": workers, "unit": unit, "digest": digest}))


main()

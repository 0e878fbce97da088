"""A function that tells how it is run, for the tests of what times the app's function."""

import os
import pwd
import tempfile
from pathlib import Path


def status(name):
    """Return what the kernel says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)[name]


def writable(path):
    """Tell whether a file may be made in a directory."""
    try:
        tempfile.TemporaryFile(dir=path).close()
    except OSError:
        return False
    return True


def tell(argument):
    """Return it, with user, directory, environment and confinement of this process."""
    return {
        "argument": argument,
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "directory": str(Path.cwd()),
        "broker": os.environ.get("CELERY_BROKER_URL", ""),
        "capabilities": status("CapBnd").strip(),
        "no_new_privileges": status("NoNewPrivs").strip(),
        "writable": [path for path in ("/etc", "/opt/fibonacci/src", "/var/lib") if writable(path)],
    }

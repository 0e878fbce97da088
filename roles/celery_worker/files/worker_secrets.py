"""What no message may show of a worker's environment, and a text without it.

Plain functions, which run on Python 2.7 too. On a host another program stands behind this file, on the same stdin.
"""

import re
import sys

try:
    from urllib import unquote
except ImportError:
    from urllib.parse import unquote

#: A variable with such a name holds a secret; what has fewer characters than this could be a piece of any word.
SECRET, SHORTEST = re.compile("PASS|PWD|SECRET|TOKEN|CREDENTIAL|DSN|AUTH|SALT|KEYS?$", re.IGNORECASE), 4


def read_environment(path):
    """Return the variables in an environment file of systemd's; empty if there is none."""
    try:
        with open(path, "rb") as stream:
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except (IOError, OSError):
        return {}
    entries = [re.match('([A-Za-z_][A-Za-z0-9_]*)=("?)(.*)\\2$', line) for line in lines]
    return {entry.group(1): re.sub(r"\\(.)", r"\1", entry.group(3)) for entry in entries if entry}


def secrets(environment):
    """Return what no message may show of a worker's variables: passwords in URLs, and what is a secret by its name."""
    found = set()
    for name, value in environment.items():
        # Of one address or of several; the longer one is of a password with a slash or an @ that is not escaped.
        found.update(re.findall(r"://[^:/@\s]*:([^@/\s]+)@", value))
        found.update(re.findall(r"://[^:/@\s]*:(\S+)@", value))
        # A token in the place of the user.
        found.update(re.findall(r"https?://([^:/@\s]+)@", value))
        if SECRET.search(name):
            found.add(value)
    # As the app reads them, too.
    found.update([unquote(value) for value in found])
    return [value for value in found if len(value) >= SHORTEST]


def mask(text, hidden):
    """Return a text without the passwords of its URLs, and without what is `hidden`."""
    for value in sorted(hidden, key=len, reverse=True):
        text = re.sub(r"(?<!\w)" + re.escape(value) + r"(?!\w)", "***", text)
    return re.sub(r"(://[^:/@\s]*:)[^@/\s]+@", r"\1***@", text)


def hand_on(path):
    """Write what comes in without what the environment file `path` keeps secret."""
    text = getattr(sys.stdin, "buffer", sys.stdin).read().decode("utf-8", "replace")
    masked = mask(text, secrets(read_environment(path)))
    getattr(sys.stdout, "buffer", sys.stdout).write(masked.encode("utf-8"))

"""Tell whether a virtual environment is the wanted one, and whole.

Usage: python - PATH DIGEST, run by the interpreter that the environment is made with, 2.7 or 3.
PATH is a link into the folder PATH.d; DIGEST stands for what the environment is made from. Prints
one JSON object:

wanted     the directory that PATH has to point at
problem    why the environment has to be built; empty if it is right
leftovers  directories of PATH.d that are neither in use nor the last one that was
"""

import csv
import glob
import io
import json
import os
import platform
import subprocess
import sys
import sysconfig


def find_damage(environment):
    """Return what is broken in `environment`, or an empty string."""
    try:
        subprocess.check_output([os.path.join(environment, "bin/python"), "-c", ""], stderr=subprocess.STDOUT)
    except (OSError, subprocess.CalledProcessError):
        return "its interpreter does not start"
    packages = sysconfig.get_path("purelib", "posix_prefix", {"base": environment})
    records = sorted(glob.glob(os.path.join(packages, "*.dist-info/RECORD")))
    if not records:
        return "it holds no package"
    # Not importlib.metadata: since Python 3.12 it leaves out the files that are missing.
    for record in records:
        with io.open(record, encoding="utf-8") as stream:
            names = [row[0] for row in csv.reader(stream)]
        for name in names:
            if not name.endswith(".pyc") and not os.path.exists(os.path.join(packages, name)):
                return "the file {} is missing".format(name)
    return ""


def main():
    """Print the state of the environment that the arguments name."""
    path, digest = sys.argv[1:3]
    folder = path + ".d"
    in_use = os.readlink(path) if os.path.islink(path) else None
    # Two names for the same content: a damaged environment is mended in the other one, never in
    # place, so that an interrupted mending is not taken for a finished one.
    interpreter = "{}-{}{}".format(platform.python_implementation().lower(), *sys.version_info)
    wanted, other = (os.path.join(folder, "{}-{}{}".format(interpreter, digest[:16], end)) for end in ("", "b"))
    if in_use == other:
        wanted, other = other, wanted
    if in_use is None:
        problem = "there is none"
    elif in_use != wanted:
        problem = "other requirements or another interpreter"
    else:
        problem = find_damage(wanted)
        wanted = other if problem else wanted
    present = [os.path.join(folder, name) for name in os.listdir(folder)] if os.path.isdir(folder) else []
    leftovers = sorted(entry for entry in present if entry not in (wanted, in_use))
    print(json.dumps({"wanted": wanted, "problem": problem, "leftovers": leftovers}))


main()

"""Tell whether a virtual environment is the wanted one, and whole.

Usage: python - PATH DIGEST, run by the interpreter that the environment is made with. PATH is a
link into the folder PATH.d; DIGEST stands for what the environment is made from. Prints one JSON
object:

wanted     the directory that PATH has to point at
problem    why the environment has to be built; empty if it is right
leftovers  directories of PATH.d that are neither in use nor the last one that was
"""

import csv
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path


def find_damage(environment: Path) -> str:
    """Return what is broken in `environment`, or an empty string."""
    interpreter = environment / "bin/python"
    try:
        subprocess.run([interpreter, "-c", ""], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "its interpreter does not start"
    packages = Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(environment)}))
    records = sorted(packages.glob("*.dist-info/RECORD"))
    if not records:
        return "it holds no package"
    # Not importlib.metadata: since Python 3.12 it leaves out the files that are missing.
    for record in records:
        for name, *_ in csv.reader(record.read_text(encoding="utf-8").splitlines()):
            if not name.endswith(".pyc") and not (packages / name).exists():
                return f"the file {name} is missing"
    return ""


def main() -> None:
    """Print the state of the environment that the arguments name."""
    path, digest = Path(sys.argv[1]), sys.argv[2]
    folder = Path(f"{path}.d")
    # Path.readlink would need Python 3.9.
    in_use = Path(os.readlink(path)) if path.is_symlink() else None  # noqa: PTH115
    # Two names for the same content: a damaged environment is mended in the other one, never in
    # place, so that an interrupted mending is not taken for a finished one.
    wanted, other = (folder / f"{sys.implementation.cache_tag}-{digest[:16]}{suffix}" for suffix in ("", "b"))
    if in_use == other:
        wanted, other = other, wanted
    if in_use is None:
        problem = "there is none"
    elif in_use != wanted:
        problem = "other requirements or another interpreter"
    else:
        problem = find_damage(wanted)
        wanted = other if problem else wanted
    present = folder.iterdir() if folder.is_dir() else []
    leftovers = sorted(str(entry) for entry in present if entry not in (wanted, in_use))
    print(json.dumps({"wanted": str(wanted), "problem": problem, "leftovers": leftovers}))


main()

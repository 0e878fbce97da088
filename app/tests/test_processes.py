"""How processes that publish are started; no services needed."""

from __future__ import annotations

import os
import subprocess
import sys

from services import SOURCE

#: Prints the signals that are held back when a process is begun, the first of its program, and afterwards.
START = """
import signal
from multiprocessing import util
from types import SimpleNamespace

from taskmill.publishing import processes

spawn = util.spawnv_passfds


def held_back():
    return [int(number) for number in sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))]


def spawn_and_tell(program, arguments, files):
    print(held_back())
    return spawn(program, arguments, files)


if __name__ == "__main__":
    util.spawnv_passfds = spawn_and_tell
    processes.Child(SimpleNamespace(process=1), print).kill()
    print(held_back())
"""


def test_ctrl_c_is_held_back_while_a_process_starts() -> None:
    """Python's own handler would end it with a traceback, in the middle of an import."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", START], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    *_, first, afterwards = done.stdout.splitlines()
    assert (first, afterwards) == ("[2, 15]", "[]")

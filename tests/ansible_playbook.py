"""Starts ansible-playbook for tests, from the root of the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = Path(sys.executable).with_name("ansible-playbook")


def run_playbook(*arguments: str | Path, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ansible-playbook from the root, as the README says, within so many seconds, not waiting for absent hosts."""
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_STDOUT_CALLBACK": "default",
            "ANSIBLE_TIMEOUT": "2",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )

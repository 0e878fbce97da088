"""The role browser without a host: what it refuses."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Play = Callable[..., "subprocess.CompletedProcess[str]"]

REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "browser.txt"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"browser_requirements": "/nowhere/browser.txt"}, "no requirements file /nowhere/browser.txt"),
        ({"browser_timeout": 0}, "browser_timeout is 0 (seconds)"),
        ({"browser_memory_max": "lots"}, "browser_memory_max is 'lots'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_installed(play: Play, settings: dict[str, Any], message: str) -> None:
    """The play fails and names the setting."""
    done = play(
        [{"import_role": {"name": "browser"}}], {"browser_requirements": str(REQUIREMENTS), **settings}, "--check"
    )
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert done.returncode != 0
    assert message in said
    assert "browser : install" not in said

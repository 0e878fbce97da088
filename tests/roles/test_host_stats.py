"""The role host_stats without a host: what it refuses."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

Play = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("name", ["host_stats_interval", "host_stats_limit_hours"])
@pytest.mark.parametrize("value", [0, -1, "often"])
def test_a_number_that_cannot_be_used_is_refused(play: Play, name: str, value: object) -> None:
    """The play fails before the package is asked for, and names the setting."""
    done = play([{"import_role": {"name": "host_stats"}}], {name: value, "host_stats_broker_api_url": ""}, "--check")
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert done.returncode != 0
    assert name in said
    assert str(value) in said
    assert "host_stats : install" not in said

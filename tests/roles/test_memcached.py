"""The role memcached without a host: what it refuses."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

Play = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (
            {"memcached_expected_results": 1000000},
            ["1000000 results", "need 336 MiB", "is 64", "Set it to 336 or more"],
        ),
        ({"memcached_expected_results": 1000, "memcached_result_bytes": 100000}, ["need 105 MiB"]),
        ({"memcached_listen_addresses": []}, ["memcached_listen_addresses is empty", "127.0.0.1"]),
        ({"memcached_memory_mb": "much"}, ["memcached_memory_mb", "much"]),
    ],
)
def test_bad_input_is_refused_before_anything_is_touched(
    play: Play, settings: dict[str, Any], messages: list[str]
) -> None:
    """The play fails in the validation and names the size or the setting that mends it."""
    done = play([{"import_role": {"name": "memcached"}}], settings, "--check")
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert done.returncode != 0
    assert [message for message in messages if message not in said] == []
    assert "memcached : configure" not in said

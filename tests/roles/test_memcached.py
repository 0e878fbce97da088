"""The role memcached without a host: what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_playbook import ROOT

Refused = Callable[[dict[str, Any]], tuple[Any, str]]


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"memcached_expected_results": 1000000},
        ["1000000 results", "need 336 MiB", "is 64", "Set it to 336 or more"],
    ),
    ({"memcached_expected_results": 1000, "memcached_result_bytes": 100000}, ["need 105 MiB"]),
    ({"memcached_listen_addresses": []}, ["memcached_listen_addresses is empty", "127.0.0.1"]),
    ({"memcached_item_mb": "4 MB"}, ["memcached_item_mb", "4 MB"]),
    ({"memcached_memory_mb": "much"}, ["memcached_memory_mb", "much"]),
]


@pytest.fixture(scope="module")
def refused(play_inputs: Callable[..., Refused]) -> Refused:
    """What became of every bad input."""
    return play_inputs("memcached", {}, [settings for settings, _ in REFUSED])


@pytest.mark.parametrize(("settings", "messages"), REFUSED)
def test_bad_input_is_refused_before_anything_is_touched(
    refused: Refused, settings: dict[str, Any], messages: list[str]
) -> None:
    """The play fails in the validation and names the size or the setting that mends it."""
    said = refused(settings)[0].refusal()
    assert [message for message in messages if message not in said] == []


@pytest.mark.parametrize(("settings", "option"), [({}, []), ({"memcached_item_mb": 4}, ["-I", "4m"])])
def test_the_largest_value_is_an_option_where_it_is_not_memcacheds_own(
    render: Callable[[Path, dict[str, Any]], str], settings: dict[str, Any], option: list[str]
) -> None:
    """So that a service whose value is left alone is not restarted for it."""
    template = ROOT / "roles/memcached/templates/memcached.service.conf.j2"
    text = render(template, {**settings, "systemd_unit_version": {"stdout": "systemd 257"}, "ansible_managed": "x"})
    [command] = [line for line in text.splitlines() if line.startswith("ExecStart=/")]
    assert command.split()[command.split().index("-t") + 2 :] == option

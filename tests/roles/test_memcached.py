"""The role memcached without a host: what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Refused = Callable[[dict[str, Any]], tuple[Any, str]]


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"memcached_expected_results": 1000000},
        ["1000000 results", "need 336 MiB", "is 64", "Set it to 336 or more"],
    ),
    ({"memcached_expected_results": 1000, "memcached_result_bytes": 100000}, ["need 105 MiB"]),
    ({"memcached_listen_addresses": []}, ["memcached_listen_addresses is empty", "127.0.0.1"]),
    ({"memcached_max_item_size": "4 MB"}, ["memcached_max_item_size is '4 MB'", "such as 4m"]),
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

"""The role redis without a host: what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Refused = Callable[[dict[str, Any]], tuple[Any, str]]

INPUT = {"redis_password": "nottobeseen"}
REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"redis_password": "short"},
        ["redis_password has to be at least 8 printable characters of ASCII, without spaces."],
    ),
    ({"redis_password": "nottobeseen @"}, ["redis_password has to be at least 8 printable characters of ASCII"]),
    ({"redis_listen_addresses": []}, ["redis_listen_addresses is empty", "127.0.0.1"]),
    ({"redis_memory_mb": "much"}, ["redis_memory_mb", "much"]),
]


@pytest.fixture(scope="module")
def refused(play_inputs: Callable[..., Refused]) -> Refused:
    """What became of every bad input."""
    return play_inputs("redis", INPUT, [{}, *({**INPUT, **settings} for settings, _ in REFUSED)])


@pytest.mark.parametrize(("settings", "messages"), REFUSED)
def test_bad_input_is_refused_before_anything_is_touched(
    refused: Refused, settings: dict[str, Any], messages: list[str]
) -> None:
    """The play fails in the validation, names the setting, and shows no password."""
    case, output = refused({**INPUT, **settings})
    said = case.refusal()
    assert [message for message in messages if message not in said] == []
    assert "nottobeseen" not in output


def test_a_missing_password_is_named(refused: Refused) -> None:
    """There is no Redis without one."""
    assert "redis_password" in refused({})[0].refusal()

"""The role host_stats without a host: what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Refused = Callable[[dict[str, Any]], tuple[Any, str]]


INPUT = {"host_stats_broker_api_url": ""}
NAMES = ["host_stats_interval", "host_stats_limit_hours"]
VALUES = [0, -1, "often"]


@pytest.fixture(scope="module")
def refused(play_inputs: Callable[..., Refused]) -> Refused:
    """What became of every bad input."""
    return play_inputs("host_stats", INPUT, [{**INPUT, name: value} for name in NAMES for value in VALUES])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", VALUES)
def test_a_number_that_cannot_be_used_is_refused(refused: Refused, name: str, value: object) -> None:
    """The play fails before the package is asked for, and names the setting."""
    said = refused({**INPUT, name: value})[0].refusal()
    assert name in said
    assert str(value) in said

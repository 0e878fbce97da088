"""The role browser without a host: what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Refused = Callable[[dict[str, Any]], tuple[Any, str]]

INPUT = {"browser_requirements": str(Path(__file__).parents[2] / "requirements" / "browser.txt")}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"browser_requirements": "/nowhere/browser.txt"}, "no requirements file /nowhere/browser.txt"),
    ({"browser_timeout": 0}, "browser_timeout is 0 (seconds)"),
    ({"browser_memory_max": "lots"}, "browser_memory_max is 'lots'"),
]


@pytest.fixture(scope="module")
def refused(play_inputs: Callable[..., Refused]) -> Refused:
    """What became of every bad input."""
    return play_inputs("browser", INPUT, [{**INPUT, **settings} for settings, _ in REFUSED])


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_bad_input_is_refused_before_anything_is_installed(
    refused: Refused, settings: dict[str, Any], message: str
) -> None:
    """The play fails in the validation and names the setting."""
    assert message in refused({**INPUT, **settings})[0].refusal()

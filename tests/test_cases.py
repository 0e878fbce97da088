"""The tests' own way to play many cases at once: what was not refused, or refused elsewhere, is told as such."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def cases(play_cases: Callable[..., Any]) -> Any:
    """A host that passes every check, and others: one fails in a check, one behind them, two over an item of a loop."""
    check = {"assert": {"that": "good | bool", "fail_msg": "good is {{ good }}"}, "name": "role : validate | Check"}
    items = {**check, "name": "role : validate | Check each", "loop": "{{ items | default([]) }}"}
    items["assert"] = {"that": "item is truthy", "fail_msg": "an item is {{ item }}"}
    act = {"assert": {"that": "not act | default(false)"}, "name": "role : install | Act"}
    note = {"set_fact": {"items": [0]}, "name": "role : validate | Note", "when": "note is defined"}
    tasks = [note, check, items, act, {"ping": {}, "name": "role : install | Reach the host"}]
    hosts = {"good": {"good": True, "note": 1}, "bad": {"good": False}, "late": {"good": True, "act": True}}
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    return play_cases([play], {**hosts, "item": {"good": True, "items": [1, 0]}, "other": {"good": True}}).cases


def test_what_a_check_says_is_returned(cases: dict[str, Any]) -> None:
    """By the check that failed, or by that of an item."""
    assert cases["bad"].refusal() == "good is False"
    assert "an item is 0" in cases["item"].refusal()


def test_what_is_not_refused_is_told(cases: dict[str, Any]) -> None:
    """A right input, which goes on to the host."""
    assert cases["other"].unreachable
    with pytest.raises(AssertionError, match="It was not refused"):
        cases["other"].refusal()


def test_what_is_refused_behind_the_checks_is_told(cases: dict[str, Any]) -> None:
    """By a task that is none of them."""
    with pytest.raises(AssertionError, match="install"):
        cases["late"].refusal()


def test_no_case_has_the_facts_of_another(cases: dict[str, Any]) -> None:
    """What one notes fails it alone."""
    assert "an item is 0" in cases["good"].refusal()
    assert not cases["other"].failed

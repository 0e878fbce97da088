"""The known name that stands nearest to an unknown one."""

from __future__ import annotations

from taskmill.model.nearest import nearest


def test_a_slip_of_the_pen_is_told_and_a_guess_is_not() -> None:
    """In words that a message goes on from."""
    assert nearest("wieght", ["task", "weight"]) == "the nearest is weight"
    assert nearest("wieght", {"task": 1, "queue": 2}) == ""
    assert nearest("wieght", []) == ""
    assert nearest("wieght", ["task", "weight"], "known are both") == "the nearest is weight; known are both"
    assert nearest("wieght", ["task"], "known is one") == "known is one"

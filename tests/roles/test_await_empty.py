"""Waiting for empty queues: how many messages are left is said, not failed over."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

#: What the broker says in turn: names of queues, and how many messages each has.
TURNS = {"left": ["red 3\\ngreen 2\\nother 7"], "emptied": ["red 3\\ngreen 0", "red 0\\ngreen 0\\nother 7"]}


@pytest.mark.parametrize(("turns", "seconds", "left"), [("left", 0, 5), ("left", 5, 5), ("emptied", 60, 0)])
def test_it_says_how_many_messages_are_left(
    play: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    turns: str,
    seconds: int,
    left: int,
) -> None:
    """In the queues that are named, at once or after the seconds, and the play goes on."""
    answers = TURNS[turns]
    lines = [f"{number}) printf '{answer}\\n' ;;" for number, answer in enumerate(answers)]
    script = tmp_path / "rabbitmqctl"
    turn = f"turn=$(wc -l < {tmp_path}/turns)\necho >> {tmp_path}/turns\n"
    last = f"*) printf '{answers[-1]}\\n' ;;"
    script.write_text("#!/bin/sh\n" + turn + "case $turn in\n" + "\n".join([*lines, last]) + "\nesac\n")
    script.chmod(0o755)
    (tmp_path / "sleep").write_text("#!/bin/sh\nexec /bin/sleep 1\n")
    (tmp_path / "sleep").chmod(0o755)
    (tmp_path / "turns").touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    done = play(
        [
            {"import_role": {"name": "await_empty"}},
            {"debug": {"msg": "There are {{ await_empty_waiting }} left"}},
        ],
        {
            "await_empty_vhost": "shop",
            "await_empty_names": ["red", "green"],
            "await_empty_seconds": seconds,
            "ansible_become": False,
        },
    )
    assert done.returncode == 0, done.stdout
    assert f"There are {left} left" in done.stdout
    if seconds != 5:
        assert len((tmp_path / "turns").read_text()) == len(answers)

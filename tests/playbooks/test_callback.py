"""What ansible-playbook prints: plays with their seconds, changes, messages and failures, and the rest with `-v`."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible_playbook import PROGRAM, ROOT
from python_file import load

FILE = ROOT / "plugins" / "callback" / "phases.py"
#: Of every wait, in seconds: for what takes one or two.
DEADLINE = 120

#: An action that displays a line while it runs, as following a load does, makes a file, and ends once another is there.
TELL = f"""
import pathlib, time
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        Display().display("  a | posting")
        until = pathlib.Path(self._task.args["until"])
        until.with_name("displayed").touch()
        deadline = time.monotonic() + {DEADLINE}
        while not until.exists():
            if time.monotonic() > deadline:
                return result | {{"failed": True, "msg": "nobody has read the line"}}
            time.sleep(0.02)
        return result
"""

HEAD = "hosts: all\n  gather_facts: false"
PLAYBOOK = f"""
- name: Set up
  {HEAD}
  tasks:
    - name: Look
      ansible.builtin.set_fact: {{a: 1}}
    - name: install | Add it
      ansible.builtin.set_fact: {{a: 1}}
      changed_when: true
    - name: Add them
      ansible.builtin.set_fact: {{a: "{{{{ item }}}}"}}
      loop: [1, 2]
      changed_when: true
    - name: Add it to one
      ansible.builtin.set_fact: {{a: 1}}
      changed_when: inventory_hostname == 'b'
    - name: Never
      ansible.builtin.set_fact: {{a: 1}}
      when: false
- name: Where it is asked for
  {HEAD}
  tasks:
    - name: Skip it
      ansible.builtin.debug: {{msg: skipped}}
      when: false
- name: Nobody's
  hosts: nobody
  tasks: [{{ansible.builtin.debug: {{msg: never}}}}]
- name: Say
  {HEAD}
  tasks:
    - name: Say a line
      ansible.builtin.debug: {{msg: "I am {{{{ inventory_hostname }}}}"}}
    - name: Say several
      ansible.builtin.debug: {{msg: "a table:\\n  1\\n  2"}}
      run_once: true
    - name: Say a value
      ansible.builtin.debug: {{var: omega}}
      vars: {{omega: {{x: [1]}}}}
      run_once: true
    - name: Say each
      ansible.builtin.debug: {{msg: "item {{{{ item }}}}"}}
      loop: [1, 2]
      run_once: true
- name: Go on
  {HEAD}
  tasks:
    - name: Do without
      ansible.builtin.fail: {{msg: "a warning sign"}}
      ignore_errors: "{{{{ true }}}}"
    - name: Guard
      block:
        - name: Go inside
          ansible.builtin.include_tasks: inside.yml
      rescue:
        - name: Mend it
          ansible.builtin.set_fact: {{a: 1}}
          changed_when: true
- name: One after the other
  {HEAD}
  serial: 1
  tasks:
    - name: Take a turn
      ansible.builtin.set_fact: {{a: 1}}
      changed_when: true
- name: End
  {HEAD}
  tasks:
    - name: Change before
      ansible.builtin.set_fact: {{a: 1}}
      changed_when: true
    - name: Reach it
      ansible.builtin.ping:
      when: inventory_hostname == 'far'
    - name: Break each
      ansible.builtin.fail: {{msg: "broken {{{{ item }}}}\\nsee the second line"}}
      loop: [1, 2]
      when: inventory_hostname == 'a'
    - name: Break at once
      ansible.builtin.fail: {{msg: all of it}}
      when: inventory_hostname == 'b'
- name: After the end
  {HEAD}
  tasks: [{{ansible.builtin.debug: {{msg: too late}}}}]
"""
INSIDE = """
- name: Break inside
  ansible.builtin.fail: {msg: "rescued item {{ item }}"}
  loop: [1, 2]
"""
INVENTORY = """
all:
  hosts:
    a: {ansible_connection: local}
    b: {ansible_connection: local}
    far: {ansible_host: 127.0.0.1, ansible_port: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the playbook, its inventory, and an action that displays a line."""
    folder = tmp_path_factory.mktemp("plays")
    (folder / "play.yml").write_text(PLAYBOOK)
    (folder / "inside.yml").write_text(INSIDE)
    (folder / "hosts.yml").write_text(INVENTORY)
    (folder / "action_plugins").mkdir()
    (folder / "action_plugins" / "tell.py").write_text(TELL)
    return folder


def command(folder: Path, playbook: str, *options: str) -> dict[str, Any]:
    """Return what subprocess needs to play that from the repository's root, with the settings that are there."""
    words = ["-i", str(folder / "hosts.yml"), "-e", f"ansible_python_interpreter={sys.executable}", *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return {
        "args": [str(PROGRAM), *words, str(folder / playbook)],
        "cwd": ROOT,
        "env": {**kept, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_TIMEOUT": "5", "TERM": "xterm"},
    }


def timeless(text: str) -> str:
    """Return it with every number of seconds as `#`."""
    return re.sub(r"\b\d+\.\d s$", "# s", text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def said(folder: Path) -> str:
    """What the playbook says as it is, to where there is no terminal."""
    done = subprocess.run(**command(folder, "play.yml"), capture_output=True, timeout=DEADLINE, check=False)
    assert done.returncode != 0
    assert b"\x1b" not in done.stdout
    assert b"\r" not in done.stdout
    return timeless(done.stdout.decode())


def test_a_play_is_a_line_with_its_seconds_and_what_changed_below(said: str) -> None:
    """By role, hosts and task; what was as it should be is not shown, nor what was skipped."""
    assert said.splitlines()[:3] == [
        "Set up: # s",
        "  changed a, b, far: Add it; Add them",
        "  changed b: Add it to one",
    ]


def test_a_play_in_which_nothing_ran_says_nothing(said: str) -> None:
    """Because it has no hosts, or all of it is skipped, or none is left."""
    for silent in ("Where it is asked for", "Skip it", "Nobody's", "never", "After the end", "too late"):
        assert silent not in said


def test_messages_stand_below_the_plays_name_as_they_are(said: str) -> None:
    """With their host; several lines so that they can be copied, values as YAML."""
    began, ended = said.index("Say ...\n"), said.index("Say: # s\n")
    lines = said[began:ended].splitlines()[1:]
    assert sorted(lines[:3]) == [f"  {host} | I am {host}" for host in ("a", "b", "far")]
    assert lines[3:] == [
        "  a:", "    a table:", "      1", "      2",
        "  a:", "    omega:", "        x:", "        - 1",
        "  a | item 1", "  a | item 2",
    ]  # fmt: skip


def test_what_is_ignored_or_rescued_is_a_line_and_no_failure(said: str) -> None:
    """In an include and a loop too; the play does not count as failed."""
    began, ended = said.index("Go on ...\n"), said.index("Go on: # s\n")
    lines = said[began:ended].splitlines()[1:]
    assert sorted(lines) == sorted(
        [f"  ignored {host}: Do without: a warning sign" for host in ("a", "b", "far")]
        + [f"  rescued {host}: Break inside: rescued item 1" for host in ("a", "b", "far")]
        + ["  changed a, b, far: Mend it"]
    )


def test_batches_of_hosts_are_one_play(said: str) -> None:
    """`serial` is one line, with the changes of all of them."""
    assert "One after the other: # s\n  changed a, b, far: Take a turn\n" in said


def test_all_there_is_about_a_failure_is_shown(said: str) -> None:
    """With task and host, items and unreachable hosts too, below what had changed till then; and at the play's end."""
    last = said[said.index("End ...\n") :]
    assert last.index("  changed a, b, far: Change before\n") < last.index("TASK [Reach it]")
    assert last.index("TASK [Reach it]") < last.index("fatal: [far]: UNREACHABLE! =>") < last.index("TASK [Break each]")
    assert re.search(
        r"failed: \[a\] \(item=1\) => \n(    .*\n)*    msg: \|-\n        broken 1\n        see the second", last
    )
    assert "failed: [a] (item=2)" in last
    assert re.search(
        r"TASK \[Break at once\] \*+\n(.*\n)*fatal: \[b\]: FAILED! => \n(    .*\n)*    msg: all of it", last
    )
    assert "End: failed on far, a, b, # s\n" in last
    assert re.search(
        r"^a : ok=\d+ changed=5 unreachable=0 failed=1 skipped=\d+ rescued=1 ignored=1$", last, re.MULTILINE
    )
    assert re.search(r"^far : ok=\d+ changed=\d+ unreachable=1 failed=0", last, re.MULTILINE)


def test_v_shows_every_task_and_the_seconds(folder: Path) -> None:
    """All that the callback `default` says, tasks that are as they should be among it, and each play's seconds."""
    found = subprocess.run(
        **command(folder, "play.yml", "-v", "--limit", "a"),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    said = timeless(found.stdout)
    assert re.search(r"^PLAY \[Set up\] \*+\n\nTASK \[Look\] \*+\nok: \[a\] => ", said, re.MULTILINE)
    assert re.search(r"^TASK \[install \| Add it\] \*+\nchanged: \[a\] => ", said, re.MULTILINE)
    assert "...ignoring" in said
    assert "PLAY RECAP" in said
    assert "\nSet up: # s\n" in said


def test_check_and_diff_show_what_would_change(folder: Path) -> None:
    """The difference, and that it is none yet."""
    target = folder / "target"
    target.write_text("before")
    (folder / "copy.yml").write_text(
        f"- name: Write\n  {HEAD}\n  tasks:\n    - name: configure | Write it\n"
        f"      ansible.builtin.copy: {{content: after, dest: {target}, mode: '0644'}}\n"
    )
    options = command(folder, "copy.yml", "--check", "--diff", "--limit", "a")
    done = subprocess.run(**options, capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert re.search(r"^-before$(\n.*)*\n\+after$", done.stdout, re.MULTILINE)
    assert "\n  would change a: Write it\n" in done.stdout
    assert target.read_text() == "before"


@pytest.fixture
def telling(folder: Path, tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """A playbook whose second task displays a line and goes on until a file is there, and that file."""
    until = tmp_path / "go-on"
    (folder / "tell.yml").write_text(
        f"- name: Load\n  {HEAD}\n  tasks:\n    - name: Start\n      ansible.builtin.set_fact: {{a: 1}}\n"
        f"      changed_when: true\n    - name: Follow\n      tell: {{until: {until}}}\n"
    )
    return command(folder, "tell.yml", "--limit", "a"), until


def test_what_an_action_displays_is_there_at_once(telling: tuple[dict[str, Any], Path]) -> None:
    """In a pipe, while the task goes on, below the play's name and what had changed till then."""
    options, until = telling
    with subprocess.Popen(**options, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        until.touch()
        rest = process.stdout.read()
    assert lines == ["Load ...\n", "  changed a: Start\n", "  a | posting\n"]
    assert timeless(rest).startswith("Load: # s\na : ok=2 changed=1")


def test_a_play_goes_on_when_nobody_reads_it(telling: tuple[dict[str, Any], Path]) -> None:
    """`make load | head` neither ends the play nor leaves it waiting."""
    options, until = telling
    with subprocess.Popen(**options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Load ...\n"
        process.stdout.close()
        until.touch()
        assert process.wait(DEADLINE) == 0


def on_terminal(options: dict[str, Any], then: Callable[[str, subprocess.Popen[bytes]], None]) -> tuple[int, str]:
    """Run a command on a terminal, tell `then` all that it has written each time, and return how it ended and that."""
    ours, its = pty.openpty()
    text, deadline = "", time.monotonic() + DEADLINE
    with subprocess.Popen(**options, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        try:
            while time.monotonic() < deadline:
                if not select.select([ours], [], [], 1)[0]:
                    continue
                try:
                    text += os.read(ours, 65536).decode()
                except OSError:  # the other side is closed: it has ended
                    break
                then(text, process)
            else:
                process.kill()
        finally:
            os.close(ours)
    return process.returncode, text


def screen(text: str) -> list[str]:
    """Return the lines that stay on a terminal, without colours."""
    text = re.sub(r"\x1b\[[\d;]*m", "", text)
    return [re.split(r"\r\x1b\[K", line)[-1] for line in text.replace("\r\n", "\n").split("\n")]


def test_a_terminal_shows_the_task_that_runs_for_as_long_as_it_does(telling: tuple[dict[str, Any], Path]) -> None:
    """On a line that comes again below what is displayed meanwhile, and of which nothing stays."""
    options, until = telling

    def go_on(text: str, _process: subprocess.Popen[bytes]) -> None:
        if text.count("Load: Follow") > 1:
            until.touch()

    ended, text = on_terminal(options, go_on)
    assert ended == 0
    assert "Load: Start" in text
    *lines, count, end = screen(text)
    assert [timeless(line) for line in lines] == ["Load ...", "  changed a: Start", "  a | posting", "Load: # s"]
    assert count.startswith("a : ok=2 changed=1")
    assert end == ""


def test_an_interrupted_play_leaves_what_it_had_said_and_a_clean_line(telling: tuple[dict[str, Any], Path]) -> None:
    """What changed till then is said before the interruption, and the shell's prompt gets a line of its own."""
    options, until = telling
    interrupted = []

    def interrupt(text: str, process: subprocess.Popen[bytes]) -> None:
        if text.count("Load: Follow") > 1 and not interrupted:
            # Ansible waits for ever where its worker is ended while it hands a line over.
            deadline = time.monotonic() + DEADLINE
            while not until.with_name("displayed").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            interrupted.append(process.pid)

    ended, text = on_terminal(options, interrupt)
    assert interrupted
    assert ended not in {0, -signal.SIGKILL}
    lines = screen(text)
    assert lines[:3] == ["Load ...", "  changed a: Start", "  a | posting"]
    assert any("User interrupted execution" in line for line in lines)
    assert lines[-1] == ""


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    """The callback's module."""
    return load(FILE)


def test_changes_are_told_once_by_role_and_hosts(plugin: ModuleType) -> None:
    """Tasks of one role on the same hosts share a line, in whatever order the hosts answered."""
    phase = plugin.Phase(SimpleNamespace(_uuid="1", get_name=lambda: " Set up "), 10.0)
    phase.changes = {
        "1": (("changed", "flower", "Add the user"), {"b", "a"}),
        "2": (("changed", "python_venv", "Add the package"), {"a"}),
        "3": (("changed", "flower", "Restart Flower"), {"a", "b"}),
        "4": (("changed", "", "Name it"), {"a"}),
    }
    assert phase.changed() == [
        "  changed a, b: flower: Add the user; Restart Flower",
        "  changed a: python_venv: Add the package",
        "  changed a: Name it",
    ]
    assert phase.changed() == []
    assert phase.took(71.26) == "Set up: 61.3 s"


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ({"msg": "non-zero return code", "stderr": "Traceback\nno such file\n"}, "non-zero return code. no such file"),
        ({"msg": "non-zero return code", "stdout": "it is full"}, "non-zero return code. it is full"),
        ({"msg": "m" * 500}, "[...]"),
        ({"msg": "All items failed", "results": [{"msg": "fine"}, {"failed": True, "msg": "bad"}]}, "bad"),
        ({"censored": "the output has been hidden"}, "the output has been hidden"),
        ({}, "it does not say why"),
    ],
)
def test_a_failure_has_a_reason_in_one_line(plugin: ModuleType, result: dict[str, Any], why: str) -> None:
    """Of a loop that of the first item that failed; nothing of what is hidden."""
    assert plugin.reason(result) == why


def test_a_dumb_terminal_and_a_file_get_no_passing_line(plugin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a line cannot be erased, none is shown; elsewhere it is cut to the terminal's width."""

    class Stream(list[str]):
        write = list.append
        terminal = True

        def isatty(self) -> bool:
            return self.terminal

        def flush(self) -> None:
            pass

    def shown() -> str:
        plugin.Status(stream := Stream()).show("x" * 50)
        return "".join(stream)

    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    assert shown() == "x" * 19
    monkeypatch.setenv("TERM", "dumb")
    assert shown() == ""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(Stream, "terminal", False)
    assert shown() == ""

"""Ansible callback: each play with its seconds, what changed, what is said and what fails; `-v` shows every task."""

# More than 400 lines, since Ansible loads a callback as one file that has no neighbours to import.
from __future__ import annotations

import atexit
import os
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

from ansible import constants
from ansible.playbook.block import Block
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default

DOCUMENTATION = """
name: phases
type: stdout
short_description: Each play with its seconds, what changed and what fails
description:
  - A play is a line with its seconds, and says below it which tasks changed which hosts. A play in which nothing ran
    says nothing.
  - Tasks that found all as it should be are not shown. Messages (C(debug)), warnings, differences (C(--diff)) and what
    actions display are shown at once.
  - A failure is shown as by the callback C(default); one that is ignored or rescued is a line.
  - A terminal shows the task that runs on a line that comes and goes.
  - C(-v) shows all that the callback C(default) does, and each play's seconds.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as stdout_callback in the configuration
"""

# ansible-core 2.16 knows what a result has only by the names with an underscore.
Result = Any
#: Characters of a line where the output is no terminal.
WIDTH = 120


class Phase:
    """A play while it runs: since when, whether anything ran in it, and what is to be said of it yet."""

    def __init__(self, play: Any, began: float) -> None:
        """Begin with `play`, of the time `began`."""
        self.uuid = play._uuid
        self.name = play.get_name().strip()
        self.began = began
        #: Whether a task did something but being skipped, and whether one may be about to.
        self.ran = self.busy = False
        #: Whether the play's name stands above what is displayed.
        self.shown = False
        #: Hosts on which a task failed that was neither ignored nor rescued, in that order.
        self.failed: dict[str, None] = {}
        #: By task: the verb, the role and the name, and the hosts it changed.
        self.changes: dict[str, tuple[tuple[str, str, str], set[str]]] = {}

    def took(self, now: float) -> str:
        """Return the line that ends it."""
        failed = f"failed on {', '.join(self.failed)}, " if self.failed else ""
        return f"{self.name}: {failed}{now - self.began:.1f} s"

    def changed(self) -> list[str]:
        """Return what changed since this was asked last: for each role and set of hosts a line with its tasks."""
        lines: dict[tuple[str, str, str], list[str]] = {}
        for (verb, role, name), hosts in self.changes.values():
            lines.setdefault((verb, ", ".join(sorted(hosts)), role), []).append(name)
        self.changes.clear()
        return [
            f"  {verb} {hosts}: {role and role + ': '}{'; '.join(dict.fromkeys(names))}"
            for (verb, hosts, role), names in lines.items()
        ]


class Status:
    """The line of a terminal that says what is under way; elsewhere nothing."""

    def __init__(self, stream: Any) -> None:
        """Write to `stream`, where it is a terminal that can erase a line."""
        self.stream = stream
        self.able = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.text = ""
        self.there = False

    def show(self, text: str) -> None:
        """Put `text` in the place of what stands there, cut so that it stays one line; nothing for an empty one."""
        self.clear()
        self.text = text = " ".join(text.split())
        if self.able and text:
            self.stream.write(text[: shutil.get_terminal_size().columns - 1])
            self.stream.flush()
            self.there = True

    def clear(self) -> None:
        """Make room for a line that stays, below which the text can be shown again."""
        if self.there:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self.there = False


class CallbackModule(Default):  # type: ignore[misc]
    """What Ansible looks for. Everything that the callback `default` does is left to it with `-v`."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "phases"

    def __init__(self) -> None:
        """Start with no play."""
        super().__init__()
        self._phase: Phase | None = None
        self._task = self._source = ""
        self._clock = time.monotonic
        self._status = Status(sys.stdout)
        self._write: Callable[..., None] = self._display.display
        # Plays and tasks are told from one thread, and what actions display while they run from another.
        self._lock = threading.RLock()

    @property
    def _brief(self) -> bool:
        return bool(self._display.verbosity == 0)

    def get_option(self, k: str, *more: Any) -> Any:
        """Return an option; without `-v`, tasks in which nothing happened are not shown, whatever else is set."""
        if self._brief and k in {"display_ok_hosts", "display_skipped_hosts"}:
            return False
        return super().get_option(k, *more)

    # Plays.

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Come before everything that is displayed from now on, so that it stands below its play's name."""
        super().v2_playbook_on_start(playbook)
        # Lines in a file or a pipe are there as they come, too.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(line_buffering=True)
        # A second playbook of the same command finds this done.
        if "display" not in vars(self._display):
            self._write = unbroken(self._display.display)
            self._display.display = self._interject(self._write, os.getpid()) if self._brief else self._write
            # After Ctrl-C the shell's prompt stands on a line of its own.
            atexit.register(self._leave)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """End the play before, and begin this one; the next batch of hosts (`serial`) belongs to the same."""
        self._play = play
        if self._phase is None or self._phase.uuid != play._uuid:
            self._end_phase()
            self._phase = Phase(play, self._clock())
        if not self._brief:
            super().v2_playbook_on_play_start(play)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """Say nothing of a play without hosts."""
        if not self._brief:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Leave it to the failures, which are shown."""
        if not self._brief:
            super().v2_playbook_on_no_hosts_remaining()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """End the last play, and count by host."""
        self._end_phase()
        if not self._brief or (stats.custom and self.get_option("show_custom_stats")):
            super().v2_playbook_on_stats(stats)
            return
        if not stats.processed:
            self._display.display(
                "Nothing ran: no play has a host (of --limit), or no task (of --tags).", color=constants.COLOR_WARN
            )
        for host in sorted(stats.processed):
            counts = stats.summarize(host)
            bad = counts["failures"] or counts["unreachable"]
            counts["failed"] = counts.pop("failures")
            names = ("ok", "changed", "unreachable", "failed", "skipped", "rescued", "ignored")
            line = " ".join(f"{name}={counts[name]}" for name in names)
            self._display.display(f"{host} : {line}", color=constants.COLOR_ERROR if bad else None)

    def _leave(self) -> None:
        """Say where it was interrupted, on a line of its own."""
        self._status.clear()
        if self._brief and self._phase and self._task:
            self._write(f"{self._phase.name}: ended in: {self._task}", color=constants.COLOR_ERROR)

    def _end_phase(self) -> None:
        with self._lock:
            phase, self._phase = self._phase, None
            self._status.show("")
            if phase and (phase.ran or phase.shown or not self._brief):
                changes = phase.changed()
                if phase.shown:
                    self._show_changes(changes)
                self._write(
                    phase.took(self._clock()),
                    color=constants.COLOR_ERROR if phase.failed else None,
                )
                if not phase.shown:
                    self._show_changes(changes)

    def _show_changes(self, lines: list[str]) -> None:
        width = shutil.get_terminal_size((WIDTH, 24)).columns
        for line in lines:
            parts = textwrap.wrap(line, max(width, 40), subsequent_indent=" " * 4, break_on_hyphens=False)
            self._write("\n".join(parts), color=constants.COLOR_CHANGED)

    def _interject(self, display: Callable[..., None], process: int) -> Callable[..., None]:
        """Return a `display` that puts the play's name and what has changed before what is displayed meanwhile."""

        def interjected(*args: Any, **kwargs: Any) -> None:
            # Ansible's workers are forks, and hand what they display to the process with the terminal.
            if os.getpid() != process or kwargs.get("log_only"):
                display(*args, **kwargs)
                return
            with self._lock:
                self._status.clear()
                # What is displayed between two plays, or of one in which nothing ran, stands alone.
                if self._phase and (self._phase.ran or self._phase.busy):
                    if not self._phase.shown:
                        self._write(f"{self._phase.name} ...")
                        self._phase.shown = True
                    self._show_changes(self._phase.changed())
                if self._source:
                    display(self._source, color=constants.COLOR_WARN, stderr=kwargs.get("stderr", False))
                    self._source = ""
                display(*args, **kwargs)
                self._status.show(self._status.text)

        return interjected

    # Tasks.

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        super()._task_start(task, prefix)
        if self._brief and self._phase:
            with self._lock:
                self._phase.busy = True
                self._task = task.get_name().strip()
                # `pause` asks something, and the answer is written there.
                asks = task.action in {"pause", "ansible.builtin.pause", "ansible.legacy.pause"}
                self._status.show("" if asks else f"{self._phase.name}: {task.get_name().strip()}")

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Say it only where it is asked for."""
        if not self._brief:
            super().v2_runner_on_start(host, task)

    def v2_runner_on_ok(self, result: Result) -> None:
        """Show warnings and messages, and note what changed."""
        if not self._brief:
            super().v2_runner_on_ok(result)
            return
        if isinstance(result._task, TaskInclude):
            return
        self._note(ran=True)
        loop = result._task.loop and "results" in result._result
        if not loop:
            self._show_message(result)
        self._handle_warnings_of(result)
        if self._phase and result._result.get("changed", False):
            verb = "would change" if result._task.check_mode else "changed"
            role = result._task._role.get_name() if result._task._role else ""
            # `install | Add the package` says in which of the role's files it stands.
            what = (verb, role, result.task_name.strip().rpartition(" | ")[2])
            with self._lock:
                self._phase.changes.setdefault(result._task._uuid, (what, set()))[1].add(self._host(result))

    def v2_runner_item_on_ok(self, result: Result) -> None:
        """Show warnings and messages; the task is noted as a whole."""
        if not self._brief:
            super().v2_runner_item_on_ok(result)
        elif not isinstance(result._task, TaskInclude):
            self._show_message(result)
            self._handle_warnings_of(result)

    def v2_runner_on_skipped(self, result: Result) -> None:
        """Show what warns."""
        if self._phase:
            self._phase.busy = False
        if self._brief:
            self._handle_warnings_of(result)
        else:
            super().v2_runner_on_skipped(result)

    def v2_runner_on_failed(self, result: Result, ignore_errors: bool = False) -> None:
        """Show all there is about a failure; one that is ignored or rescued is a line."""
        rescued = is_rescued(result._task)
        self._note(ran=True, failed=None if ignore_errors or rescued else result._host.get_name())
        if not self._brief or not (ignore_errors or rescued):
            super().v2_runner_on_failed(result, ignore_errors)
            return
        self._handle_warnings_of(result)
        verb = "ignored" if ignore_errors else "rescued"
        said = f"  {verb} {self._host(result)}: {result._task.get_name().strip()}: {reason(result._result)}"
        self._display.display(said, color=constants.COLOR_WARN)

    def v2_runner_item_on_failed(self, result: Result) -> None:
        """Show it, unless the task's failure is ignored or rescued, and is a line then."""
        if not self._brief or not (result._task_fields.get("ignore_errors") or is_rescued(result._task)):
            super().v2_runner_item_on_failed(result)

    def v2_runner_on_unreachable(self, result: Result) -> None:
        """Show it as it is."""
        self._note(ran=True, failed=None if result._task.ignore_unreachable else result._host.get_name())
        super().v2_runner_on_unreachable(result)

    def v2_runner_retry(self, result: Result) -> None:
        """Say how many tries are left, where that does not stay."""
        if not self._brief:
            super().v2_runner_retry(result)
        elif self._phase:
            left = result._result["retries"] - result._result["attempts"]
            with self._lock:
                self._status.show(f"{self._phase.name}: {result._task.get_name().strip()} ({left} tries left)")

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Leave it to the tasks that are in it."""
        if not self._brief:
            super().v2_playbook_on_include(included_file)

    def v2_runner_on_async_poll(self, result: Result) -> None:
        """Leave it to the task's end."""
        if not self._brief:
            super().v2_runner_on_async_poll(result)

    def v2_runner_on_async_ok(self, result: Result) -> None:
        """Leave it to the task's end."""
        if not self._brief:
            super().v2_runner_on_async_ok(result)

    def v2_runner_on_async_failed(self, result: Result) -> None:
        """Leave it to the task's end."""
        if not self._brief:
            super().v2_runner_on_async_failed(result)

    def v2_playbook_on_vars_prompt(self, *_args: Any, **_kwargs: Any) -> None:
        """End the play before: the time that an answer takes is nobody's."""
        self._end_phase()

    def _note(self, *, ran: bool, failed: str | None = None) -> None:
        if self._phase:
            self._phase.ran |= ran
            if failed:
                self._phase.failed[failed] = None

    def _host(self, result: Result) -> str:
        """Return the host, and to whom it delegated; in a loop Ansible may not know any more to whom."""
        label = str(self.host_label(result))
        return result._host.get_name() if "{{" in label else label

    def _handle_warnings_of(self, result: Result) -> None:
        self._source = f"  {self._host(result)}: {result._task.get_name().strip()} warns:"
        self._handle_warnings(result._result)
        self._source = ""

    def _show_message(self, result: Result) -> None:
        """Show what a task is there to say, such as one of `debug`: text as it is, other values as with `default`."""
        if not self._run_is_verbose(result):
            return
        host, said = self.host_label(result), result._result.get("msg")
        if not isinstance(said, str):
            self._clean_results(result._result, result._task.action)
            said = self._dump_results(result._result)
        lines = textwrap.dedent(said.strip("\n")).splitlines()
        if len(lines) == 1:
            self._display.display(f"  {host} | {lines[0]}")
        else:
            self._display.display("\n".join([f"  {host}:", *(f"    {line}".rstrip() for line in lines)]))


def unbroken(display: Callable[..., None]) -> Callable[..., None]:
    """Return a `display` that lets the play go on in silence where nobody reads it any more, as in `make load | head`.

    An error would end the thread of Ansible that takes results in, and the play would wait for them for ever.
    """

    def displayed(*args: Any, **kwargs: Any) -> None:
        try:
            display(*args, **kwargs)
        except BrokenPipeError:
            stream = sys.stderr if kwargs.get("stderr") else sys.stdout
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

    return displayed


def is_rescued(task: Any) -> bool:
    """Return whether a failure of `task` is followed by a `rescue`, that of the nearest block or of one around it."""
    inner, outer = task, task._parent
    while outer is not None:
        if isinstance(outer, Block) and outer.rescue and any(one._uuid == inner._uuid for one in outer.block):
            return True
        inner, outer = outer, outer._parent
    return False


def reason(result: dict[str, Any]) -> str:
    """Return in one line why a task failed, for a loop why the first of its items did."""
    failed = [one for one in result.get("results", []) if isinstance(one, dict) and one.get("failed")]
    told = failed[0] if failed else result
    # A command says it last: the end of a traceback, of what apt or pip wrote.
    last = (str(told.get("stderr") or told.get("stdout") or "").split("\n\n")[-1].strip().splitlines() or [""])[-1]
    said = [str(told[key]) for key in ("msg", "censored") if told.get(key)] + [last] * bool(last)
    return textwrap.shorten(". ".join(said or ["it does not say why"]), 400)

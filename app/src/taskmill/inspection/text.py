"""What is known of an app, as text."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from taskmill.inspection.facts import Fact
    from taskmill.inspection.problems import Problem

#: How many facts of one kind are shown.
MOST = 12


def shown(facts: list[Fact], problems: list[Problem]) -> str:
    """Return the table of facts, and a line for each problem with what mends it below."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("what", "is", "from"):
        table.add_column(heading, overflow="fold")
    before = ""
    for about in dict.fromkeys(one.about for one in facts):
        alike = [one for one in facts if one.about == about]
        for one in alike[:MOST]:
            table.add_row("" if about == before else escape(about), escape(one.value), escape(one.source))
            before = about
        if len(alike) > MOST:
            table.add_row("", f"and {len(alike) - MOST} more", "--json has all")
    output = io.StringIO()
    # A terminal's width, and never so narrow that a table is no table.
    console = Console(file=output, width=max(100, shutil.get_terminal_size((120, 40)).columns))
    console.print(table)
    lines = [line.rstrip() for line in output.getvalue().strip("\n").splitlines()]
    if problems:
        lines += ["", "What will hurt:"]
    for problem in problems:
        where = f" ({problem.source})" if problem.source else ""
        lines += [f"- {problem.what}{where}", f"  {problem.mend}"]
    return "\n".join(lines)

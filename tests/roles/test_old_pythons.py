"""Programs that hosts of the release celery31 run by Python 2.7: whether they are programs for it."""

from __future__ import annotations

import ast
import io
import shutil
import subprocess
import tokenize
from pathlib import Path

import pytest
from ansible_playbook import ROOT

#: What those hosts run, for the roles and within workers.
PATTERNS = (
    "roles/celery_worker/files/*.py",
    "roles/host_stats/files/*.py",
    "roles/python_venv/files/*.py",
    "roles/source_tree/library/*.py",
    "app/src/celery31_client/*.py",
    "app/src/fibonacci/*.py",
    *(
        f"app/src/taskmill_worker/{name}.py"
        for name in ("__init__", "dead_lettering", "parking", "settings", "task_times", "time_function")
    ),
)
PROGRAMS = {str(path.relative_to(ROOT)): path for pattern in PATTERNS for path in sorted(ROOT.glob(pattern))}
#: Syntax that came with Python 3.
NEW = (ast.AnnAssign, ast.AsyncFunctionDef, ast.JoinedStr, ast.NamedExpr, ast.Nonlocal, ast.YieldFrom)


def new_syntax(text: str) -> list[int]:
    """Return the lines of a program with what Python 2.7 cannot read."""
    lines = [
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.STRING and token.string[:2].lower() == "rb"
    ]
    for node in ast.walk(ast.parse(text)):
        signature = isinstance(node, (ast.FunctionDef, ast.Lambda)) and (
            node.args.kwonlyargs or getattr(node, "returns", None) or any(one.annotation for one in node.args.args)
        )
        if isinstance(node, NEW) or signature or (isinstance(node, ast.Raise) and node.cause):
            lines.append(node.lineno)
    return sorted(lines)


@pytest.mark.parametrize("name", PROGRAMS)
def test_python_2_7_can_read_what_its_hosts_run(name: str) -> None:
    """None has syntax that came later, as rb"" has, which a formatter makes of br""."""
    assert new_syntax(PROGRAMS[name].read_text()) == []


@pytest.mark.parametrize(
    "line", ['a = rb"x"', 'a = f"{b}"', "def a(*, b): pass", "def a() -> int: pass", "raise A from b", "a: int = 1"]
)
def test_newer_syntax_is_seen(line: str) -> None:
    """Or the test before could not fail."""
    assert new_syntax(f"\n{line}\n") == [2]


def test_python_2_7_compiles_them() -> None:
    """By itself, where there is one."""
    found = shutil.which("python2.7")
    if found is None or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("there is no python2.7")
    code = "import sys\nfor path in sys.argv[1:]:\n    compile(open(path).read(), path, 'exec')"
    subprocess.run([found, "-c", code, *PROGRAMS.values()], check=True)


def test_all_programs_are_there() -> None:
    """A pattern that finds nothing would be a check of nothing."""
    assert [pattern for pattern in PATTERNS if not list(Path(ROOT).glob(pattern))] == []

"""The bare function's time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SOURCE

BARE = SOURCE / "taskmill" / "bare.py"


def bare(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run bare.py by itself, in a directory."""
    return subprocess.run(
        [sys.executable, str(BARE), *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=30
    )


def test_bare_times_a_function_and_checks_it(tmp_path: Path) -> None:
    """One JSON object: both values, the median seconds of a call and their spread."""
    (tmp_path / "work.py").write_text(
        "import time\ndef slow(n):\n    time.sleep(0.01)\n    return n\ndef same(n):\n    return n\n"
    )
    done = bare(tmp_path, "work:slow", "[3]", "work:same")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["value"], answer["expected"]) == (3, 3)
    assert 0.01 <= answer["seconds"] < 0.03
    assert 0 <= answer["spread"] < 0.01
    assert answer["python"].startswith("CPython 3.")


def test_bare_runs_with_the_app_from_its_source() -> None:
    """As the playbook calls it: started in the app's src, beside modules named like the standard library's."""
    done = bare(SOURCE, "fibonacci.tasks:fibonacci", "[15]", "fibonacci.expected:fibonacci")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["value"] == 610


def test_bare_fails_when_the_functions_disagree(tmp_path: Path) -> None:
    """A function that is fast and wrong is no measure."""
    (tmp_path / "work.py").write_text("def one():\n    return 1\ndef two():\n    return 2\n")
    assert bare(tmp_path, "work:one", "[]", "work:two").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [(), ("math:sqrt",), ("math", "[1]"), ("no.such:thing", "[1]"), ("math:nothing", "[1]"), ("math:sqrt", "{")],
)
def test_bare_explains_wrong_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2 and a message."""
    done = bare(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_bare_keeps_to_what_python_2_reads() -> None:
    """No annotation, f-string, keyword-only marker or newer import in it."""
    source = BARE.read_text()
    assert "from __future__ import print_function" in source
    for newer in ("->", ' f"', "nonlocal", "async ", ":=", "from __future__ import annotations"):
        assert newer not in source, newer

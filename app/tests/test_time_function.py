"""How long a function takes by itself, as taskmill_worker.time_function measures it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from services import SOURCE
from taskmill_worker import time_function as script

PROGRAM = SOURCE / "taskmill_worker" / "time_function.py"


def time_function(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run time_function.py by itself, in a directory."""
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_timing_gives_the_median_of_a_call_and_its_spread(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON object: both values, and what calls took by a clock that these calls move on."""
    seconds = [0.0]
    calls: list[int] = []

    def work(n: int) -> int:
        calls.append(n)
        # Of every four calls one takes twice as long, and one in a hundred takes long.
        seconds[0] += 0.5 if len(calls) % 100 == 0 else 0.02 if len(calls) % 4 == 0 else 0.01
        return n

    monkeypatch.setattr(script, "clock", lambda: seconds[0])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "work", SimpleNamespace(slow=work, same=lambda n: n))
    main: Callable[[list[str]], int] = script.main
    assert main(["time_function.py", "work:slow", "[3]", "work:same"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["value"], answer["expected"]) == (3, 3)
    # A sample is the mean of eight calls, two of which take twice as long.
    assert answer["seconds"] == pytest.approx(0.0125)
    assert 0 <= answer["spread"] < 0.0001
    assert answer["calls"] == len(calls) - 2
    assert answer["python"].startswith("CPython 3.")


def test_timing_runs_with_the_app_from_its_source() -> None:
    """As the playbook calls it: started in the app's src."""
    done = time_function(SOURCE, "fibonacci.tasks:fibonacci", "[15]", "fibonacci.expected:fibonacci")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["value"] == 610


def test_timing_loads_the_app_as_a_worker_does(tmp_path: Path) -> None:
    """With its modules of tasks and its settings; what it prints at import and in the task is not of the answer."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "celery.py").write_text(
        "import os\nfrom celery import Celery\nprint('importing')\nos.environ['SHOP_TAX'] = '19'\n"
        "app = Celery('shop', include=['shop.tasks'])\n"
    )
    (tmp_path / "shop" / "tasks.py").write_text(
        "import os, sys\nfrom celery import current_app, shared_task\nTAX = int(os.environ['SHOP_TAX'])\n"
        "@shared_task\ndef gross(net):\n    print('pricing')\n    os.write(1, b'in C')\n"
        "    return [net + TAX, current_app.main]\n"
    )
    done = time_function(tmp_path, "--app=shop.celery:app", "shop.tasks:gross", "[100]")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["value"], answer["expected"]) == ([119, "shop"], None)
    assert "importing" in done.stderr
    assert "pricing" in done.stderr
    assert "in C" in done.stderr


def test_timing_fails_when_the_functions_disagree(tmp_path: Path) -> None:
    """A function that is fast and wrong is no measure."""
    (tmp_path / "work.py").write_text("def one():\n    return 1\ndef two():\n    return 2\n")
    assert time_function(tmp_path, "work:one", "[]", "work:two").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("math:sqrt",),
        ("--app=nowhere", "math:sqrt", "[1]"),
        ("--app=math", "math:sqrt", "[1]"),
        ("math", "[1]"),
        ("no.such:thing", "[1]"),
        ("math:nothing", "[1]"),
        ("math:sqrt", "{"),
    ],
)
def test_timing_explains_wrong_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2 and a message."""
    done = time_function(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_timing_keeps_to_what_python_2_reads() -> None:
    """No annotation, f-string, keyword-only marker or newer import in it."""
    source = PROGRAM.read_text()
    assert "from __future__ import print_function" in source
    for newer in ("->", ' f"', "nonlocal", "async ", ":=", "from __future__ import annotations"):
        assert newer not in source, newer


def test_values_beyond_plain_json_are_told_as_celery_has_them(tmp_path: Path) -> None:
    """With their marks; a tuple agrees with the list that it becomes, and what JSON has no form for is refused."""
    (tmp_path / "odd.py").write_text(
        "from decimal import Decimal\n"
        "def one(): return (1, Decimal('1.10'))\n"
        "def other(): return [1, Decimal('1.10')]\n"
        "def none(): return object\n"
    )
    done = time_function(tmp_path, "odd:one", "[]", "odd:other")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["value"] == told["expected"] == [1, {"__type__": "decimal", "__value__": "1.10"}]
    # Whether or not it is the expected one.
    for functions in (["odd:none", "[]"], ["odd:none", "[]", "odd:none"]):
        refused = time_function(tmp_path, *functions)
        assert refused.returncode == 2
        assert "time_function.py: the result is none that JSON carries: " in refused.stderr
    assert refused.stdout == ""

"""What is installed: pinned by hash, and no version with a known hole; but for the article's stack, which has some."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ALL = sorted(
    {
        *ROOT.glob("requirements/**/*.txt"),
        *ROOT.glob("[!.]*/requirements/**/*.txt"),
        *ROOT.glob("examples/*/requirements.txt"),
    }
)
#: The article's versions are what they are; the README says what is open in them.
LOCKS = [path for path in ALL if "celery31" not in path.parts]


@pytest.mark.parametrize("lock", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_requirement_is_pinned_by_hash(lock: Path) -> None:
    """A mirror that serves other files is refused."""
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    packages = [line for line in lines if line.strip() and not line.startswith("#")]
    assert packages
    assert [line for line in packages if "==" not in line or "--hash=sha256:" not in line] == []


@pytest.fixture(scope="module")
def audit() -> Callable[[Path], list[dict[str, Any]]]:
    """Return a function that asks for the known holes of a lock's packages; it skips, from the first time it cannot."""
    missed = ""

    def ask(lock: Path) -> list[dict[str, Any]]:
        nonlocal missed
        if missed:
            pytest.skip(f"{missed} (found by an earlier lock)")
        command = ["pip-audit", "--disable-pip", "--require-hashes", "--requirement", str(lock)]
        command += ["--format=json", "--progress-spinner=off", "--timeout=10"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        except subprocess.TimeoutExpired:
            missed = "pip-audit did not end within a minute: the index answers too slowly"
        except ValueError:
            reason = f"pip-audit could not ask: {done.stderr.strip().splitlines()[-1:]}"
            # What else it may say concerns this lock alone.
            missed = reason if re.search("connect|timed out", done.stderr, re.IGNORECASE) else ""
            pytest.skip(reason)
        else:
            known = [one for one in found if "vulns" in one]
            if known:
                return known
            missed = "the list of known holes is out of reach: the index in use does not serve it"
        pytest.skip(missed)

    return ask


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_version_has_a_known_hole(audit: Callable[[Path], list[dict[str, Any]]], lock: Path) -> None:
    """pip-audit asks the package index's own list of them; skipped where that is out of reach."""
    known = audit(lock)
    assert [(one["name"], one["version"], [hole["id"] for hole in one["vulns"]]) for one in known if one["vulns"]] == []

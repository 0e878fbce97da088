"""What is installed: pinned by hash, and no version with a known hole; but for the post's stack, which has some."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "requirements"
#: The post's versions are what they are; the README says what is open in them.
LOCKS = sorted(path for path in ROOT.rglob("*.txt") if "post2017" not in path.parts)


@pytest.mark.parametrize("lock", sorted(ROOT.rglob("*.txt")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_requirement_is_pinned_by_hash(lock: Path) -> None:
    """A mirror that serves other files is refused."""
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    packages = [line for line in lines if line.strip() and not line.startswith("#")]
    assert packages
    assert [line for line in packages if "==" not in line or "--hash=sha256:" not in line] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_version_has_a_known_hole(lock: Path) -> None:
    """pip-audit asks the package index's own list of them; skipped where that is out of reach."""
    command = ["pip-audit", "--disable-pip", "--require-hashes", "--requirement", str(lock)]
    command += ["--format=json", "--progress-spinner=off", "--timeout=10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        pytest.skip(f"pip-audit could not ask: {done.stderr.strip().splitlines()[-1:]}")
    known = [one for one in found if "vulns" in one]
    assert [(one["name"], one["version"], [hole["id"] for hole in one["vulns"]]) for one in known if one["vulns"]] == []
    if not known:
        pytest.skip("the list of known holes is out of reach: the index in use does not serve it")

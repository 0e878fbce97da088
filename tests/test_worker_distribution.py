"""taskmill_worker as a distribution of its own."""

from __future__ import annotations

import subprocess
import sys
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]


def test_it_has_the_whole_package_and_needs_celery_alone(tmp_path: Path) -> None:
    """One wheel, for Python 2.7 too."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*build, f"--wheel-dir={tmp_path}", ROOT / "app" / "worker"], check=True, timeout=120)
    [wheel] = tmp_path.iterdir()
    assert wheel.name.endswith("-py2.py3-none-any.whl")
    with ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    modules = {name for name in files if name.endswith(".py")}
    [metadata] = [message_from_bytes(content) for name, content in files.items() if name.endswith("METADATA")]
    source = ROOT / "app" / "src"
    assert modules == {str(path.relative_to(source)) for path in (source / "taskmill_worker").rglob("*.py")}
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [line.partition(">")[0] for line in needed] == ["celery"]

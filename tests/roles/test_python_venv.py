"""How the role python_venv judges an environment, on made-up ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "roles" / "python_venv" / "files" / "inspect_venv.py"
DIGEST = "0123456789abcdef" * 4


def inspect(path: Path, digest: str = DIGEST) -> dict[str, Any]:
    """Return what the program says about the environment at `path`."""
    done = subprocess.run([sys.executable, PROGRAM, path, digest], capture_output=True, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An environment that is right: an interpreter, and one package of two files and some bytecode."""
    path = tmp_path / "venv"
    wanted = Path(inspect(path)["wanted"])
    packages = wanted / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (packages / "package-1.dist-info").mkdir(parents=True)
    record = "package.py,,\n../../../bin/package,,\n__pycache__/package.pyc,,\npackage-1.dist-info/RECORD,,\n"
    (packages / "package-1.dist-info" / "RECORD").write_text(record)
    (packages / "package.py").touch()
    (wanted / "bin").mkdir()
    (wanted / "bin" / "package").touch()
    (wanted / "bin" / "python").symlink_to(sys.executable)
    path.symlink_to(wanted)
    return path


def test_a_host_without_environment_gets_one(tmp_path: Path) -> None:
    """Where there is none, that is the problem."""
    said = inspect(tmp_path / "venv")
    assert said["problem"] == "there is none"
    assert said["wanted"].startswith(f"{tmp_path}/venv.d/{sys.implementation.cache_tag}-")


def test_a_whole_environment_is_right(path: Path) -> None:
    """Missing bytecode is no problem."""
    assert inspect(path)["problem"] == ""
    assert inspect(path)["leftovers"] == []


def test_other_requirements_ask_for_another_environment(path: Path) -> None:
    """The one in use stays until the new one is there, and is not among the leftovers."""
    said = inspect(path, "f" * 64)
    assert said["problem"] == "other requirements or another interpreter"
    assert said["wanted"] != str(path.resolve())
    assert said["leftovers"] == []


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("bin/python", "interpreter does not start"),
        ("bin/package", "bin/package is missing"),
        ("lib/*/site-packages/package.py", "package.py is missing"),
        ("lib/*/site-packages/package-1.dist-info/RECORD", "holds no package"),
    ],
)
def test_a_hole_is_found_and_mended_elsewhere(path: Path, file: str, problem: str) -> None:
    """What is missing is named, and the mended environment is another directory than the damaged one."""
    next(path.resolve().glob(file)).unlink()
    said = inspect(path)
    assert problem in said["problem"]
    assert said["wanted"] == f"{path.resolve()}b"


def test_what_interrupted_builds_left_is_listed(path: Path) -> None:
    """Neither the one in use nor the one that will be built counts as left over."""
    (path.parent / "venv.d" / "cpython-399-interrupted").mkdir()
    assert inspect(path)["leftovers"] == [f"{path.parent}/venv.d/cpython-399-interrupted"]
    (path / "bin" / "python").unlink()
    Path(f"{path.resolve()}b").mkdir()
    assert inspect(path)["leftovers"] == [f"{path.parent}/venv.d/cpython-399-interrupted"]

"""The role source_tree, applied to a directory of this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Play = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A package on the controller, with the bytecode that running it leaves."""
    path = tmp_path / "the source" / "package"
    (path / "inner" / "__pycache__").mkdir(parents=True)
    (path / "__init__.py").write_text('"""A package."""\n')
    (path / "inner" / "module.py").write_text("VALUE = 1\n")
    (path / "inner" / "picture.bin").write_bytes(bytes(range(256)))
    (path / "inner" / "__pycache__" / "module.cpython-311.pyc").write_bytes(b"0")
    (path / "start.sh").write_text("#!/bin/sh\n")
    (path / "start.sh").chmod(0o755)
    return path


@pytest.fixture
def mirror(play: Play, source: Path, tmp_path: Path) -> Callable[..., str]:
    """Return a function that applies the role to `tmp_path / "target"` and returns the last line of the output."""

    def run(*options: str) -> str:
        variables = {"source_tree_from": str(source), "source_tree_to": str(tmp_path / "target")}
        done = play([{"import_role": {"name": "source_tree"}}], variables, *options)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


def tree(path: Path) -> dict[str, bytes | None]:
    """Return the files of a directory with their content, and its directories."""
    return {str(entry.relative_to(path)): entry.read_bytes() if entry.is_file() else None for entry in path.rglob("*")}


def test_the_target_equals_the_source_but_for_bytecode(
    mirror: Callable[..., str], source: Path, tmp_path: Path
) -> None:
    """Content and the executable bit come over; a second run changes nothing."""
    assert "changed=1" in mirror()
    wanted = {name: content for name, content in tree(source).items() if "__pycache__" not in name}
    assert tree(tmp_path / "target") == wanted
    assert (tmp_path / "target" / "start.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "target" / "__init__.py").stat().st_mode & 0o777 == 0o644
    assert "changed=0" in mirror()


def test_check_mode_changes_nothing(mirror: Callable[..., str], tmp_path: Path) -> None:
    """A run with --check tells of the change and writes nothing, where there is no directory yet and where there is."""
    assert "changed=1" in mirror("--check")
    assert not (tmp_path / "target").exists()
    mirror()
    (tmp_path / "target" / "start.sh").write_text("other\n")
    assert "changed=1" in mirror("--check")
    assert (tmp_path / "target" / "start.sh").read_text() == "other\n"


def test_what_the_source_does_not_have_is_removed(mirror: Callable[..., str], source: Path, tmp_path: Path) -> None:
    """Files, directories and links go; the bytecode of what stays is left, and nothing outside is touched."""
    target = tmp_path / "target"
    mirror()
    wanted = tree(target)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (target / "old" / "__pycache__").mkdir(parents=True)
    (target / "old" / "gone.py").touch()
    (target / "link").symlink_to(outside)
    (target / "module.pyc").touch()
    (target / "__init__.pyc").touch()
    (target / "inner" / "__pycache__").mkdir()
    (target / "start.sh").unlink()
    (target / "start.sh").symlink_to(source / "start.sh")
    assert "changed=1" in mirror()
    assert tree(target) == {**wanted, "__init__.pyc": b"", "inner/__pycache__": None}
    assert not (target / "start.sh").is_symlink()
    assert (outside / "kept").exists()
    assert "changed=0" in mirror()


def test_the_difference_is_shown_file_by_file(mirror: Callable[..., str], source: Path) -> None:
    """With --diff, a changed line stands below the file's name."""
    mirror()
    (source / "inner" / "module.py").write_text("VALUE = 2\n")
    said = mirror("--diff", "--check")
    assert "--- before: inner/module.py" in said
    assert "-VALUE = 1\n+VALUE = 2\n" in said
    assert "__init__" not in said


def test_drift_is_set_right(mirror: Callable[..., str], tmp_path: Path) -> None:
    """A mode that has changed on the host is set back."""
    mirror()
    (tmp_path / "target" / "__init__.py").chmod(0o666)
    assert "changed=1" in mirror()
    assert (tmp_path / "target" / "__init__.py").stat().st_mode & 0o777 == 0o644


def test_a_source_that_is_not_there_is_named(play: Play, tmp_path: Path) -> None:
    """The message has the path; the target stays as it is."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").touch()
    variables = {"source_tree_from": str(tmp_path / "nothing"), "source_tree_to": str(target)}
    done = play([{"import_role": {"name": "source_tree"}}], variables)
    assert done.returncode != 0
    assert "There is no directory" in done.stdout
    assert (target / "file").exists()


def test_an_empty_source_empties_nothing(play: Play, tmp_path: Path) -> None:
    """A directory without a file is taken for a mistake."""
    target, empty = tmp_path / "target", tmp_path / "empty"
    target.mkdir()
    empty.mkdir()
    (target / "file").touch()
    done = play(
        [{"import_role": {"name": "source_tree"}}], {"source_tree_from": str(empty), "source_tree_to": str(target)}
    )
    assert done.returncode != 0
    assert "holds no file" in done.stdout
    assert (target / "file").exists()

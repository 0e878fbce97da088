"""Trees that source_tree keeps equal to the controller's; side_effect.yml has changed both, and applied it again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

SOURCE = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "the source"
TARGET = "/opt/scenario/src/package"


def wanted(*left_out: str) -> dict[str, str]:
    """Return the digest of every file of the source, by its path, but for bytecode and what is left out."""
    return {
        str(path.relative_to(SOURCE)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in SOURCE.rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".pyo"} and path.name not in left_out
    }


def there(host: Any, target: str) -> dict[str, str]:
    """Return the digest of every file of a target, by its path."""
    said = host.check_output(f"cd {target} && find . -type f -exec sha256sum {{}} +").splitlines()
    return {line[66:].removeprefix("./"): line[:64] for line in said}


def modes(host: Any, target: str, kind: str) -> dict[str, str]:
    """Return owner, group and mode of everything of a kind below a target, by its path."""
    said = host.check_output(f"cd {target} && find . -type {kind} -printf '%u:%g %m %P\\n'").splitlines()
    return {line.split(" ", 2)[2]: " ".join(line.split(" ", 2)[:2]) for line in said}


def test_every_file_of_the_source_is_there_unchanged(host: Any) -> None:
    """Text, bytes, a name with a space, a link's content; and no file besides, but for bytecode of the host."""
    found = there(host, TARGET)
    assert found.pop("inner/__pycache__/kept.pyc")
    assert found == wanted()
    assert len(found) >= 5
    assert host.check_output(f"find {TARGET} -type l") == ""


def test_what_the_source_does_not_have_any_more_is_gone(host: Any) -> None:
    """A file and a whole directory that were there the first time, and what was put there behind Ansible's back."""
    first = host.file("/root/first-time").content_string.split("\n")
    assert {"./old/gone.py", "./inner/gone.bin"} <= set(first)
    for name in ("old", "inner/gone.bin", "stranger", "elsewhere"):
        assert not host.file(f"{TARGET}/{name}").exists
    assert host.file("/root/elsewhere/kept").exists


def test_directories_come_over_even_when_empty(host: Any) -> None:
    """As the source has them."""
    assert host.file(f"{TARGET}/empty").is_directory


def test_everything_is_roots_and_readable(host: Any) -> None:
    """Whatever the modes on the controller are: 0644, 0755 where the owner may execute it, 0755 for directories."""
    found = modes(host, TARGET, "f")
    executable = {name for name, mode in found.items() if mode == "root:root 755"}
    assert executable == {"start.sh", "inner/linked.sh", "inner/started.sh"}
    assert {mode for name, mode in found.items() if not name.endswith((".sh", ".pyc"))} == {"root:root 644"}
    assert {mode for name, mode in modes(host, TARGET, "d").items() if "__pycache__" not in name} == {"root:root 755"}
    assert host.check_output(f"setpriv --reuid=nobody --regid=nogroup --clear-groups {TARGET}/start.sh") == "again"


def test_bytecode_stays_on_the_controller(host: Any) -> None:
    """Neither the source's compiled files nor its folders of them were copied."""
    names = host.file("/root/first-time").content_string
    assert "__init__.py" in names
    assert ".pyo" not in names
    assert ".pyc" not in names
    assert "__pycache__" not in names


def test_what_is_excluded_stays_on_the_controller(host: Any) -> None:
    """Patterns of one's own, in the place of those for bytecode."""
    found = there(host, "/opt/scenario/other")
    assert {name for name in found if name.endswith((".pyc", ".pyo"))} >= {"compiled.pyc", "compiled.pyo"}
    assert {name: digest for name, digest in found.items() if not name.endswith((".pyc", ".pyo"))} == wanted(
        "draft one.txt"
    )
    assert not host.file("/opt/scenario/other/empty").exists


def test_check_mode_changed_nothing(host: Any) -> None:
    """What it was asked about between the two times was still there after it."""
    assert host.file("/root/checked").content_string == "drifted\n"
    assert host.file(f"{TARGET}/__init__.py").content == (SOURCE / "__init__.py").read_bytes()

"""What the role celery_worker takes for its own on a host, and removes when it is no longer wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from python_file import load

FILES = Path(__file__).parents[2] / "roles" / "celery_worker" / "files"
LIMITS = "#\n# Ansible managed\n#\n\n[Service]\nMemoryMax=1G\n"


@pytest.fixture(scope="module")
def inspect() -> Any:
    """Return the script that looks at a host, as a module."""
    return load(FILES / "inspect_installed.py")


def environment(name: str | None) -> str:
    """Return an environment file as the role writes it, of a worker; ``None`` for one of an earlier version."""
    mark = f"# Environment of the worker {name}.\n" if name else ""
    return f'#\n# Ansible managed\n#\n{mark}CELERY_WORKER_OPTIONS="--queues=red"\nCELERY_WORKER_DIGEST=0123\n'


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (environment("w1"), True),
        (environment(None), True),
        (environment("w2"), False),
        ("CELERY_BEAT_SCHEDULE=hourly\n", False),
        ("# Environment of the worker w1.\nOTHER=1\n", False),
        ("", False),
    ],
    ids=[
        "of this version",
        "of an earlier one",
        "copied from another worker's",
        "of another unit",
        "no digest",
        "empty",
    ],
)
def test_only_what_the_role_has_written_makes_a_worker(inspect: Any, tmp_path: Path, text: str, own: bool) -> None:
    """A file in /etc/celery is a worker's when it says so by itself; what is not is never removed."""
    (tmp_path / "w1.env").write_text(text)
    (tmp_path / "broker-ca.pem").write_text("")
    (tmp_path / "nowhere.env").symlink_to("nowhere")
    (tmp_path / "folder.env").mkdir()
    assert inspect.workers(str(tmp_path), ["w1"]) == (["w1"] if own else [])


def test_a_copy_by_hand_of_an_earlier_versions_file_makes_no_worker(inspect: Any, tmp_path: Path) -> None:
    """It has no mark; but what the role has installed starts at boot."""
    for name in ("w1", "beat"):
        (tmp_path / f"{name}.env").write_text(environment(None))
    assert inspect.workers(str(tmp_path), ["w1"]) == ["w1"]


@pytest.mark.parametrize(
    ("unit", "file", "text", "own"),
    [
        ("celery-worker@w1", "limits.conf", LIMITS, True),
        ("celery-worker@w1", "limits.conf", LIMITS.replace("MemoryMax", "MemoryLimit"), True),
        ("celery-worker@w1", "limits.conf", LIMITS + "CPUQuota=50%\n", False),
        ("celery-worker@w1", "limits.conf", "[Service]\nMemoryMax=1G\n", False),
        ("celery-worker@w1", "limits.conf", "", False),
        ("celery-worker@w1", "override.conf", LIMITS, False),
        ("celery-worker@", "limits.conf", LIMITS, False),
        ("celery-worker@", "override.conf", LIMITS, False),
    ],
)
def test_only_the_limits_that_the_role_has_written_are_its_own(
    inspect: Any, tmp_path: Path, unit: str, file: str, text: str, own: bool
) -> None:
    """A drop-in by `systemctl edit`, one for all workers, or one by hand is somebody else's."""
    directory = tmp_path / f"{unit}.service.d"
    directory.mkdir()
    (directory / file).write_text(text)
    assert inspect.limited(str(tmp_path)) == (["w1"] if own else [])

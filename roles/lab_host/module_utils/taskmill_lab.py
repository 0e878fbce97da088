"""What this role's modules share: commands, locks, mounts and the processes of a lab host."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Iterator

# `su` without a login leaves them out, and ip and nft are there.
os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
# What lab hosts are made of is read by all their users, whoever makes them.
os.umask(0o022)

SYSTEMD_RUN = Path("/run/systemd/system")
"""Exists where PID 1 is systemd (sd_booted(3))."""


class LabError(Exception):
    """Something a person has to mend; the text says what, where and how."""


def run(*command: str, stdin: str | None = None, check: bool = True) -> str:
    """Return a command's standard output; raise LabError with what it said if it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"`{' '.join(command)}` ended with {done.returncode}: {said}")
    return done.stdout


def succeeds(*command: str) -> bool:
    """Tell whether a command ends with 0."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def wait_until(condition: Callable[[], bool], seconds: float, pause: float = 0.1) -> bool:
    """Ask `condition()` until it is true; False when the deadline passes first."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


@contextlib.contextmanager
def locked(path: Path, seconds: float = 900, shared: bool = False) -> Iterator[None]:
    """Hold the lock file at `path`; labs that start together wait for each other here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("a") as handle:

        def taken() -> bool:
            try:
                fcntl.flock(handle, how | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not wait_until(taken, seconds):
            raise LabError(f"another run has held {path} for {seconds:.0f} s: see `fuser {path}`")
        yield


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; {} when there is none or it was cut off."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(mode)
    new.replace(path)


def fingerprint(data: Any) -> str:
    """Return a short digest of plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def make_key(path: Path, comment: str) -> None:
    """Make a pair of SSH keys: `path` and, beside it, the public one."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path))


def inside(root: Path, path: str) -> Path:
    """Return where `path`, absolute in a lab host, lies on this machine."""
    return root / path.lstrip("/")


def os_release() -> dict[str, str]:
    """Return the machine's os-release(5)."""
    lines = Path("/etc/os-release").read_text().splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def mounts_below(path: Path) -> list[str]:
    """Return the mount points below `path`, deepest first."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{path}/")), reverse=True)


def remove_tree(path: Path) -> None:
    """Delete a directory, but never through something that is mounted in it."""
    if path.is_dir():
        for point in mounts_below(path):
            run("umount", "--lazy", point)
        shutil.rmtree(path)


def _cgroup_mounts() -> dict[str, Path]:
    """Return where the memory controller (v1 or v2) and systemd's own hierarchies are mounted."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found["unified"] = Path(point)
        elif kind == "cgroup" and "memory" in options.split(","):
            found["memory"] = Path(point)
        elif kind == "cgroup" and "name=systemd" in options.split(","):
            found["systemd"] = Path(point)
    return found


class Group:
    """The control group of one lab host, where no systemd on this machine could give it one."""

    def __init__(self, host_id: str) -> None:
        """Name the directories; nothing is created yet."""
        self.mounts = _cgroup_mounts()
        self.directories = [point / "taskmill-lab" / host_id for point in self.mounts.values()]

    def create(self, memory: int) -> None:
        """Make the group and limit its memory, in bytes."""
        for directory in self.directories:
            directory.mkdir(parents=True, exist_ok=True)
        if "memory" in self.mounts:
            limits = {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory}
        else:
            limits = {"memory.max": memory, "memory.swap.max": 0}
            self._delegate()
        for directory in self.directories:
            for name, value in limits.items():
                if (directory / name).exists():
                    (directory / name).write_text(str(value))
        if not any((directory / next(iter(limits))).exists() for directory in self.directories):
            raise LabError(
                "this machine has no memory controller, so the lab host's memory cannot be limited:"
                " mount cgroup v2, or the memory controller of v1, writable"
            )

    def _delegate(self) -> None:
        """Hand v2's memory controller down to the group's parent and to the group."""
        top = self.mounts["unified"]
        try:
            (top / "cgroup.subtree_control").write_text("+memory")
            (self.directories[0].parent / "cgroup.subtree_control").write_text("+memory")
        except OSError as error:
            raise LabError(f"{top}'s memory controller cannot be turned on: {error}") from error

    def enter(self) -> None:
        """Move the calling process into the group."""
        for directory in self.directories:
            (directory / "cgroup.procs").write_text(str(os.getpid()))

    def processes(self) -> set[int]:
        """Return the processes in the group and in the groups that the lab host made in it."""
        pids: set[int] = set()
        for directory in self.directories:
            for listing in directory.rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    pids.update(int(pid) for pid in listing.read_text().split())
        return pids - {0, os.getpid()}

    def remove(self) -> None:
        """Delete the emptied group, and the parent when it was the last one."""
        for directory in self.directories:
            for each in (*sorted(directory.rglob("*/"), reverse=True), directory, directory.parent):
                if each.is_dir():
                    with contextlib.suppress(OSError):
                        each.rmdir()

    def exists(self) -> bool:
        """Tell whether anything of the group is left."""
        return any(directory.exists() for directory in self.directories)


def boot_id() -> str:
    """Return what tells this boot of the machine from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def started_at(pid: int) -> str:
    """Return a process's start time in clock ticks; "" when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def is_running(record: dict[str, Any]) -> bool:
    """Tell whether the process in a run record is alive and the very one that was recorded."""
    pid = record.get("pid", 0)
    return bool(pid) and record.get("boot_id") == boot_id() and started_at(pid) == record.get("started_at")


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes that may be gone by now."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

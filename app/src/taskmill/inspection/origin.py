"""Where an app's files come from: a directory or a file of this machine, a wheel, or a repository of git."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from taskmill.inspection.causes import last_lines
from taskmill.inspection.environment import run
from taskmill.inspection.requirements import Requirements
from taskmill.model.errors import TaskmillError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FETCH_SECONDS = 600
#: As pip has it, and the role celery_app; without ``@REF`` it is the commit that is fetched now.
ADDRESS = re.compile(
    r"git\+(?P<url>[a-z]+://[^/]*/[^@#]+)(?:@(?P<ref>[^@#-][^@#]*))?(?:#(?:.*&)?subdirectory=(?P<directory>[^&]+).*)?"
)
#: A user or a password of HTTP, or a password of anything else.
SECRET = re.compile(r"git\+(https?://[^/]*@|[a-z]+://[^/]*:[^/@]*@)")
MEANT = "git+https://HOST/PATH@REF, with #subdirectory=DIRECTORY behind it where the app is not at its root"


@dataclass(frozen=True)
class Origin:
    """Where an app's files are looked at, and which they are on other machines."""

    #: The directory or the file that is looked at; a directory for a while, where the app is a wheel or a repository.
    path: Path
    wheel: Path | None = None
    #: The address of a repository with its reference, and the directory that it was fetched to.
    repository: tuple[str, Path] | None = None
    #: What a wheel says that it needs.
    requirements: Requirements | None = None

    def stays(self, file: Path) -> bool:
        """Return whether a file is there after this look, too."""
        return self.repository is None or not file.is_relative_to(self.repository[1])

    def source(self, root: Path) -> str:
        """Return what ``app_source`` names, of an app that is imported from ``root``; raise ``TaskmillError``."""
        if self.wheel is not None:
            return str(self.wheel)
        if self.repository is None:
            return str(self.path if self.path.is_file() and self.path.parent == root else root)
        address, top = self.repository
        if not root.is_relative_to(top):
            raise TaskmillError(
                f"{address} is a package itself, from its root on, and hosts import what a repository has in it: clone "
                f"it to a directory that has the package's name, and give that directory"
            )
        return address if root == top else f"{address}#subdirectory={root.relative_to(top)}"


@contextmanager
def opened(app: str, tell: Callable[[str], None]) -> Iterator[Origin]:
    """Yield where the files of an app are, and tell what is done; raise ``TaskmillError`` where they cannot be had."""
    if not app.startswith("git+") and not app.endswith(".whl"):
        if "://" in app or re.match(r"[\w.-]+@[\w.-]+:", app):
            raise TaskmillError(f"{without_secret(app)} is no directory: give an address of git as {MEANT}")
        yield Origin(Path(os.path.abspath(Path(app).expanduser())))  # noqa: PTH100  # links stay as they were given
        return
    with tempfile.TemporaryDirectory(prefix="taskmill-inspect-") as folder:
        yield fetched(app, Path(folder), tell) if app.startswith("git+") else unpacked(Path(app), Path(folder))


def without_secret(address: str) -> str:
    """Return an address without the user and the password in it."""
    return re.sub(r"//[^/@]*@", "//", address)


def fetched(app: str, folder: Path, tell: Callable[[str], None]) -> Origin:
    """Fetch a repository to a folder, with what git here knows of keys and passwords."""
    if SECRET.match(app):
        raise TaskmillError(
            f"{without_secret(app)} was given with a user or a password in it, which logs and lists of processes show: "
            f"leave them to git's own settings (git help credentials)"
        )
    parts = ADDRESS.fullmatch(app)
    if parts is None:
        raise TaskmillError(f"{app} is no address of git: give {MEANT}")
    if shutil.which("git") is None:
        raise TaskmillError(f"{app} cannot be fetched, as git is not installed here: apt-get install git")
    url, ref, directory = parts["url"], parts["ref"], (parts["directory"] or "").strip("/")
    # Of its name, since messages show it.
    top = folder / (Path(url).name.removesuffix(".git") or "app")
    tell(f"fetching {url}")

    def git(*words: str) -> str:
        ended = run(
            ["git", *words],
            environment={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            directory=top if top.exists() else folder,
            seconds=FETCH_SECONDS,
            tell=lambda seconds: tell(f"fetching it has taken {seconds:.0f} s so far"),
        )
        if ended.code != 0:
            late = f" within {FETCH_SECONDS} s" if ended.code is None else ""
            raise TaskmillError(
                f"{app} cannot be fetched{late}; the last lines of git:\n{last_lines(ended.output)}\n  "
                f"`git clone {url}` and `git checkout {ref or 'HEAD'}` have to work here first"
            )
        return ended.output.strip()

    git("clone", "--quiet", url, str(top))
    if ref:
        git("checkout", "--quiet", ref)
    git("submodule", "--quiet", "update", "--init", "--recursive")
    address = f"git+{url}@{ref or git('rev-parse', 'HEAD')}"
    if not (top / directory).is_dir() or not (top / directory).resolve().is_relative_to(top.resolve()):
        raise TaskmillError(f"{address} has no directory {directory}")
    return Origin(top / directory, repository=(address, top))


def unpacked(wheel: Path, folder: Path) -> Origin:
    """Unpack a wheel to a folder."""
    wheel = wheel.expanduser().absolute()
    top = folder / wheel.name.partition("-")[0]
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(top)
        (described,) = top.glob("*.dist-info/METADATA")
    except FileNotFoundError as error:
        raise TaskmillError(f"{wheel} is not there: give a wheel, or the directory that holds your app") from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise TaskmillError(f"{wheel} is no wheel: build it anew, as by `pip wheel --no-deps DIRECTORY`") from error
    said = HeaderParser().parsestr(described.read_text()).get_all("Requires-Dist", [])
    # What belongs to an extra is asked for by who installs it.
    needs = [line for line in said if not re.search(r"\bextra\s*==", line)]
    text = "".join(f"{line}\n" for line in needs)
    return Origin(top, wheel=wheel, requirements=Requirements(wheel, 0, text, as_it_is=False))

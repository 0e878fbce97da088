"""Ansible lookup: a requirements file of the controller, with all that it includes, as a host can install it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: requirements_files
short_description: Read a requirements file and all that it includes
description:
  - What C(-r) includes takes the place of its line. What C(-c) names becomes a file of its own.
  - Beside requirements with hashes, those from a repository, which cannot have any, stand in a file of their own.
  - C(${NAME}) is an environment variable of the controller, as pip has it. The user and the password of a git
    repository are taken out of its address, which the arguments of git would show.
  - What a host could not install is told as a fault, with its file and line.
options:
  _terms:
    description: Paths on the controller. An empty one stands for no requirement.
    required: true
"""

RETURN = """
_raw:
  description:
    - For each path a dictionary. C(files) has the texts by their names, C(requirements.txt) first, and C(text) is all
      of them, for a digest.
    - C(hashed) tells whether requirements have hashes, C(git) whether one comes from a git repository.
    - C(credentials) has the addresses of repositories with user and password, as C(git credential-store) keeps them.
    - C(faults) lists what is wrong.
  type: list
  elements: dict
"""

MAIN = "requirements.txt"
#: Requirements from a repository, beside others with hashes.
UNHASHED = "unhashed.txt"
INCLUDE = re.compile(r"^(?:-(?P<short>[rc])\s*|--(?P<long>requirement|constraint)(?:\s*=\s*|\s+))(?P<path>\S.*)$")
REPOSITORY = re.compile(r"(?:^|@\s*|^-e\s*|^--editable(?:\s*=\s*|\s+))(?P<kind>git|hg|svn|bzr)\+")
#: A path, by itself or behind a name; or a directory of packages.
LOCAL = re.compile(
    r"^(?:(?:-e\s*|--editable(?:\s*=\s*|\s+))?(?:[./~]|file:)"
    r"|[\w.\[\],-]+\s*@\s*file:"
    r"|(?!\S*://)\S+\.(?:whl|zip|tar\.gz)(?:\s|$)"
    r"|(?:-f\s*|--find-links(?:\s*=\s*|\s+))(?![a-z]+://))"
)
#: A git repository with a user, of which the address alone is kept.
OF_USER = re.compile(r"(?P<scheme>git\+https?://)(?P<user>[^/\s]*)@(?P<place>[^\s@#;]+)")
#: As pip knows them.
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
COMMENT = re.compile(r"(?:^|\s)#.*$", re.MULTILINE)


@dataclass(frozen=True)
class Line:
    """A line as pip joins it: as it was written, and what it says without comments and line breaks."""

    file: Path
    number: int
    written: str
    says: str

    @property
    def place(self) -> str:
        """Where it stands, for a message."""
        return f"{self.file}, line {self.number}"

    @property
    def shown(self) -> str:
        """What it says, without the user and the password of an address, for a message."""
        return re.sub(r"://[^/\s]+@", "://***@", self.says)

    @property
    def is_requirement(self) -> bool:
        """Whether it asks for a package, and is no option."""
        return bool(self.says) and not re.match(r"-(?!e\s|-editable)", self.says)

    @property
    def has_hash(self) -> bool:
        """Whether a hash of the package stands with it."""
        return bool(re.search(r"\s--hash[=\s]", self.says))


@dataclass
class Reading:
    """What was read so far: the lines of each file, by the name that a host has it under, and what is wrong."""

    files: dict[str, list[Line]] = field(default_factory=lambda: {MAIN: []})
    faults: list[str] = field(default_factory=list)
    seen: dict[Path, str] = field(default_factory=dict)
    credentials: list[str] = field(default_factory=list)

    def read(self, path: Path, name: str, asked: str = "") -> None:
        """Add the lines of a file to those of `name`; what it includes comes in the place of the line."""
        if path.resolve() in self.seen:
            return
        self.seen[path.resolve()] = name
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.faults.append(f"{asked or path}: {path} cannot be read ({getattr(error, 'strerror', '') or error}).")
            return
        for line in map(self.whole, lines_of(path, text)):
            include = INCLUDE.match(line.says)
            if include is None:
                self.files[name].append(line)
                continue
            other = path.parent / include["path"].strip("\"'")
            if (include["short"] or include["long"])[0] == "r":
                self.read(other, name, line.place)
            else:
                self.constrain(other, name, line)

    def whole(self, line: Line) -> Line:
        """Return a line with the values of its variables, and without the user and password of a git repository."""
        names = set(VARIABLE.findall(line.says))
        self.faults += [
            f"{line.place}: ${{{name}}} is an environment variable that is not set on this machine. Set it where "
            f"ansible-playbook is started, as in {name}=... ansible-playbook site.yml."
            for name in sorted(names - os.environ.keys())
        ]
        written, says = (
            VARIABLE.sub(lambda found: os.environ.get(found[1], found[0]), text) for text in (line.written, line.says)
        )
        for found in OF_USER.finditer(says):
            user = found["user"] if ":" in found["user"] else f"{found['user']}:"
            self.credentials.append(f"{found['scheme'].removeprefix('git+')}{user}@{found['place']}")
        bare = r"\g<scheme>\g<place>"
        return Line(line.file, line.number, OF_USER.sub(bare, written), OF_USER.sub(bare, says))

    def constrain(self, other: Path, name: str, line: Line) -> None:
        """Make a file of constraints one of its own, to which the line now leads."""
        known = self.seen.get(other.resolve())
        own = known or f"constraints-{len(self.files)}.txt"
        self.files[name].append(Line(line.file, line.number, f"-c {own}\n", f"-c {own}"))
        if known is None:
            self.files[own] = []
            self.read(other, own, line.place)


def lines_of(path: Path, text: str) -> list[Line]:
    """Cut a text into the lines that pip makes of it."""
    found: list[tuple[int, str]] = []
    goes_on = False
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if goes_on:
            found[-1] = (found[-1][0], found[-1][1] + line)
        else:
            found.append((number, line))
        goes_on = line.rstrip("\r\n").endswith("\\") and not line.lstrip().startswith("#")
    return [
        Line(path, number, line, " ".join(re.sub(r"\\\r?\n", " ", COMMENT.sub("", line)).split()))
        for number, line in found
    ]


def complaints(lines: list[Line], hashed: bool) -> list[str]:
    """Return what is wrong with requirements: those that a host does not have, and those that pip would refuse."""
    faults = [
        f"{line.place}: '{line.shown}' is a path on this machine, which the hosts do not have. Take it out: the app's "
        f"own source is copied without it, and another package may be a wheel on an index, or come from git."
        for line in lines
        if LOCAL.match(line.says)
    ]
    return faults + [
        f"{line.place}: '{line.shown}' has no hash, and others have one, so that pip refuses it. Give a hash to all of "
        f"them, as `uv pip compile --generate-hashes` does, or to none."
        for line in lines
        if hashed
        and line.is_requirement
        and not (line.has_hash or REPOSITORY.search(line.says) or LOCAL.match(line.says))
    ]


def gather(path: str) -> dict[str, Any]:
    """Return what stands in the documentation above for one path."""
    reading = Reading()
    if path:
        reading.read(Path(path), MAIN)
    lines = reading.files[MAIN]
    hashed = any(line.has_hash or line.says == "--require-hashes" for line in lines)
    loose = [line for line in lines if hashed and line.is_requirement and REPOSITORY.search(line.says)]
    files = {name: [line for line in kept if line not in loose] for name, kept in reading.files.items()}
    if loose:
        files[UNHASHED] = loose
    # The last line of an included file may have no end.
    texts = {name: "".join(line.written.rstrip("\n") + "\n" for line in kept) for name, kept in files.items()}
    repositories = [found for line in lines if (found := REPOSITORY.search(line.says))]
    return {
        "files": texts,
        "text": "\n".join(texts.values()).rstrip(),
        "hashed": hashed,
        "git": any(found["kind"] == "git" for found in repositories),
        "credentials": sorted(set(reading.credentials)),
        "faults": reading.faults + complaints(lines, hashed),
    }


class LookupModule(LookupBase):
    """What Ansible looks for."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[dict[str, Any]]:
        """Return what stands in each requirements file."""
        del variables
        return [gather(str(term)) for term in terms]

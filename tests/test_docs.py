"""What pages name is there: files, headings, commands, playbooks, variables. What is generated is current."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner
from python_file import load

from taskmill.cli import cli

ROOT = Path(__file__).parents[1]
#: Folders of the project, by which a path is told from other words; `benchmarks` may be absent.
FOLDERS = [
    "app",
    "benchmarks",
    "docs",
    "examples",
    "inventory",
    "molecule",
    "playbooks",
    "plugins",
    "requirements",
    "roles",
    "tests",
]
#: Stand for something of the reader's own.
PLACEHOLDERS = re.compile(r"mine|[A-Z]{2,}|[<>{}$…]|\.\.\.")
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(`+)(?P<code>.+?)\1", re.DOTALL)


def ours(*patterns: str) -> set[Path]:
    """Return the files and folders of the project that a pattern fits: none of an environment, a cache or a run."""
    tops = [path for path in ROOT.iterdir() if path.name in FOLDERS]
    found = {path for pattern in patterns for top in tops for path in [*ROOT.glob(pattern), *top.rglob(pattern)]}
    return {path for path in found if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)}


PAGES = sorted(ours("*.md"))
#: Of the benchmarks too.
ROLES = {path.name for path in ours("roles/*") if path.is_dir()}
#: The changelog names what has gone.
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]


def named(path: Path) -> str:
    """Return a page's name as the id of a test."""
    return str(path.relative_to(ROOT))


@cache
def code(page: Path) -> list[str]:
    """Return what is set as code on a page: each line of a block, each span."""
    text = page.read_text()
    lines = [line.strip() for block in FENCE.findall(text) for line in block.splitlines()[1:-1]]
    spans = [" ".join(span["code"].split()) for span in SPAN.finditer(FENCE.sub("", text))]
    return [re.sub(r"^[#$] ", "", entry) for entry in lines + spans]


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    known: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", FENCE.sub("", page.read_text()), re.MULTILINE):
        text = LINK.sub(lambda link: link[0].partition("]")[0].lstrip("!["), heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in known:
            number += 1
        known.add(anchor)
    return known


@cache
def words_of_ansible() -> set[str]:
    """Return every word in the YAML files and templates of the playbooks and roles, without names that have gone."""
    paths = [path for path in ours("*.yml", "*.j2") if path.is_file() and path.name != "renamed-variables.yml"]
    return {word for path in paths for word in re.findall(r"\w+", path.read_text())}


def makefile_of(page: Path, command: str) -> str:
    """Return the Makefiles that a command on a page may be for: that of `-C FOLDER`, or those of the folders above."""
    if folder := re.search(r"-C (\S+)", command):
        return (ROOT / folder[1] / "Makefile").read_text()
    nearest = [parent / "Makefile" for parent in page.parents if parent == ROOT or ROOT in parent.parents]
    return "".join(path.read_text() for path in nearest if path.is_file())


def makes(page: Path) -> Iterator[tuple[str, str]]:
    """Yield each `make TARGET` of a page: the whole command, and the target."""
    for entry in code(page):
        for command in re.finditer(r"(?:^|&& )(?:time )?make((?: -C \S+)?(?: +[^\s&|;#`]+)*)", entry):
            words = [word for word in re.sub(r"-C \S+", "", command[1]).split() if "=" not in word]
            # The first word that is no assignment; the rest may be part of a quoted value.
            if words and re.fullmatch(r"[a-z][a-z-]*(?:@\w+)?", words[0]):
                yield command[0], words[0]


def is_command(name: str) -> bool:
    """Return whether the program has a command of that name, shown in its help or not."""
    return CliRunner().invoke(cli, [name, "--help"]).exit_code == 0


def test_there_are_pages() -> None:
    """The tests below would pass if none were found."""
    assert {"README.md", "CONTRIBUTING.md", "docs/architecture.md", "roles/rabbitmq/README.md"} <= set(
        map(named, PAGES)
    )


def test_the_page_of_variables_is_current() -> None:
    """`make docs` writes it from the files that define the variables; whoever changes one runs it again."""
    variables = load(ROOT / "docs" / "variables.py")
    assert (ROOT / "docs" / "variables.md").read_text() == variables.page(), "Run `make docs`."


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Each relative link of a page leads to a file, and where it names a heading, to one that is there."""
    text = SPAN.sub("", FENCE.sub("", page.read_text()))
    broken = []
    for target in (link["target"] for link in LINK.finditer(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        leads_to = (page.parent / path).resolve() if path else page
        if not leads_to.exists() or (anchor and anchor not in anchors(leads_to)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", CURRENT, ids=named)
def test_every_make_target_exists(page: Path) -> None:
    """Each `make TARGET` is a target of the Makefile, and each variable that it is given stands in the Makefile."""
    unknown = []
    for command, target in makes(page):
        makefile = makefile_of(page, command)
        targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
        patterns = re.findall(r"^([a-z-]+)%:", makefile, re.MULTILINE)
        if target not in targets and not any(target.startswith(pattern) for pattern in patterns):
            unknown.append(command)
        variables = re.findall(r"(?<![\w-])([A-Z_]+)=", command)
        unknown += [f"{name} of {command}" for name in variables if not re.search(rf"\b{name}\b", makefile)]
    assert unknown == []


@pytest.mark.parametrize("page", CURRENT, ids=named)
def test_every_scenario_exists(page: Path) -> None:
    """Each scenario that is named to `make test-role` or to Molecule is there."""
    commands = re.compile(r"\b(?:test-role ROLE=|molecule \w+ (?:-s|--scenario-name) )([a-z][\w-]*)")
    names = {name for entry in code(page) for name in commands.findall(entry)}
    scenarios = {path.parent.name for path in ours("molecule/*/molecule.yml")}
    assert names - scenarios == set()


@pytest.mark.parametrize("page", CURRENT, ids=named)
def test_every_playbook_exists(page: Path) -> None:
    """Each playbook that a page names is there, seen from the root or from the page's own folder."""
    paths = re.findall(r"(?<![\w/.-])((?:[\w-]+/)*playbooks/[\w-]+\.yml)", page.read_text())
    bases = [ROOT, *(parent for parent in page.parents if ROOT in parent.parents)]
    assert sorted(path for path in set(paths) if not any((base / path).is_file() for base in bases)) == []


@pytest.mark.parametrize("page", CURRENT, ids=named)
def test_every_path_exists(page: Path) -> None:
    """Each path below a folder of the project that is set as code is there; `*` and `{a,b}` stand for several."""
    start = re.compile(rf"^(?:{'|'.join(FOLDERS)})/[\w./*-]+$")
    paths = {entry for entry in code(page) if start.match(entry) and not PLACEHOLDERS.search(entry)}
    bases = [ROOT, *(parent for parent in page.parents if ROOT in parent.parents)]
    assert sorted(path for path in paths if not any(next(base.glob(path.rstrip("/")), None) for base in bases)) == []


@pytest.mark.parametrize("page", CURRENT, ids=named)
def test_every_command_of_taskmill_exists(page: Path) -> None:
    """Each `taskmill COMMAND` is a command that the installed program has."""
    used = {name for entry in code(page) for name in re.findall(r"(?:^|&& )taskmill ([a-z][\w-]*)", entry)}
    assert sorted(name for name in used if not is_command(name)) == []


@pytest.mark.parametrize("page", CURRENT, ids=named)
def test_every_extra_variable_exists(page: Path) -> None:
    """Each variable that a command sets with `-e` is one that a playbook or a role uses."""
    used = {name for entry in code(page) for name in re.findall(r"(?:^| )-e ([a-z_]\w*)=", entry)}
    assert used - words_of_ansible() == set()


@pytest.mark.parametrize("page", CURRENT, ids=named)
def test_every_test_exists(page: Path) -> None:
    """Each file of tests that a page names is there."""
    used = {name for entry in code(page) for name in re.findall(r"^(test_\w+)(?:\.py)?$", entry)}
    assert used - {path.stem for path in ours("test_*.py")} == set()


@pytest.mark.parametrize("page", [page for page in CURRENT if page.name != "variables.md"], ids=named)
def test_every_variable_exists(page: Path) -> None:
    """Each variable that is set as code, told by the prefix of a role or topic, is one that a playbook or role uses."""
    prefixes = [*ROLES, "app", "break", "capacity", "dead_letters", "load", "pyspy", "tls", "tune"]
    variable = re.compile(rf"(?:{'|'.join(prefixes)})_[a-z_]*[a-z]")
    used = {entry for entry in code(page) if variable.fullmatch(entry)}
    # Roles, modules of Python and a setting of Celery are named like that too.
    others = ROLES | {path.stem for path in ours("*.py")} | {"redis_max_connections"}
    assert used - words_of_ansible() - others == set()

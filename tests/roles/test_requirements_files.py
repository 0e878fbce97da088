"""What the role python_venv makes of requirements files: includes, hashes, and what no host could install."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from python_file import load

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "roles/python_venv/lookup_plugins/requirements_files.py"
HASH = "--hash=sha256:0123"


@pytest.fixture(scope="module")
def gather() -> Callable[[str], dict[str, Any]]:
    """Return the function of the lookup that reads one file."""
    module = load(PLUGIN)
    found: Callable[[str], dict[str, Any]] = module.gather
    return found


@pytest.fixture
def given(gather: Callable[[str], dict[str, Any]], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that reads the first of some files, by name and text."""

    def read(**files: str) -> dict[str, Any]:
        for name, text in files.items():
            (tmp_path / f"{name}.txt").parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / f"{name}.txt").write_text(text)
        return gather(str(tmp_path / f"{next(iter(files))}.txt"))

    return read


@pytest.mark.parametrize("lock", sorted(ROOT.glob("requirements/**/*.txt")), ids=lambda path: path.name)
def test_a_file_that_includes_nothing_is_taken_as_it_is(gather: Callable[[str], dict[str, Any]], lock: Path) -> None:
    """Every lock of this repository, so that no environment is built anew for the reading of it."""
    found = gather(str(lock))
    assert found["files"] == {"requirements.txt": lock.read_text()}
    assert found["text"] == lock.read_text().rstrip()
    assert (found["hashed"], found["git"], found["faults"]) == (True, False, [])


def test_no_file_is_no_requirement(gather: Callable[[str], dict[str, Any]]) -> None:
    """As where wheels are all there is."""
    nothing = {"text": "", "hashed": False, "git": False, "credentials": [], "faults": []}
    assert gather("") == {"files": {"requirements.txt": ""}, **nothing}


def test_what_is_included_takes_the_place_of_its_line(given: Callable[..., dict[str, Any]]) -> None:
    """By any way of writing it, from where the file is that says so; each file once, also in a circle."""
    found = given(
        main="celery>=5\n-r base.txt  # ours\n--requirement=more.txt\nlast",
        base="redis\n-rmain.txt\n-r more.txt",
        more="# more\nvine==5.1.0",
    )
    assert found["files"] == {"requirements.txt": "celery>=5\nredis\n# more\nvine==5.1.0\nlast\n"}
    assert (found["hashed"], found["faults"]) == (False, [])


def test_constraints_are_files_of_their_own(given: Callable[..., dict[str, Any]]) -> None:
    """pip reads them otherwise than requirements; one that two files name is there once."""
    found = given(
        main="-c limits.txt\n-r base.txt\ncelery\n", base="--constraint limits.txt\nredis\n", limits="redis<6\n"
    )
    assert found["files"] == {
        "requirements.txt": "-c constraints-1.txt\n-c constraints-1.txt\nredis\ncelery\n",
        "constraints-1.txt": "redis<6\n",
    }
    assert "redis<6" in found["text"]


def test_a_change_of_what_is_included_is_a_change(given: Callable[..., dict[str, Any]]) -> None:
    """The text, of which the digest is made, has all of it."""
    texts = [given(main="-r base.txt\n", base=f"redis=={version}\n")["text"] for version in (6, 7)]
    assert texts == ["redis==6", "redis==7"]


@pytest.mark.parametrize(
    ("line", "git"),
    [
        ("shop @ git+https://git.example/shop@v1", True),
        ("git+ssh://git@git.example/shop@v1#egg=shop", True),
        ("-e git+https://git.example/shop@v1#egg=shop", True),
        ("shop @ hg+https://hg.example/shop", False),
    ],
)
def test_what_comes_from_a_repository_needs_no_hash(given: Callable[..., dict[str, Any]], line: str, git: bool) -> None:
    """Beside others that have one it is installed by itself; without hashes it stays where it is."""
    found = given(main=f"celery==5.7.0 \\\n    {HASH}\n{line}\n")
    assert found["files"] == {
        "requirements.txt": f"celery==5.7.0 \\\n    {HASH}\n",
        "unhashed.txt": f"{line}\n",
    }
    assert (found["hashed"], found["git"], found["faults"]) == (True, git, [])
    assert given(main=f"celery\n{line}\n")["files"] == {"requirements.txt": f"celery\n{line}\n"}


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "--editable=../shop",
        "./shop",
        "/srv/shop",
        "file:///srv/shop",
        "shop @ file:///srv/shop",
        "shop-1-py3-none-any.whl",
        "-f wheels",
        "--find-links=/srv/wheels",
    ],
)
def test_a_path_of_this_machine_is_refused(given: Callable[..., dict[str, Any]], tmp_path: Path, line: str) -> None:
    """With its file and line."""
    found = given(main="celery\n-r base.txt\n", base=f"# ours\n{line}  # here\n")
    assert found["faults"] == [
        (
            f"{tmp_path}/base.txt, line 2: '{line}' is a path on this machine, which the hosts do not have. Take it "
            f"out: the app's "
            f"own source is copied without it, and another package may be a wheel on an index, or come from git."
        )
    ]


@pytest.mark.parametrize(
    "line",
    [
        "celery==5.7.0",
        "shop @ https://files.example/shop-1-py3-none-any.whl",
        "https://files.example/shop.zip",
        "shop[redis]>=1 ; python_version > '3'",
        "-i https://index.example/simple",
        "--find-links=https://files.example/",
        "--pre",
        "# -e .",
        "",
    ],
)
def test_what_an_index_or_a_server_has_is_taken(given: Callable[..., dict[str, Any]], line: str) -> None:
    """Nothing is said of it."""
    assert given(main=f"{line}\n")["faults"] == []


def test_a_requirement_without_a_hash_beside_others_is_refused_at_once(
    given: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """pip would say so after a minute; options are no requirements."""
    found = given(main=f"--pre\ncelery==5.7.0 {HASH}\nredis==7  # later\n")
    assert found["faults"] == [
        (
            f"{tmp_path}/main.txt, line 3: 'redis==7' has no hash, and others have one, so that pip refuses it. Give a "
            f"hash to all "
            f"of them, as `uv pip compile --generate-hashes` does, or to none."
        )
    ]


def test_no_password_of_an_address_is_shown(given: Callable[..., dict[str, Any]]) -> None:
    """A message stands in logs."""
    line = "shop @ https://user:not-to-be-seen@files.example/shop-1-py3-none-any.whl"
    [fault] = given(main=f"celery==5.7.0 {HASH}\n{line}\n")["faults"]
    assert "'shop @ https://***@files.example/shop-1-py3-none-any.whl' has no hash" in fault


def test_a_file_that_is_not_there_is_named_with_the_line_that_asks_for_it(
    given: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """For requirements and constraints."""
    found = given(main="celery\n-r base.txt\n-c limits.txt\n")
    assert found["faults"] == [
        f"{tmp_path}/main.txt, line {line}: {tmp_path}/{name}.txt cannot be read (No such file or directory)."
        for line, name in ((2, "base"), (3, "limits"))
    ]

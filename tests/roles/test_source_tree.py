"""The role source_tree, applied to a directory of this machine."""

from __future__ import annotations

import grp
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible.parsing.dataloader import DataLoader
from python_file import load

Play = Callable[..., "subprocess.CompletedProcess[str]"]

ROLE = Path(__file__).parents[2] / "roles" / "source_tree"


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
    """Return a function that applies the role to `tmp_path / "target"` and returns the output."""

    def run(*options: str) -> str:
        variables = {"source_tree_from": str(source), "source_tree_to": str(tmp_path / "target")}
        done = play([{"import_role": {"name": "source_tree"}}], variables, *options)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope="module")
def action() -> Any:
    """Return the action that packs the source, as a module."""
    return load(ROLE / "action_plugins/copy_tree.py")


@pytest.fixture
def install(
    source: Path,
    tmp_path: Path,
    resolve: Callable[[Any, dict[str, Any]], Any],
    capsys: pytest.CaptureFixture[str],
    action: Any,
) -> Callable[..., bool]:
    """Return a function that does the role's one task in this process, and tells whether it changed something.

    The task's arguments are the role's own words, and its module is run with what they come to.
    """
    [task] = yaml.safe_load((ROLE / "tasks" / "install.yml").read_text())
    module = load(ROLE / "library" / "mirror_tree.py")
    variables = DataLoader().load_from_file(str(ROLE / "defaults/main.yml"), trusted_as_template=True)
    variables |= {"source_tree_from": str(source), "source_tree_to": str(tmp_path / "target")}

    def run(*, check: bool = False, **inputs: Any) -> bool:
        arguments = action.for_module(resolve(task["copy_tree"], variables | inputs))
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit) as ended:
            module.main()
        said = json.loads(capsys.readouterr().out)
        assert ended.value.code == 0, said
        return bool(said["changed"])

    return run


def tree(path: Path) -> dict[str, bytes | None]:
    """Return the files of a directory with their content, and its directories."""
    return {str(entry.relative_to(path)): entry.read_bytes() if entry.is_file() else None for entry in path.rglob("*")}


def test_the_target_equals_the_source_but_for_bytecode(
    mirror: Callable[..., str], install: Callable[..., bool], source: Path, tmp_path: Path
) -> None:
    """Content and the executable bit come over; a second run changes nothing."""
    assert "changed=1" in mirror()
    wanted = {name: content for name, content in tree(source).items() if "__pycache__" not in name}
    assert tree(tmp_path / "target") == wanted
    assert (tmp_path / "target" / "start.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "target" / "__init__.py").stat().st_mode & 0o777 == 0o644
    assert not install()


def test_check_mode_changes_nothing(install: Callable[..., bool], tmp_path: Path) -> None:
    """A run with --check tells of the change and writes nothing, where there is no directory yet and where there is."""
    assert install(check=True)
    assert not (tmp_path / "target").exists()
    install()
    (tmp_path / "target" / "start.sh").write_text("other\n")
    assert install(check=True)
    assert (tmp_path / "target" / "start.sh").read_text() == "other\n"


def test_what_the_source_does_not_have_is_removed(install: Callable[..., bool], source: Path, tmp_path: Path) -> None:
    """Files, directories and links go; the bytecode of what stays is left, and nothing outside is touched."""
    target = tmp_path / "target"
    install()
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
    assert install()
    assert tree(target) == {**wanted, "__init__.pyc": b"", "inner/__pycache__": None}
    assert not (target / "start.sh").is_symlink()
    assert (outside / "kept").exists()
    assert not install()


def test_the_difference_is_shown_file_by_file(
    mirror: Callable[..., str], install: Callable[..., bool], source: Path
) -> None:
    """With --diff, a changed line stands below the file's name."""
    install()
    (source / "inner" / "module.py").write_text("VALUE = 2\n")
    said = mirror("--diff", "--check")
    assert "--- before: inner/module.py" in said
    assert "-VALUE = 1\n+VALUE = 2\n" in said
    assert "__init__" not in said


def test_environments_and_caches_stay_on_the_controller(
    install: Callable[..., bool], source: Path, tmp_path: Path
) -> None:
    """By what stands in them, whatever they are called."""
    for name, mark in (("here", "pyvenv.cfg"), ("inner/cached", "CACHEDIR.TAG")):
        (source / name / "lib").mkdir(parents=True)
        (source / name / "lib" / "module.py").touch()
        (source / name / mark).write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    install()
    names = set(tree(tmp_path / "target"))
    assert {"inner/module.py", "start.sh"} <= names
    assert not {name for name in names if "here" in name or "cached" in name}


def test_what_is_named_is_all_there_is(install: Callable[..., bool], source: Path, tmp_path: Path) -> None:
    """Files and directories of the source; what was copied before goes."""
    install()
    (source / "a name.py").touch()
    assert install(source_tree_only=["inner", "a name.py"])
    assert set(tree(tmp_path / "target")) == {"inner", "inner/module.py", "inner/picture.bin", "a name.py"}


def test_drift_is_set_right(install: Callable[..., bool], tmp_path: Path) -> None:
    """A mode that has changed on the host is set back."""
    install()
    (tmp_path / "target" / "__init__.py").chmod(0o666)
    assert install()
    assert (tmp_path / "target" / "__init__.py").stat().st_mode & 0o777 == 0o644


def test_what_only_its_owner_reads_is_read_by_a_group_alone(
    install: Callable[..., bool], source: Path, tmp_path: Path
) -> None:
    """Files, programs and directories, with what they hold as it is; without a group everybody reads everything."""
    private = {"key.pem": 0o600, "inner": 0o700, "inner/module.py": 0o640, "run.sh": 0o700}
    for name, mode in private.items():
        if not (source / name).exists():
            (source / name).write_text("private\n")
        (source / name).chmod(mode)
    group = next(entry for entry in grp.getgrall() if entry.gr_gid != os.getegid())
    assert install(source_tree_group=group.gr_name)
    states = {name: (tmp_path / "target" / name).stat() for name in [*private, "start.sh", "__init__.py"]}
    assert {name: (f"{state.st_mode & 0o777:o}", state.st_gid) for name, state in states.items()} == {
        "key.pem": ("640", group.gr_gid),
        "inner": ("750", group.gr_gid),
        "inner/module.py": ("640", group.gr_gid),
        "run.sh": ("750", group.gr_gid),
        "start.sh": ("755", os.getegid()),
        "__init__.py": ("644", os.getegid()),
    }
    assert not install(source_tree_group=group.gr_name)
    assert install()
    assert (tmp_path / "target/key.pem").stat().st_mode & 0o777 == 0o644


def test_what_is_private_is_not_shown_as_a_difference() -> None:
    """With --diff; that it is another one is."""
    module = load(ROLE / "library" / "mirror_tree.py")
    shown = [module.show(text, 0o640) for text in (b"one\n", b"two\n")]
    assert shown[0] != shown[1]
    assert [text[:17] for text in shown] == ["(private; sha256 "] * 2
    assert module.show(b"one\n", 0o644) == "one\n"


def test_a_group_that_is_not_there_is_named(install: Callable[..., bool], tmp_path: Path) -> None:
    """Nothing is copied; in check mode what would make it has not done so."""
    assert install(source_tree_group="no-such-group", check=True)
    with pytest.raises(AssertionError, match="There is no group no-such-group for /"):
        install(source_tree_group="no-such-group")
    assert not (tmp_path / "target").exists()


def run_instead_of_tar(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have another program found by the name of tar."""
    (folder / "bin").mkdir()
    tar = folder / "bin/tar"
    tar.write_text(f"#!/bin/sh\n{script}\n")
    tar.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")


def test_what_cannot_be_read_is_told_whatever_the_locale(
    install: Callable[..., bool], source: Path, tmp_path: Path, action: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tar says it in the user's language, and the host would lose what is not in the archive."""
    run_instead_of_tar(
        tmp_path,
        monkeypatch,
        'set -e; [ "$LC_ALL" = C ]; echo "tar: ./in: Cannot open: Permission denied" >&2\n'
        'echo "tar: Exiting with failure status due to previous errors" >&2; exit 2',
    )
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    with pytest.raises(action.CannotPackError) as refusal:
        install()
    assert str(refusal.value) == (
        f"{source} cannot be read whole on the controller: tar: ./in: Cannot open: Permission denied Let this user "
        "read it, or leave it out (source_tree_excludes, or the setting of the role that hands it on)."
    )
    assert not (tmp_path / "target").exists()


def test_a_tar_that_fails_half_way_copies_nothing(
    install: Callable[..., bool], tmp_path: Path, action: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has written until then is an archive, too, of fewer files."""
    tar = shutil.which("tar")
    run_instead_of_tar(tmp_path, monkeypatch, f'{tar} "$@"; kill -9 $$')
    with pytest.raises(action.CannotPackError, match=r"cannot be read whole on the controller: tar ended with -9 Let"):
        install()
    assert not (tmp_path / "target").exists()


def test_a_controller_without_tar_is_told(
    install: Callable[..., bool], source: Path, tmp_path: Path, action: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(action.CannotPackError) as refusal:
        install()
    assert str(refusal.value) == (
        f"tar cannot be started on the controller (No such file or directory). Install GNU tar, which packs {source}."
    )


def test_the_source_is_packed_once(
    install: Callable[..., bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look at its size, too."""
    tar = shutil.which("tar")
    run_instead_of_tar(tmp_path, monkeypatch, f'echo packed >> {tmp_path}/log; exec {tar} "$@"')
    assert install()
    assert (tmp_path / "log").read_text() == "packed\n"


def test_a_link_that_leads_nowhere_is_left_out(install: Callable[..., bool], source: Path, tmp_path: Path) -> None:
    """tar complains of it, and of nothing else."""
    (source / "nowhere").symlink_to("not-there")
    assert install()
    assert (tmp_path / "target/start.sh").exists()
    assert not (tmp_path / "target/nowhere").is_symlink()


@pytest.fixture(scope="module")
def refused(play_cases: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a target for each source that cannot be copied, and what became of copying."""
    folder = tmp_path_factory.mktemp("refused")
    (folder / "empty").mkdir()
    this = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (folder / "source" / "inner").mkdir(parents=True)
    (folder / "source" / "data.bin").write_bytes(bytes(3_000_000))
    (folder / "source" / "shop.py").touch()
    small = {"source_tree_from": str(folder / "source"), "source_tree_max_megabytes": 2}
    inputs: dict[str, dict[str, Any]] = {
        "nothing": {},
        "empty": {},
        "typo": {**small, "source_tree_only": ["shoop", "shop.py", "x.py", "inner"]},
        "large": small,
        "excluded": {**small, "source_tree_excludes": ["*.bin"]},
    }
    cases = {}
    for name, given in inputs.items():
        target = folder / f"target-{name}"
        target.mkdir()
        (target / "file").touch()
        cases[name] = {**this, "source_tree_from": str(folder / name), "source_tree_to": str(target), **given}
    role = [{"hosts": "all", "gather_facts": False, "tasks": [{"import_role": {"name": "source_tree"}}]}]
    return folder, play_cases(role, cases).cases


def test_a_source_that_is_not_there_is_named(refused: tuple[Path, dict[str, Any]]) -> None:
    """The message has the path; the target stays as it is."""
    folder, cases = refused
    assert f"There is no directory {folder}/nothing" in cases["nothing"].refusal()
    assert (folder / "target-nothing" / "file").exists()


def test_what_is_named_and_not_there_is_told_with_what_there_is(refused: tuple[Path, dict[str, Any]]) -> None:
    """A typo in a name would remove what the host has."""
    folder, cases = refused
    said = cases["typo"].refusal()
    assert f"{folder}/source on the controller has no shoop, x.py. It has: data.bin, shop.py" in said
    assert (folder / "target-typo" / "file").exists()


def test_more_than_source_is_refused_with_its_size(refused: tuple[Path, dict[str, Any]]) -> None:
    """What stays on the controller does not count."""
    folder, cases = refused
    said = cases["large"].said
    assert cases["large"].failed == [
        "source_tree : install | Copy the source, and remove what the controller does not have"
    ]
    assert f"{folder}/source on the controller holds 3.0 MB to copy, and at most 2 are taken for source." in said
    assert (folder / "target-large" / "file").exists()
    assert (folder / "target-excluded" / "shop.py").exists()


def test_an_empty_source_empties_nothing(refused: tuple[Path, dict[str, Any]]) -> None:
    """A directory without a file is taken for a mistake."""
    folder, cases = refused
    assert cases["empty"].failed
    assert "holds no file" in cases["empty"].said
    assert (folder / "target-empty" / "file").exists()

"""What the lab keeps on disk, and what goes when it is too much: in a directory of these tests' own."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

MODULE_UTILS = Path(__file__).parents[2] / "roles" / "lab_host" / "module_utils"
MIB = 2**20


@pytest.fixture(scope="module")
def layers() -> ModuleType:
    """The module that keeps a lab host's files, under the name that Ansible gives it."""
    for name in ("taskmill_lab", "taskmill_lab_layers"):
        spec = importlib.util.spec_from_file_location(f"ansible.module_utils.{name}", MODULE_UTILS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return module


def image(lab: Path, name: str, used: int, base: str = "bases/trixie-new") -> Path:
    """Make an image of one host, of a MiB, last used so many seconds after the beginning of time."""
    (lab / "bases").mkdir(exist_ok=True)
    (lab / "bases/trixie.current.json").write_text('{"base": "trixie-new"}')
    host = lab / "images" / name / "one"
    (host / "upper").mkdir(parents=True)
    (host / "upper/file").write_bytes(b"x" * MIB)
    (host / "host.json").write_text(json.dumps({"suite": "trixie", "layers": [base]}))
    os.utime(host.parent, (used, used))
    return host.parent


def test_the_image_that_was_not_used_for_longest_goes_first(layers: ModuleType, tmp_path: Path) -> None:
    """Until the rest is as small as asked for."""
    names = {name: image(tmp_path, name, used) for name, used in (("new", 30), ("old", 10), ("middle", 20))}
    assert layers.prune(tmp_path, 2 * MIB + 100_000) == ["images/old"]
    assert [path.exists() for path in names.values()] == [True, False, True]
    assert layers.prune(tmp_path, 2 * MIB + 100_000) == []


def test_an_image_that_a_host_stands_on_stays(layers: ModuleType, tmp_path: Path) -> None:
    """However old it is, and however little there may be."""
    used, other = image(tmp_path, "used", 10), image(tmp_path, "other", 20)
    host = tmp_path / "hosts/tm-lab/one"
    host.mkdir(parents=True)
    record = {"suite": "trixie", "layers": ["images/used/one/upper", "bases/trixie-new"]}
    (host / "host.json").write_text(json.dumps(record))
    assert layers.prune(tmp_path, 0) == ["images/other"]
    assert used.exists()
    assert not other.exists()


def test_an_image_on_a_base_of_before_goes_at_once(layers: ModuleType, tmp_path: Path) -> None:
    """No host can be made from it any more."""
    image(tmp_path, "stale", 30, base="bases/trixie-old")
    image(tmp_path, "fresh", 10)
    assert layers.prune(tmp_path, 100 * MIB) == ["images/stale"]


def test_a_directory_of_downloads_is_emptied_and_stays(layers: ModuleType, tmp_path: Path) -> None:
    """It may be mounted in a host."""
    downloads = tmp_path / "cache/apt/trixie"
    downloads.mkdir(parents=True)
    (downloads / "package.deb").write_bytes(b"x" * MIB)
    assert layers.prune(tmp_path, 1000) == ["cache/apt"]
    assert list((tmp_path / "cache/apt").iterdir()) == []


def test_a_host_without_a_base_says_what_builds_one(layers: ModuleType, tmp_path: Path) -> None:
    """Before anything is made."""
    with pytest.raises(Exception, match="no base system trixie: lab_host_base builds it"):
        layers.Files(tmp_path, "tm-lab", "one").make("trixie", "")

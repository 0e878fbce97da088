"""What the lab keeps on disk, and what goes when it is too much: in a directory of these tests' own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

MIB = 2**20


@pytest.fixture(scope="module")
def layers(lab_utils: Callable[[str], ModuleType]) -> ModuleType:
    """The module that keeps a lab host's files."""
    return lab_utils("taskmill_lab_layers")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Path]:
    """A lab's directory with one base, of which nothing stays mounted."""
    base = tmp_path / "bases/trixie-new/etc"
    base.mkdir(parents=True)
    (base / "hostname").write_text("base")
    yield tmp_path
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[1].startswith(f"{tmp_path}/"):
            subprocess.run(["umount", "--lazy", line.split()[1]], check=True)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


def image(lab: Path, name: str, used: int, base: str = "bases/trixie-new") -> Path:
    """Make an image of one host, of a MiB, last used so many seconds after the beginning of time."""
    host = lab / "images" / name / "one"
    (host / "upper").mkdir(parents=True)
    (host / "upper/file").write_bytes(b"x" * MIB)
    (host / "host.json").write_text(json.dumps({"suite": "trixie", "layers": [base]}))
    os.utime(host.parent, (used, used))
    return host.parent


def test_the_image_that_was_not_used_for_longest_goes_first(layers: ModuleType, lab: Path) -> None:
    """Until the rest is as small as asked for."""
    names = {name: image(lab, name, used) for name, used in (("new", 30), ("old", 10), ("middle", 20))}
    assert layers.prune(lab, 2 * MIB + 100_000) == ["images/old"]
    assert [path.exists() for path in names.values()] == [True, False, True]
    assert layers.prune(lab, 2 * MIB + 100_000) == []


def test_what_a_host_stands_on_stays(layers: ModuleType, lab: Path) -> None:
    """However old it is, and however little there may be."""
    used, other = image(lab, "used", 10), image(lab, "other", 20)
    host = lab / "hosts/tm-lab/one"
    host.mkdir(parents=True)
    record = {"suite": "trixie", "layers": ["images/used/one/upper", "bases/trixie-new"]}
    (host / "host.json").write_text(json.dumps(record))
    assert layers.prune(lab, 0) == ["images/other"]
    assert used.exists()
    assert (lab / "bases/trixie-new").exists()
    assert not other.exists()


def test_an_image_without_its_base_goes_at_once(layers: ModuleType, lab: Path) -> None:
    """No host can be made from it any more."""
    image(lab, "stale", 30, base="bases/trixie-old")
    image(lab, "fresh", 10)
    assert layers.prune(lab, 100 * MIB) == ["images/stale"]


def test_a_directory_of_downloads_is_emptied_and_stays(layers: ModuleType, lab: Path) -> None:
    """It may be mounted in a host."""
    downloads = lab / "cache/apt/trixie"
    downloads.mkdir(parents=True)
    (downloads / "package.deb").write_bytes(b"x" * MIB)
    os.utime(lab / "cache/apt", (10, 10))
    assert layers.prune(lab, 100_000) == ["cache/apt"]
    assert list((lab / "cache/apt").iterdir()) == []


def test_a_host_without_a_base_says_what_builds_one(layers: ModuleType, lab: Path) -> None:
    """Before anything is made of it."""
    files = layers.Files(lab, "tm-lab", "one")
    with pytest.raises(layers.LabError, match="no base system trixie-old: lab_host_base builds it"):
        files.made("trixie", "trixie-old", "").__enter__()
    assert files.record() == {}


def test_a_host_whose_making_was_cut_off_is_none(layers: ModuleType, lab: Path) -> None:
    """Whatever there is of it already."""
    files = layers.Files(lab, "tm-lab", "one")
    with pytest.raises(KeyboardInterrupt), files.made("trixie", "trixie-new", ""):
        raise KeyboardInterrupt
    assert files.record() == {}
    with files.made("trixie", "trixie-new", ""):
        pass
    assert files.record()["suite"] == "trixie"


@as_root
def test_a_host_becomes_an_image_and_the_next_one_begins_there(layers: ModuleType, lab: Path) -> None:
    """What it has changed is the image, its downloads are the lab's, and the base is as it was."""
    files = layers.Files(lab, "tm-lab", "one")
    with files.made("trixie", "trixie-new", "image") as from_image:
        assert not from_image
        (files.root / "etc/hostname").write_text("one")
    (files.root / layers.ARCHIVES / "a.deb").write_text("package")
    files.save("image")
    assert (files.root / "etc/hostname").read_text() == "one"
    assert files.is_from_image()
    files.remove()
    assert not files.directory.exists()
    with files.made("trixie", "trixie-new", "image") as from_image:
        assert from_image
    assert (files.root / "etc/hostname").read_text() == "one"
    assert (files.root / layers.ARCHIVES / "a.deb").read_text() == "package"
    assert not (lab / "images/image/one/upper" / layers.ARCHIVES / "a.deb").exists()
    assert (lab / "bases/trixie-new/etc/hostname").read_text() == "base"
    files.remove()
    with files.made("trixie", "trixie-new", "another") as from_image:
        assert not from_image
    assert (files.root / "etc/hostname").read_text() == "base"


@as_root
def test_a_mount_that_fails_leaves_a_hosts_files_alone(layers: ModuleType, lab: Path) -> None:
    """The error has what the kernel says; with its layers back, the host is as it was."""
    files = layers.Files(lab, "tm-lab", "one")
    with files.made("trixie", "trixie-new", ""):
        (files.root / "etc/hostname").write_text("one")
    files.unmount()
    base = lab / "bases/trixie-new"
    base.rename(lab / "away")
    with pytest.raises(layers.LabError, match="mount"):
        files.mount()
    (lab / "away").rename(base)
    files.mount()
    assert (files.root / "etc/hostname").read_text() == "one"


@as_root
def test_a_host_is_removed_though_somebody_looks_into_it(layers: ModuleType, lab: Path) -> None:
    """Its mount goes when the last file of it is closed."""
    files = layers.Files(lab, "tm-lab", "one")
    with files.made("trixie", "trixie-new", ""):
        pass
    with (files.root / "etc/hostname").open() as held:
        with pytest.raises(layers.LabError, match="busy"):
            files.unmount()
        files.remove()
        assert held.read() == "base"
    assert not files.directory.exists()


def test_making_a_host_anew_leaves_the_directory_of_its_lab(
    layers: ModuleType, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others of the lab may be about to make theirs in it."""
    files = layers.Files(lab, "tm-lab", "one")
    gone: list[Path] = []
    monkeypatch.setattr(Path, "rmdir", lambda path: gone.append(path))
    for _ in range(2):
        with files.made("trixie", "trixie-new", ""):
            pass
    assert files.directory.parent not in gone
    files.remove()
    assert files.directory.parent in gone

"""The files of a lab host: an upper directory of its own over a base, or over an image and a base, by overlayfs.

Where overlayfs cannot be had, as on a file system that is an overlay itself, a host gets a copy of its base.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.taskmill_lab import LabError, locked, read_json, remove_tree, run, write_file

ARCHIVES = "var/cache/apt/archives"
"""Where apt keeps the packages that it has fetched."""
OPTIONS = ("redirect_dir=on,", "")
"""With the first, a directory of a lower layer can be renamed; a kernel may not know it."""


def current_base(lab: Path, suite: str) -> Path | None:
    """Return the base that new hosts of a release stand on; None when there is none."""
    name = read_json(lab / "bases" / f"{suite}.current.json").get("base")
    return lab / "bases" / name if name else None


def layers_in_use(lab: Path) -> set[Path]:
    """Return the bases and images that hosts or images stand on."""
    records = [*lab.glob("hosts/*/*/host.json"), *lab.glob("images/*/*/host.json")]
    return {lab / layer for record in records for layer in read_json(record).get("layers", [])}


def size(path: Path) -> int:
    """Return the bytes that a tree takes on disk."""
    return sum((Path(folder) / name).lstat().st_blocks * 512 for folder, _, names in os.walk(path) for name in names)


def is_stale(lab: Path, image: Path) -> bool:
    """Tell whether an image stands on another base than new hosts would."""
    records = [read_json(path) for path in image.glob("*/host.json")]
    bases = [(record.get("suite", ""), lab / record.get("layers", ["none"])[-1]) for record in records]
    return any(current_base(lab, suite) != base for suite, base in bases)


def prune(lab: Path, limit: int) -> list[str]:
    """Remove images that no host can be made from, and then those that were not used for longest, and downloads.

    Until images and downloads take `limit` bytes at most; what a host stands on stays. Return what was removed.
    """
    with locked(lab / "locks" / "images"):
        used = {layer for path in lab.glob("hosts/*/*/host.json") for layer in read_json(path).get("layers", [])}
        images = [path for path in lab.glob("images/[!.]*") if not any((lab / x).is_relative_to(path) for x in used)]
        sizes = {path: size(path) for path in [*lab.glob("images/[!.]*"), *lab.glob("cache/*")]}
        removed = []
        for path in sorted([*images, *lab.glob("cache/*")], key=lambda path: path.stat().st_mtime):
            if sum(sizes.values()) > limit or (path in images and is_stale(lab, path)):
                # A directory of downloads may be mounted in a host, so it stays, and is emptied.
                for child in [path] if path in images else path.iterdir():
                    remove_tree(child)
                removed.append(str(path.relative_to(lab)))
                del sizes[path]
    return removed


class Files:
    """The files of one lab host."""

    def __init__(self, lab: Path, bridge: str, name: str) -> None:
        """Name the parts; nothing is created yet."""
        self.lab = lab
        self.name = name
        self.directory = lab / "hosts" / bridge / name
        self.root = self.directory / "root"
        self.upper = self.directory / "upper"
        self.work = self.directory / "work"
        self.record_file = self.directory / "host.json"

    def record(self) -> dict[str, Any]:
        """Return the release and the layers that the host was made of; {} when its making was cut off."""
        return read_json(self.record_file)

    def image(self, image: str) -> Path:
        """Return where an image keeps this host."""
        return self.lab / "images" / image / self.name

    def make(self, suite: str, image: str) -> None:
        """Make a new host of the release, from the image where that has it on today's base."""
        self.remove()
        self.directory.mkdir(parents=True)
        with (
            locked(self.lab / "locks" / f"base-{suite}", shared=True),
            locked(self.lab / "locks" / "images", shared=True),
        ):
            base = current_base(self.lab, suite)
            if base is None:
                raise LabError(f"there is no base system {suite}: lab_host_base builds it")
            layers = [str(base.relative_to(self.lab))]
            saved = read_json(self.image(image) / "host.json") if image else {}
            if saved.get("layers") == layers:
                os.utime(self.image(image).parent)
                layers.insert(0, str((self.image(image) / "upper").relative_to(self.lab)))
            self._seed(self.upper, suite)
            if not self._mount(layers):
                run("cp", "--archive", "--reflink=auto", str(base), str(self.root))
                self._seed(self.root, suite)
                layers = []
            # Last: a host without it is made anew.
            self._note(suite, layers)

    def _note(self, suite: str, layers: list[str]) -> None:
        write_file(self.record_file, json.dumps({"suite": suite, "layers": layers}) + "\n")

    def is_from_image(self) -> bool:
        """Tell whether the host was made from an image."""
        return len(self.record().get("layers", [])) > 1

    def _mount(self, layers: list[str]) -> bool:
        """Put the layers together; tell whether overlayfs does that here."""
        for path in (self.root, self.upper, self.work):
            path.mkdir(exist_ok=True)
        lower = ":".join(str(self.lab / layer) for layer in layers)
        directories = f"lowerdir={lower},upperdir={self.upper},workdir={self.work}"
        for options in OPTIONS:
            with contextlib.suppress(LabError):
                run("mount", "-t", "overlay", "-o", options + directories, f"taskmill-{self.name}", str(self.root))
                return True
        for path in (self.root, self.upper, self.work):
            shutil.rmtree(path)
        return False

    def mount(self) -> None:
        """Put the layers of a host together, where they are not."""
        layers = self.record().get("layers", [])
        if layers and not os.path.ismount(self.root) and not self._mount(layers):
            raise LabError(f"{self.root} cannot be mounted as an overlay any more: end the lab and bring it up anew")

    def unmount(self) -> None:
        """Take the layers of a stopped host apart, and keep the packages that it has fetched."""
        self._harvest()
        if os.path.ismount(self.root):
            run("umount", str(self.root))

    def _seed(self, top: Path, suite: str) -> None:
        """Link the packages that other hosts have fetched into a new host's archive; `top` is a layer or the whole."""
        (top / ARCHIVES).mkdir(parents=True, exist_ok=True)
        for package in (self.lab / "cache" / "apt" / suite).glob("*.deb"):
            with contextlib.suppress(FileExistsError):
                os.link(package, top / ARCHIVES / package.name)

    def _harvest(self) -> None:
        """Move the packages that the host has fetched to where new hosts get them from."""
        suite = self.record().get("suite", "")
        own = (self.upper if self.upper.is_dir() else self.root) / ARCHIVES
        cache = self.lab / "cache" / "apt" / suite
        for package in own.glob("*.deb") if suite else []:
            cache.mkdir(parents=True, exist_ok=True)
            package.replace(cache / package.name)

    def save(self, image: str) -> None:
        """Turn what a stopped host has of its own into an image, which the host stands on from now on."""
        record = self.record()
        suite, layers = record["suite"], record["layers"]
        self.unmount()
        final = self.image(image)
        with locked(self.lab / "locks" / "images"):
            new = final.with_name(f".{final.name}.new")
            remove_tree(new)
            remove_tree(final)
            new.mkdir(parents=True)
            # Cut off from here on, the host has no record and is made anew.
            self.record_file.unlink()
            self.upper.rename(new / "upper")
            remove_tree(self.work)
            write_file(new / "host.json", json.dumps(record) + "\n")
            new.rename(final)
            self._note(suite, [str((final / "upper").relative_to(self.lab)), *layers])
        self.mount()

    def remove(self) -> None:
        """Delete the files of a stopped host."""
        if self.directory.exists():
            self.unmount()
        remove_tree(self.directory)
        with contextlib.suppress(OSError):
            self.directory.parent.rmdir()

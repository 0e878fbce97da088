"""The files of a lab host: an upper directory of its own over a base, or over an image and a base, by overlayfs.

Where overlayfs cannot be had, as on a file system that is an overlay itself, a host gets a copy of its base.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.taskmill_lab import LabError, locked, read_json, remove_tree, run, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHIVES = "var/cache/apt/archives"
"""Where apt keeps the packages that it has fetched."""
OPTIONS = ("redirect_dir=on,", "")
"""With the first, a directory of a lower layer can be renamed; a kernel may not know it."""


def layers_in_use(lab: Path, records: str = "hosts/*/*/host.json") -> set[Path]:
    """Return the bases and images that hosts stand on."""
    return {lab / layer for record in lab.glob(records) for layer in read_json(record).get("layers", [])}


def size(path: Path) -> int:
    """Return the bytes that a tree takes on disk; what goes meanwhile does not count."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(folder) / name).lstat().st_blocks * 512
    return total


def prune(lab: Path, limit: int) -> list[str]:
    """Remove what new hosts were not made from for longest: images, bases and downloads.

    They take `limit` bytes at most afterwards, but for those that hosts stand on, which stay. An image without its base
    goes in any case. Return what was removed.
    """
    with locked(lab / "locks" / "images"):
        used = layers_in_use(lab)

        def is_free(path: Path) -> bool:
            return not any(layer == path or layer.is_relative_to(path) for layer in used)

        def lacks_base(image: Path) -> bool:
            return not all(path.is_dir() for path in layers_in_use(lab, f"{image.relative_to(lab)}/*/host.json"))

        removed = []

        def remove(path: Path) -> None:
            # A directory of downloads may be mounted in a host, so it stays, and is emptied.
            for child in path.iterdir() if path.parent.name == "cache" else [path]:
                shutil.rmtree(child, ignore_errors=path.parent.name == "cache")
            removed.append(str(path.relative_to(lab)))

        kept = [*lab.glob("bases/[!.]*/"), *lab.glob("images/[!.]*/"), *lab.glob("cache/*/")]
        sizes = {path: size(path) for path in kept}
        for path in sorted(filter(is_free, kept), key=lambda path: path.stat().st_mtime):
            if sum(sizes.values()) > limit:
                remove(path)
                del sizes[path]
        for image in filter(is_free, lab.glob("images/[!.]*/")):
            if lacks_base(image):
                remove(image)
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

    @contextlib.contextmanager
    def made(self, suite: str, base: str, image: str) -> Iterator[bool]:
        """Make a new host of a base, or of the image where that has it on this base.

        The block is told whether the host is from the image, and gives it an identity if not. A host whose making is
        cut off before the end of the block is made anew.
        """
        self._delete()
        self.directory.mkdir(parents=True)
        with locked(self.lab / "locks" / "images", shared=True):
            layers = [f"bases/{base}"]
            if not (self.lab / layers[0]).is_dir():
                raise LabError(f"there is no base system {base}: lab_host_base builds it")
            os.utime(self.lab / layers[0])
            saved = read_json(self.image(image) / "host.json") if image else {}
            from_image = bool(saved) and saved.get("layers") == layers
            if from_image:
                os.utime(self.image(image).parent)
                layers.insert(0, str((self.image(image) / "upper").relative_to(self.lab)))
            self._seed(self.upper, suite)
            try:
                self._mount(layers)
            except LabError:
                for path in (self.root, self.upper, self.work):
                    shutil.rmtree(path)
                run("cp", "--archive", "--reflink=auto", str(self.lab / "bases" / base), str(self.root))
                self._seed(self.root, suite)
                layers, from_image = [], False
            yield from_image
            self._note(suite, layers)

    def _note(self, suite: str, layers: list[str]) -> None:
        write_file(self.record_file, json.dumps({"suite": suite, "layers": layers}) + "\n")

    def is_from_image(self) -> bool:
        """Tell whether the host was made from an image."""
        return len(self.record().get("layers", [])) > 1

    def _mount(self, layers: list[str]) -> None:
        """Put the layers together; raise LabError with what the kernel says where that cannot be."""
        for path in (self.root, self.upper, self.work):
            path.mkdir(exist_ok=True)
        lower = ":".join(str(self.lab / layer) for layer in layers)
        directories = f"lowerdir={lower},upperdir={self.upper},workdir={self.work}"
        for options in OPTIONS:
            try:
                run("mount", "-t", "overlay", "-o", options + directories, f"taskmill-{self.name}", str(self.root))
            except LabError:
                if options == OPTIONS[-1]:
                    raise
            else:
                return

    def mount(self) -> None:
        """Put the layers of a host together, where they are not."""
        layers = self.record().get("layers", [])
        if layers and not os.path.ismount(self.root):
            self._mount(layers)

    def unmount(self, lazily: bool = False) -> None:
        """Take the layers of a stopped host apart, and keep the packages that it has fetched.

        Raise LabError when somebody has a file of it open, unless it is done `lazily`.
        """
        self._harvest()
        if os.path.ismount(self.root):
            run("umount", *(["--lazy"] if lazily else []), str(self.root))

    def _seed(self, top: Path, suite: str) -> None:
        """Link the packages that other hosts have fetched into a new host's archive; `top` is a layer or the whole."""
        (top / ARCHIVES).mkdir(parents=True, exist_ok=True)
        for package in (self.lab / "cache" / "apt" / suite).glob("*.deb"):
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(package, top / ARCHIVES / package.name)

    def _harvest(self) -> None:
        """Move the packages that the host has fetched to where new hosts get them from."""
        suite = self.record().get("suite", "")
        own = (self.upper if self.upper.is_dir() else self.root) / ARCHIVES
        cache = self.lab / "cache" / "apt" / suite
        for package in own.glob("*.deb") if suite else []:
            # Downloads may be pruned at the same time.
            with contextlib.suppress(FileNotFoundError):
                cache.mkdir(parents=True, exist_ok=True)
                package.replace(cache / package.name)
                # Two names of one file are left alone by rename(2).
                package.unlink(missing_ok=True)
                os.utime(cache.parent)

    def save(self, image: str) -> None:
        """Turn what a stopped host has of its own into an image, which the host stands on from now on.

        An image that hosts stand on is left as it is.
        """
        record = self.record()
        final = self.image(image)
        self.unmount()
        with locked(self.lab / "locks" / "images"):
            if final / "upper" not in layers_in_use(self.lab):
                new = final.with_name(f".{final.name}.new")
                remove_tree(new)
                remove_tree(final)
                new.mkdir(parents=True)
                write_file(new / "host.json", json.dumps(record) + "\n")
                # Cut off from here on, the host has no record and is made anew.
                self.record_file.unlink()
                self.upper.rename(new / "upper")
                remove_tree(self.work)
                new.rename(final)
                self._note(record["suite"], [str((final / "upper").relative_to(self.lab)), *record["layers"]])
        self.mount()

    def _delete(self) -> None:
        if self.directory.exists():
            self.unmount(lazily=True)
        remove_tree(self.directory)

    def remove(self) -> None:
        """Delete the files of a stopped host, and the directory of its lab with the last of them."""
        self._delete()
        # Not before a host is made: others of the lab are made at the same time.
        with contextlib.suppress(OSError):
            self.directory.parent.rmdir()

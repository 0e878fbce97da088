"""Keep a directory of the host equal to one of the controller: what packs it, once, and hands it to mirror_tree."""

from __future__ import annotations

import base64
import gzip
import os
import re
import subprocess
import tempfile
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

ARGUMENTS: dict[str, dict[str, Any]] = {
    "source": {"type": "path", "required": True},
    "path": {"type": "path", "required": True},
    "excludes": {"type": "list", "elements": "str", "default": []},
    "only": {"type": "list", "elements": "str", "default": []},
    "max_megabytes": {"type": "float", "required": True},
    "group": {"type": "str", "default": ""},
}
#: What tar says of links that lead nowhere, and of files that change meanwhile; and of itself at the end.
HARMLESS = re.compile(
    r"Cannot stat: No such file or directory|file changed as we read it|File removed before we read it"
    r"|socket ignored|Exiting with failure status"
)
CHUNK = 1 << 20


class CannotPackError(Exception):
    """The source cannot be copied; the text says why, and what to do."""


def tar(source: str, excludes: list[str], only: list[str]) -> list[str]:
    """Return the command that writes the archive to its standard output.

    A directory with pyvenv.cfg is a virtual environment, of whatever name; one with CACHEDIR.TAG says of itself that it
    is a cache.
    """
    return [
        *("tar", "--create", "--dereference", "--hard-dereference", "--exclude-tag-all=pyvenv.cfg"),
        *("--exclude-caches-all", f"--directory={source}", *(f"--exclude={pattern}" for pattern in excludes)),
        *([f"./{name}" for name in only] or ["."]),
    ]


def pack(source: str, excludes: list[str], only: list[str], max_megabytes: float) -> bytes:
    """Return the archive of a directory.

    Raises:
        CannotPackError: tar is not there or has failed, a file cannot be read, or the archive is too large.

    """
    chunks, size = [], 0
    # Its words in English, whatever the locale; in a file, which cannot be full before the archive is read.
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(  # noqa: S603 - tar's own arguments
                tar(source, excludes, only), stdout=subprocess.PIPE, stderr=said, env={**os.environ, "LC_ALL": "C"}
            )
        except OSError as error:
            raise CannotPackError(
                f"tar cannot be started on the controller ({error.strerror}). Install GNU tar, which packs {source}."
            ) from None
        with process:
            assert process.stdout is not None
            while chunk := process.stdout.read(CHUNK):
                size += len(chunk)
                # Of what is too large only the size is wanted.
                if size <= max_megabytes * 1_000_000:
                    chunks.append(chunk)
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines()
    faults = [line for line in lines if not HARMLESS.search(line)]
    # With 1 some files have changed meanwhile.
    if process.returncode not in {0, 1} and (faults or not lines):
        raise CannotPackError(
            f"{source} cannot be read whole on the controller: "
            f"{'; '.join(faults) or f'tar ended with {process.returncode}'} Let this user read it, or leave it out "
            "(source_tree_excludes, or the setting of the role that hands it on)."
        )
    if size > max_megabytes * 1_000_000:
        raise CannotPackError(
            f"{source} on the controller holds {size / 1_000_000:.1f} MB to copy, and at most {max_megabytes:g} are "
            "taken for source. Leave out what is data (source_tree_excludes), name what is source (source_tree_only), "
            "or the settings of the role that hands them on; or raise source_tree_max_megabytes."
        )
    return b"".join(chunks)


def for_module(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of mirror_tree for those of copy_tree; raises what pack() raises."""
    archive = pack(*(arguments[name] for name in ("source", "excludes", "only", "max_megabytes")))
    packed = base64.b64encode(gzip.compress(archive, mtime=0)).decode()
    return {"path": arguments["path"], "group": arguments["group"], "archive": packed}


class ActionModule(ActionBase):
    """Packs on the controller and has the module mirror_tree unpack on the host, whose result is returned."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        """Do so; fails where the source cannot be packed."""
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        try:
            handed = for_module(arguments)
        except CannotPackError as error:
            raise AnsibleActionFail(str(error)) from None
        return self._execute_module("mirror_tree", module_args=handed, task_vars=task_vars)

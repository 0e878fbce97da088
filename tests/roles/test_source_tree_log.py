"""What the module mirror_tree writes to the log of the host that it runs on."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from python_file import load

MODULE = Path(__file__).parents[2] / "roles/source_tree/library/mirror_tree.py"
SOURCE = b"PASSPHRASE = 'of the source'\n"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what modules have logged, in place of the journal; nothing yet."""
    lines: list[str] = []

    def log(_: Any, message: str, log_args: dict[str, Any] | None = None) -> None:
        lines.append(f"{message} {log_args}")

    monkeypatch.setattr(basic.AnsibleModule, "log", log)
    return lines


def pack() -> str:
    """Return an archive of one file, as the module takes it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("module.py")
        member.size = len(SOURCE)
        archive.addfile(member, io.BytesIO(SOURCE))
    return base64.b64encode(packed.getvalue()).decode()


def test_the_source_is_not_in_the_hosts_log(
    tmp_path: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The path is, as for any module; the archive, which is all of the source, is neither there nor in the result."""
    archive = pack()
    arguments = {"ANSIBLE_MODULE_ARGS": {"path": str(tmp_path / "target"), "archive": archive}}
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(arguments).encode())
    # How the arguments are written down, since ansible-core 2.19.
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    module = load(MODULE)
    with pytest.raises(SystemExit):
        module.main()
    said = capsys.readouterr().out
    assert json.loads(said)["changed"]
    assert (tmp_path / "target/module.py").read_bytes() == SOURCE
    assert str(tmp_path / "target") in " ".join(logged)
    # Of any length that a log may cut it to.
    assert archive[:40] not in said + " ".join(logged)

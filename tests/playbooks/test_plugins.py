"""Every plugin of the repository is where all of them are, and documented there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_playbook import ROOT

PROGRAM = Path(sys.executable).with_name("ansible-doc")


@pytest.mark.parametrize(("kind", "folder"), [("module", "action"), ("filter", "filter"), ("lookup", "lookup")])
def test_ansible_doc_says_what_a_plugin_does(kind: str, folder: str) -> None:
    """Each plugin of the folder by its name; of an action there is nothing but its documentation in plugins/modules."""
    names = sorted(path.stem for path in (ROOT / "plugins" / folder).glob("*.py"))
    assert names
    done = subprocess.run(
        [PROGRAM, "--type", kind, "--json", *names],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    known = json.loads(done.stdout)
    assert {name: bool(known.get(name, {}).get("doc", {}).get("description")) for name in names} == dict.fromkeys(
        names, True
    )


@pytest.mark.parametrize("folder", ["action_plugins", "filter_plugins", "lookup_plugins", "library"])
def test_no_plugin_lies_beside_the_playbooks(folder: str) -> None:
    """What stands outside of playbooks/ would not find it there."""
    assert not (ROOT / "playbooks" / folder).exists()

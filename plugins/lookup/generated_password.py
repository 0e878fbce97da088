"""Ansible lookup: a password that is generated once and kept in a file of the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: generated_password
short_description: Read a password from a file of the controller, and generate it only where that is said
description:
  - As P(ansible.builtin.password#lookup), of letters and digits, but that a missing file is not made at whatever use
    comes first. A new password would lock out everything that connects by the one of another clone.
options:
  _terms:
    description: Paths of the files.
    type: list
    elements: str
    required: true
  length:
    description: Characters of a password that is generated.
    type: int
    default: 32
  if_missing:
    description:
      - What a missing file leads to. With V(fail) to an error that says where the password is to be had, with V(empty)
        to an empty text, with V(generate) to a new password and its file.
    type: str
    choices: [fail, empty, generate]
    default: fail
"""

RETURN = """
_raw:
  description: The passwords.
  type: list
  elements: str
"""


class LookupModule(LookupBase):
    """What Ansible looks for."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the passwords; raise ``AnsibleError`` for a missing file, unless ``if_missing`` says otherwise."""
        self.set_options(var_options=variables, direct=kwargs)
        return [self._password(term, variables) for term in terms]

    def _password(self, term: str, variables: dict[str, Any] | None) -> str:
        path = Path(self._loader.path_dwim(term))
        if_missing = self.get_option("if_missing")
        if not path.exists() and if_missing == "empty":
            return ""
        if not path.exists() and if_missing == "fail":
            raise AnsibleError(
                f"There is no password in {path}. If these hosts are set up already, copy the folder {path.parent} "
                "from the clone that did it; if they are new, run site.yml first, with the same inventory, which "
                "makes the password."
            )
        keeper = lookup_loader.get("ansible.builtin.password", loader=self._loader, templar=self._templar)
        length = self.get_option("length")
        [password] = keeper.run([term], variables=variables, length=length, chars=["ascii_letters", "digits"])
        return str(password)

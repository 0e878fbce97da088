"""Ansible module: users, permissions, one virtual host and durable queues of a RabbitMQ node."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: rabbitmq_definitions
short_description: Bring users, permissions, a virtual host and queues of a RabbitMQ node to the wanted state
description:
  - Reads everything in one call of C(rabbitmqctl export_definitions), and imports only what is missing or has drifted.
  - A password is compared with the salted hash that the node exports, and imported as such a hash.
options:
  vhost:
    description: Virtual host of the permissions and queues; made if it is missing.
    type: str
    required: true
  users:
    description: Users with C(name), C(configure), C(write), C(read) and optional C(tags).
    type: list
    elements: dict
    required: true
  passwords:
    description:
      - Password of each user by name.
      - Apart from O(users), because Ansible keeps only whole options out of the host's log.
    type: dict
    required: true
  absent_users:
    description: Users to delete.
    type: list
    elements: str
    default: []
  queues:
    description: Durable queues with C(name) and optional C(arguments).
    type: list
    elements: dict
    default: []
  rabbitmqctl:
    description: The command; a name is looked up on the path.
    type: str
    default: rabbitmqctl
  timeout:
    description: Seconds for one call of the command.
    type: int
    default: 60
author: taskmill
"""

EXAMPLES = r"""
- name: Define the app's user and its queue
  rabbitmq_definitions:
    vhost: taskmill
    users:
      - {name: app, configure: ".*", write: ".*", read: ".*"}
    passwords:
      app: "{{ app_password }}"
    absent_users: [guest]
    queues:
      - name: red
"""

RETURN = r"""
differences:
  description: What was, or in check mode would be, changed; one sentence each.
  type: list
  elements: str
  returned: always
"""

HASHING = "rabbit_password_hashing_sha256"
DIGESTS = {
    "rabbit_password_hashing_md5": hashlib.md5,
    "rabbit_password_hashing_sha256": hashlib.sha256,
    "rabbit_password_hashing_sha512": hashlib.sha512,
}
SALT_BYTES = 4
# An import goes on for a moment after rabbitmqctl has returned.
IMPORT_SECONDS = 20


Definition = dict[str, Any]


class QueueConflictError(Exception):
    """A queue exists in a form that no import can change."""


def hash_password(password: str, salt: bytes | None = None) -> str:
    """Return RabbitMQ's form of a password: base64 of a salt of 4 bytes and the SHA-256 of salt and password."""
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def password_matches(password: str, user: Definition) -> bool:
    """Tell whether a password is that of an exported user; False for a hash of a kind not known here."""
    digest = DIGESTS.get(user.get("hashing_algorithm", ""))
    if digest is None:
        return False
    stored = base64.b64decode(user.get("password_hash", ""))
    salt = stored[:SALT_BYTES]
    return hmac.compare_digest(stored[SALT_BYTES:], digest(salt + password.encode()).digest())


def tags_of(user: Definition) -> list[str]:
    """Return an exported user's tags, which old releases write as one string with commas."""
    tags = user.get("tags", [])
    if not isinstance(tags, list):
        tags = tags.split(",")
    return sorted(tag for tag in tags if tag)


def queue_arguments(arguments: Definition | None) -> Definition:
    """Return queue arguments as one compares them: RabbitMQ 4 writes down the type that 3 leaves out, classic."""
    return {"x-queue-type": "classic", **(arguments or {})}


def compare_users(
    state: Definition, vhost: str, users: list[Definition], passwords: dict[str, str]
) -> tuple[dict[str, list[Definition]], list[str]]:
    """Return the users and permissions to import and the sentences that say why."""
    existing = {user["name"]: user for user in state.get("users", [])}
    granted = {entry["user"]: entry for entry in state.get("permissions", []) if entry["vhost"] == vhost}
    document: dict[str, list[Definition]] = {"users": [], "permissions": []}
    differences = []
    for user in users:
        name = user["name"]
        current = existing.get(name)
        tags = sorted(user.get("tags") or [])
        if current is None:
            reason = "does not exist"
        elif not password_matches(passwords[name], current):
            reason = "has another password"
        elif tags_of(current) != tags:
            reason = f"has the tags {tags_of(current)}, not {tags}"
        else:
            reason = None
        if reason:
            differences.append(f"user {name} {reason}")
            document["users"].append(
                {
                    "name": name,
                    "password_hash": hash_password(passwords[name]),
                    "hashing_algorithm": HASHING,
                    # As one string: releases before 3.8.10 read no list, the later ones read both.
                    "tags": ",".join(tags),
                }
            )
        wanted = {key: user[key] for key in ("configure", "write", "read")}
        if {key: granted.get(name, {}).get(key) for key in wanted} != wanted:
            differences.append(f"user {name} has other permissions in {vhost}")
            document["permissions"].append({**wanted, "user": name, "vhost": vhost})
    return document, differences


def compare_queues(state: Definition, vhost: str, queues: list[Definition]) -> tuple[list[Definition], list[str]]:
    """Return the queues to import and the sentences that say why; raise an error where one cannot be changed."""
    existing = {queue["name"]: queue for queue in state.get("queues", []) if queue["vhost"] == vhost}
    missing = []
    for queue in queues:
        name, arguments = queue["name"], queue.get("arguments") or {}
        current = existing.get(name)
        if current is None:
            missing.append(
                {"name": name, "vhost": vhost, "durable": True, "auto_delete": False, "arguments": arguments}
            )
            continue
        same = queue_arguments(current["arguments"]) == queue_arguments(arguments)
        if not (same and current["durable"] and not current["auto_delete"]):
            there = json.dumps(current["arguments"], sort_keys=True)
            there += "" if current["durable"] else ", not durable"
            there += " and deleted with its last consumer" if current["auto_delete"] else ""
            raise QueueConflictError(
                f"Queue {name} of virtual host {vhost} exists with the arguments {there}, but "
                f"{json.dumps(arguments, sort_keys=True)} and durable is wanted, and a queue cannot be changed in "
                "place. Set rabbitmq_queues to what is there, or drain the queue and delete it: "
                f"rabbitmqctl delete_queue --vhost {vhost} {name}"
            )
    return missing, [f"queue {queue['name']} does not exist in {vhost}" for queue in missing]


def compare(state: Definition, params: Definition) -> tuple[dict[str, list[Definition]], list[str], list[str]]:
    """Return what to import, whom to delete, and the differences as sentences."""
    vhost = params["vhost"]
    document, differences = compare_users(state, vhost, params["users"], params["passwords"])
    document["queues"], missing = compare_queues(state, vhost, params["queues"])
    differences += missing
    document["vhosts"] = []
    if vhost not in [entry["name"] for entry in state.get("vhosts", [])]:
        document["vhosts"].append({"name": vhost})
        differences.append(f"virtual host {vhost} does not exist")
    existing = [user["name"] for user in state.get("users", [])]
    unwanted = [name for name in params["absent_users"] if name in existing]
    differences += [f"user {name} exists" for name in unwanted]
    return document, unwanted, differences


class Node:
    """A RabbitMQ node, reached through rabbitmqctl."""

    def __init__(self, module: AnsibleModule, command: str) -> None:
        self.module = module
        self.command = command

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl and return what it prints; end the module where it fails."""
        command = [self.command, "--quiet", "--timeout", str(self.module.params["timeout"]), *arguments]
        code, out, err = self.module.run_command(command, environ_update={"LC_ALL": "C.UTF-8"}, cwd="/")
        if code and self.module.check_mode:
            self.module.exit_json(changed=True, differences=["the node does not answer, and nothing was compared"])
        if code:
            self.module.fail_json(
                msg=f"'rabbitmqctl {' '.join(arguments)}' failed: {(err.strip() or out.strip())[-1500:]} "
                "Look at systemctl status rabbitmq-server and at the newest file in /var/log/rabbitmq on the host."
            )
        return str(out)

    def state(self) -> Definition:
        """Return the node's definitions."""
        state: Definition = json.loads(self.ctl("export_definitions", "-", "--format", "json"))
        return state

    def load(self, document: dict[str, list[Definition]]) -> None:
        """Import definitions from a file that only the node's user can read."""
        descriptor, path = tempfile.mkstemp(prefix="rabbitmq-definitions-")
        try:
            with os.fdopen(descriptor, "w") as stream:
                json.dump(document, stream)
            self.module.set_owner_if_different(path, "rabbitmq", False)
            self.ctl("import_definitions", path)
        finally:
            Path(path).unlink()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "vhost": {"type": "str", "required": True},
            "users": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "configure": {"type": "str", "required": True},
                    "write": {"type": "str", "required": True},
                    "read": {"type": "str", "required": True},
                    "tags": {"type": "list", "elements": "str", "default": []},
                },
            },
            "passwords": {"type": "dict", "required": True, "no_log": True},
            "absent_users": {"type": "list", "elements": "str", "default": []},
            "queues": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": {"type": "str", "required": True}, "arguments": {"type": "dict", "default": {}}},
            },
            "rabbitmqctl": {"type": "str", "default": "rabbitmqctl"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    command = module.get_bin_path(module.params["rabbitmqctl"])
    if command is None:
        if module.check_mode:
            module.exit_json(changed=True, differences=["RabbitMQ is not installed yet"])
        module.fail_json(msg=f"There is no {module.params['rabbitmqctl']} on the host: is RabbitMQ installed?")

    node = Node(module, command)
    try:
        document, unwanted, differences = compare(node.state(), module.params)
        result = {"differences": differences, "diff": {"prepared": "".join(f"{line}\n" for line in differences)}}
        if not differences or module.check_mode:
            module.exit_json(changed=bool(differences), **result)
        if any(document.values()):
            node.load(document)
        for name in unwanted:
            node.ctl("delete_user", name)
        deadline = time.monotonic() + IMPORT_SECONDS
        left = compare(node.state(), module.params)[2]
        while left:
            if time.monotonic() > deadline:
                module.fail_json(
                    msg=f"Imported, but {IMPORT_SECONDS} s later: {'; '.join(left)}. "
                    "Look at the newest file in /var/log/rabbitmq on the host.",
                    **result,
                )
            time.sleep(1)
            left = compare(node.state(), module.params)[2]
    except QueueConflictError as conflict:
        module.fail_json(msg=str(conflict))
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()

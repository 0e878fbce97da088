"""Ansible module: users, permissions, one virtual host, durable queues and their dead letters of a RabbitMQ node."""
# Runs on the hosts, under whatever Python Ansible drives there, 2.7 included: no annotations,
# no pathlib, no f-strings. More than 400 lines: nodes of two ages, and the documentation, which Ansible reads from it.

import base64
import hashlib
import json
import os
import re
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

try:
    from urllib.error import HTTPError
    from urllib.parse import quote
except ImportError:
    from urllib import quote

    from urllib2 import HTTPError

DOCUMENTATION = r"""
module: rabbitmq_definitions
short_description: Bring users, permissions, a virtual host and queues of a RabbitMQ node to the wanted state
description:
  - Reads everything in one call of C(rabbitmqctl export_definitions), and imports only what is missing or has drifted.
  - A password is compared with the salted hash that the node exports, and imported as such a hash.
  - Before 3.8.2 the command cannot do this. There the management API does, on behalf of an administrator who is made
    for the moment, in check mode too, and deleted at the end.
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
  dead_letters:
    description:
      - Durable queue that gets what is rejected from O(queues), by a policy.
      - Empty, there is no such policy; the queue, with what is in it, is left alone.
    type: str
    default: ""
  api_url:
    description: URL of the management API, for releases before 3.8.2; empty leaves it to the command.
    type: str
    default: ""
  rabbitmqctl:
    description: The command; a name is looked up on the path.
    type: str
    default: rabbitmqctl
  timeout:
    description: Seconds for one call of the command, and for the management API to answer.
    type: int
    default: 60
author: the authors of the role rabbitmq
"""

EXAMPLES = r"""
- name: Define the app's user and its queue
  rabbitmq_definitions:
    vhost: shop
    users:
      - {name: app, configure: ".*", write: ".*", read: ".*"}
    passwords:
      app: "{{ app_password }}"
    absent_users: [guest]
    queues:
      - name: red
    dead_letters: dead-letters
"""

RETURN = r"""
differences:
  description: What was, or in check mode would be, changed; one sentence each.
  type: list
  elements: str
  returned: always
"""

HASHING = "rabbit_password_hashing_sha256"
# The only one before 3.6, which does not name it.
FIRST_HASHING = "rabbit_password_hashing_md5"
DIGESTS = {
    FIRST_HASHING: hashlib.md5,
    HASHING: hashlib.sha256,
    "rabbit_password_hashing_sha512": hashlib.sha512,
}
SALT_BYTES = 4
# An import goes on for a moment after rabbitmqctl has returned.
IMPORT_SECONDS = 20
# How the policy of the dead letters is known among others, whatever their queue's name.
POLICY = "dead-letters"
# Whom the management API obeys while this module runs.
ADMINISTRATOR = "ansible-definitions"

# Python 2.7 has no other.
now = getattr(time, "monotonic", time.time)


class QueueConflictError(Exception):
    """A queue exists in a form that no import can change."""


def hash_password(password, salt=None, hashing=HASHING):
    """Return RabbitMQ's form of a password: base64 of a salt of 4 bytes and the digest of salt and password."""
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    return base64.b64encode(salt + DIGESTS[hashing](salt + password.encode("utf-8")).digest()).decode()


def hashing_of(user):
    """Return the name of the digest of an exported user's password."""
    return user.get("hashing_algorithm", FIRST_HASHING)


def password_matches(password, user):
    """Tell whether a password is that of an exported user; False for a hash of a kind not known here."""
    if hashing_of(user) not in DIGESTS:
        return False
    stored = user.get("password_hash", "")
    return stored == hash_password(password, base64.b64decode(stored)[:SALT_BYTES], hashing_of(user))


def tags_of(user):
    """Return an exported user's tags, which old releases write as one string with commas."""
    tags = user.get("tags", [])
    if not isinstance(tags, list):
        tags = tags.split(",")
    return sorted(tag for tag in tags if tag)


def queue_arguments(arguments):
    """Return queue arguments as one compares them: RabbitMQ 4 writes down the type that 3 leaves out, classic."""
    return dict({"x-queue-type": "classic"}, **(arguments or {}))


def compare_users(state, vhost, users, passwords):
    """Return the users and permissions to import and the sentences that say why."""
    existing = {user["name"]: user for user in state.get("users", [])}
    granted = {entry["user"]: entry for entry in state.get("permissions", []) if entry["vhost"] == vhost}
    known = all("hashing_algorithm" in user for user in existing.values())
    document = {"users": [], "permissions": []}
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
            reason = "has the tags {}, not {}".format(json.dumps(tags_of(current)), json.dumps(tags))
        else:
            reason = None
        if reason:
            differences.append("user {} {}".format(name, reason))
            document["users"].append(
                {
                    "name": name,
                    "password_hash": hash_password(passwords[name], hashing=HASHING if known else FIRST_HASHING),
                    "hashing_algorithm": HASHING if known else FIRST_HASHING,
                    # As one string: releases before 3.8.10 read no list, the later ones read both.
                    "tags": ",".join(tags),
                }
            )
        wanted = {key: user[key] for key in ("configure", "write", "read")}
        if {key: granted.get(name, {}).get(key) for key in wanted} != wanted:
            differences.append("user {} has other permissions in {}".format(name, vhost))
            document["permissions"].append(dict(wanted, user=name, vhost=vhost))
    return document, differences


def delete_command(vhost, queue, api_url):
    """Return the command that deletes a queue; rabbitmqctl of a node that is defined through its API has none."""
    if not api_url:
        return "rabbitmqctl delete_queue --vhost {} {}".format(vhost, queue)
    path = "/".join(quote(part, safe="") for part in (vhost, queue))
    return "curl --user (one with the tag administrator) --request DELETE {}/api/queues/{}".format(api_url, path)


def compare_queues(state, vhost, queues, api_url=""):
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
                "Queue {} of virtual host {} exists with the arguments {}, but {} and durable is wanted, and a queue "
                "cannot be changed in place. Set rabbitmq_queues to what is there, or drain the queue and delete it: "
                "{}".format(
                    name, vhost, there, json.dumps(arguments, sort_keys=True), delete_command(vhost, name, api_url)
                )
            )
    return missing, ["queue {} does not exist in {}".format(queue["name"], vhost) for queue in missing]


def dead_letter_policy(vhost, queues, dead_letters):
    """Return the policy that sends what is rejected from the queues to that of the dead letters."""
    return {
        "vhost": vhost,
        "name": POLICY,
        "pattern": "^({})$".format("|".join(re.escape(queue["name"]) for queue in queues)),
        "apply-to": "queues",
        "priority": 0,
        "definition": {"dead-letter-exchange": "", "dead-letter-routing-key": dead_letters},
    }


def compare_policy(state, vhost, queues, dead_letters):
    """Return the policy to import if any, whether there is one to clear, and the sentences that say why."""
    there = [entry for entry in state.get("policies", []) if (entry["vhost"], entry["name"]) == (vhost, POLICY)]
    wanted = [dead_letter_policy(vhost, queues, dead_letters)] if dead_letters and queues else []
    if there == wanted:
        return [], False, []
    if not wanted:
        return [], True, ["there is a policy {} in {}".format(POLICY, vhost)]
    return wanted, False, ["the policy {} in {} is missing or another one".format(POLICY, vhost)]


def compare(state, params):
    """Return what to import, the arguments of rabbitmqctl that delete the rest, and the differences as sentences."""
    vhost, dead_letters = params["vhost"], params["dead_letters"]
    document, differences = compare_users(state, vhost, params["users"], params["passwords"])
    queues = params["queues"] + ([{"name": dead_letters}] if dead_letters else [])
    document["queues"], missing = compare_queues(state, vhost, queues, params.get("api_url"))
    document["policies"], superfluous, others = compare_policy(state, vhost, params["queues"], dead_letters)
    differences += missing + others
    document["vhosts"] = []
    if vhost not in [entry["name"] for entry in state.get("vhosts", [])]:
        document["vhosts"].append({"name": vhost})
        differences.append("virtual host {} does not exist".format(vhost))
    existing = [user["name"] for user in state.get("users", [])]
    unwanted = [name for name in params["absent_users"] if name in existing]
    differences += ["user {} exists".format(name) for name in unwanted]
    deletions = [["delete_user", name] for name in unwanted]
    if superfluous:
        deletions.append(["clear_policy", "-p", vhost, POLICY])
    return document, deletions, differences


class Node(object):
    """A RabbitMQ node, reached through rabbitmqctl."""

    def __init__(self, module, command):
        self.module = module
        self.seconds = module.params["timeout"]
        self.ctl_command = [command, "--quiet", "--timeout", str(self.seconds)]

    def run_ctl(self, *arguments):
        """Run rabbitmqctl, and return its exit code, what it prints, and its complaint."""
        environment = {"LC_ALL": "C.UTF-8"}
        return self.module.run_command(self.ctl_command + list(arguments), environ_update=environment, cwd="/")

    def ctl(self, *arguments):
        """Run rabbitmqctl and return what it prints; end the module where it fails."""
        code, out, err = self.run_ctl(*arguments)
        if code:
            self.fail("rabbitmqctl {}".format(" ".join(arguments)), (err.strip() or out.strip())[-1500:])
        return out

    def fail(self, what, said):
        """End the module, because the node does not do what it is asked."""
        if self.module.check_mode:
            self.module.exit_json(changed=True, differences=["the node does not answer, and nothing was compared"])
        self.module.fail_json(
            msg="'{}' failed: {} Look at systemctl status rabbitmq-server and at the newest file in /var/log/rabbitmq "
            "on the host.".format(what, said)
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def state(self):
        """Return the node's definitions."""
        return json.loads(self.ctl("export_definitions", "-", "--format", "json"))

    def load(self, document):
        """Import definitions from a file that only the node's user can read."""
        descriptor, path = tempfile.mkstemp(prefix="rabbitmq-definitions-")
        try:
            with os.fdopen(descriptor, "w") as stream:
                json.dump(document, stream)
            self.module.set_owner_if_different(path, "rabbitmq", False)
            self.ctl("import_definitions", path)
        finally:
            os.unlink(path)


class OldNode(Node):
    """A node before 3.8.2: its management API has what rabbitmqctl has not, for an administrator alone."""

    def __init__(self, module, command):
        Node.__init__(self, module, command)
        self.ctl_command = [command, "-q"]
        self.password = ""

    def __enter__(self):
        # On the command line stands a password that never counts, and then the hash of the one that does.
        add = ["add_user", ADMINISTRATOR, random_password()]
        if self.run_ctl(*add)[0]:
            # What was killed left it.
            self.run_ctl("delete_user", ADMINISTRATOR)
            self.ctl(*add)
        self.password = random_password()
        self.ctl("eval", hash_expression(ADMINISTRATOR, self.password))
        self.ctl("set_user_tags", ADMINISTRATOR, "administrator")
        return self

    def __exit__(self, failure, *_):
        # What ends the module has been said by then.
        (self.run_ctl if failure else self.ctl)("delete_user", ADMINISTRATOR)

    def ask(self, method, document=None):
        """Return what the management API answers; wait for it, since it listens later than the broker does."""
        url = self.module.params["api_url"].rstrip("/") + "/api/definitions"
        deadline = now() + self.seconds
        while True:
            try:
                return open_url(
                    url,
                    method=method,
                    data=None if document is None else json.dumps(document),
                    headers={"Content-Type": "application/json"},
                    url_username=ADMINISTRATOR,
                    url_password=self.password,
                    force_basic_auth=True,
                    use_proxy=False,
                    timeout=self.seconds,
                ).read()
            except HTTPError as error:
                return self.fail("{} {}".format(method, url), "{} {}.".format(error, error.read()[-1500:]))
            except IOError as error:
                if now() > deadline:
                    return self.fail("{} {}".format(method, url), "{}.".format(error))
            time.sleep(1)

    def state(self):
        """Return the node's definitions."""
        return json.loads(self.ask("GET").decode("utf-8"))

    def load(self, document):
        """Import definitions."""
        self.ask("POST", document)


def random_password():
    """Return a password that nobody guesses, without characters that mean something to a shell."""
    return base64.b16encode(os.urandom(24)).decode()


def hash_expression(user, password):
    """Return the Erlang expression that gives a user a password, as the hash that the node knows."""
    return (
        'rabbit_auth_backend_internal:change_password_hash(<<"{}">>, base64:decode(case code:which({}) of '
        'non_existing -> "{}"; _ -> "{}" end)).'
    ).format(user, HASHING, hash_password(password, hashing=FIRST_HASHING), hash_password(password))


def bring(node, params, check_mode):
    """Bring a node to the wanted state; return the differences that there were, and those that are left."""
    document, deletions, differences = compare(node.state(), params)
    if not differences or check_mode:
        return differences, []
    if any(document.values()):
        node.load(document)
    for arguments in deletions:
        node.ctl(*arguments)
    deadline = now() + IMPORT_SECONDS
    while True:
        left = compare(node.state(), params)[2]
        if not left or now() > deadline:
            return differences, left
        time.sleep(1)


def main():
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
            "dead_letters": {"type": "str", "default": ""},
            "api_url": {"type": "str", "default": ""},
            "rabbitmqctl": {"type": "str", "default": "rabbitmqctl"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    command = module.get_bin_path(module.params["rabbitmqctl"])
    if command is None:
        if module.check_mode:
            module.exit_json(changed=True, differences=["RabbitMQ is not installed yet"])
        module.fail_json(msg="There is no {} on the host: is RabbitMQ installed?".format(module.params["rabbitmqctl"]))

    try:
        with (OldNode if module.params["api_url"] else Node)(module, command) as node:
            differences, left = bring(node, module.params, module.check_mode)
    except QueueConflictError as conflict:
        module.fail_json(msg=str(conflict))
    result = {"differences": differences, "diff": {"prepared": "".join(line + "\n" for line in differences)}}
    if left:
        result["msg"] = (
            "Imported, but {} s later: {}. Look at the newest file in /var/log/rabbitmq on the host.".format(
                IMPORT_SECONDS, "; ".join(left)
            )
        )
        module.fail_json(**result)
    module.exit_json(changed=bool(differences), **result)


if __name__ == "__main__":
    main()

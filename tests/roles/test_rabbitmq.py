"""The role rabbitmq without a host: what it refuses, what it writes, and how its module tells what has drifted."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from python_file import load

Render = Callable[[Path, dict[str, Any]], str]
Refused = Callable[[dict[str, Any]], tuple[Any, str]]

ROLE = Path(__file__).parents[2] / "roles" / "rabbitmq"
USER = {"name": "app", "password": "not-to-be-seen", "configure": ".*", "write": ".*", "read": ".*"}
INPUT: dict[str, Any] = {"rabbitmq_vhost": "own", "rabbitmq_users": [USER]}

module: Any = load(ROLE / "library" / "rabbitmq_definitions.py")


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"rabbitmq_vhost": ""}, ["rabbitmq_vhost is ''", "for example shop"]),
    ({"rabbitmq_vhost": "a b"}, ["rabbitmq_vhost is 'a b'"]),
    ({"rabbitmq_listen_addresses": []}, ["rabbitmq_listen_addresses is []", "at least one IP address"]),
    ({"rabbitmq_listen_addresses": ["broker"]}, ["broker", "no host names"]),
    ({"rabbitmq_memory_high_watermark": "40%"}, ["rabbitmq_memory_high_watermark is '40%'", "for example 2GiB"]),
    ({"rabbitmq_memory_high_watermark": "1.5"}, ["rabbitmq_memory_high_watermark is '1.5'"]),
    ({"rabbitmq_memory_high_watermark": 0}, ["rabbitmq_memory_high_watermark is '0'"]),
    ({"rabbitmq_disk_free_limit": "lots"}, ["rabbitmq_disk_free_limit is 'lots'", "for example 1GiB"]),
    ({"rabbitmq_port": "amqp"}, ["rabbitmq_port", "amqp"]),
    ({"rabbitmq_tls_key": "/nowhere.key"}, ["rabbitmq_tls_key '/nowhere.key'", "both are files"]),
    (
        {"rabbitmq_tls_certificate": "/nowhere", "rabbitmq_tls_key": "/nowhere"},
        ["both are files on the controller"],
    ),
    ({"rabbitmq_erl_args": '+S "2:2"'}, ["rabbitmq_erl_args", "double quotes"]),
    ({"rabbitmq_users": []}, ["rabbitmq_users names []", "at least one user"]),
    ({"rabbitmq_users": [USER, USER]}, ['["app", "app"]', "each name once"]),
    ({"rabbitmq_users": [{**USER, "name": "guest"}]}, ["none called guest"]),
    ({"rabbitmq_users": [{**USER, "password": ""}]}, ["the password of app is empty"]),
    ({"rabbitmq_users": [{"name": "app"}]}, ["password", "missing", "rabbitmq_users"]),
    ({"rabbitmq_queues": [{"name": "red"}, {"name": "red"}]}, ['["red", "red"]', "each queue must be there once"]),
    ({"rabbitmq_queues": ["red"]}, ["rabbitmq_queues"]),
    (
        {"rabbitmq_queues": [{"name": "red"}], "rabbitmq_dead_letters": "red"},
        ["rabbitmq_dead_letters is 'red'", "a queue that no worker consumes"],
    ),
    ({"rabbitmq_consumer_timeout": 0}, ["rabbitmq_consumer_timeout is 0", "at least 60 seconds"]),
    ({"rabbitmq_max_message_size": 0}, ["rabbitmq_max_message_size is 0", "a number of bytes"]),
]


@pytest.fixture(scope="module")
def refused(play_inputs: Callable[..., Refused]) -> Refused:
    """What became of every bad input."""
    return play_inputs("rabbitmq", INPUT, [{**INPUT, **settings} for settings, _ in REFUSED])


@pytest.mark.parametrize(("settings", "messages"), REFUSED)
def test_bad_input_is_refused_before_anything_is_touched(
    refused: Refused, settings: dict[str, Any], messages: list[str]
) -> None:
    """The play fails in the validation, names the input and the fix, and shows no password."""
    case, output = refused({**INPUT, **settings})
    said = case.refusal()
    assert [message for message in messages if message not in said] == []
    assert "not-to-be-seen" not in output


def rendered(render: Render, template: str, **settings: Any) -> str:
    """Return a rendered template of the role."""
    return render(ROLE / "templates" / template, {**INPUT, **settings})


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (0.4, "vm_memory_high_watermark.relative = 0.4"),
        (".25", "vm_memory_high_watermark.relative = .25"),
        ("2GiB", "vm_memory_high_watermark.absolute = 2GiB"),
        ("800MB", "vm_memory_high_watermark.absolute = 800MB"),
    ],
)
def test_a_watermark_is_a_share_or_an_amount(render: Render, given: object, line: str) -> None:
    """The form of the value decides which of the two settings of RabbitMQ is written."""
    written = rendered(render, "rabbitmq.conf.j2", rabbitmq_memory_high_watermark=given)
    assert [text for text in written.splitlines() if text.startswith("vm_memory")] == [line]


@pytest.mark.parametrize(("seconds", "lines"), [(1800, []), (7200, ["consumer_timeout = 7200000"])])
def test_a_consumer_timeout_is_written_where_it_is_not_the_usual_one(
    render: Render, seconds: int, lines: list[str]
) -> None:
    """Older releases do not know the key, and would not start."""
    written = rendered(render, "rabbitmq.conf.j2", rabbitmq_consumer_timeout=seconds)
    assert [text for text in written.splitlines() if text.startswith("consumer_timeout")] == lines


def test_with_a_certificate_nothing_is_served_without_tls(render: Render) -> None:
    """The listeners are those of TLS, on the same addresses and port; without one there is no word of it."""
    settings = {"rabbitmq_listen_addresses": ["10.0.0.1", "::1"], "rabbitmq_port": 5671}
    written = rendered(render, "rabbitmq.conf.j2", rabbitmq_tls_certificate="broker.pem", **settings).splitlines()
    listeners = [line for line in written if line.startswith("listeners")]
    assert listeners == ["listeners.tcp = none", "listeners.ssl.1 = 10.0.0.1:5671", "listeners.ssl.2 = ::1:5671"]
    assert "ssl_options.certfile = /etc/rabbitmq/tls/certificate.pem" in written
    assert "ssl" not in rendered(render, "rabbitmq.conf.j2", **settings)


def test_without_management_no_line_speaks_of_it(render: Render) -> None:
    """RabbitMQ refuses to start on a setting of a plugin that is off."""
    assert "management" in rendered(render, "rabbitmq.conf.j2")
    assert "management" not in rendered(render, "rabbitmq.conf.j2", rabbitmq_management=False)
    assert rendered(render, "enabled_plugins.j2").endswith("\n[rabbitmq_management].\n")
    assert rendered(render, "enabled_plugins.j2", rabbitmq_management=False).endswith("\n[].\n")


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        (
            {},
            [
                "{vm_memory_high_watermark, 0.4},",
                "{disk_free_limit, 1073741824},",
                "{heartbeat, 20}",
                '{tcp_listeners, [{"127.0.0.1", 5672}]},',
            ],
        ),
        ({"rabbitmq_memory_high_watermark": ".25"}, ["{vm_memory_high_watermark, 0.25},"]),
        ({"rabbitmq_memory_high_watermark": "2GiB"}, ["{vm_memory_high_watermark, {absolute, 2147483648}},"]),
        ({"rabbitmq_disk_free_limit": "500MB"}, ["{disk_free_limit, 500000000},", '{default_vhost, <<"own">>},']),
        (
            {"rabbitmq_listen_addresses": ["10.0.0.1", "::1"], "rabbitmq_port": 5673},
            ['{tcp_listeners, [{"10.0.0.1", 5673}, {"::1", 5673}]},'],
        ),
        ({"rabbitmq_management_port": 15673}, ['{listener, [{ip, "127.0.0.1"}, {port, 15673}]}']),
        (
            {"rabbitmq_port": 5671, "rabbitmq_tls_certificate": "broker.pem"},
            [
                "{tcp_listeners, []},",
                '{ssl_listeners, [{"127.0.0.1", 5671}]},',
                '{certfile, "/etc/rabbitmq/tls/certificate.pem"},',
                '{keyfile, "/etc/rabbitmq/tls/key.pem"},',
                "{versions, ['tlsv1.2']},",
            ],
        ),
    ],
)
def test_an_old_node_gets_its_settings_as_erlang_terms(
    render: Render, settings: dict[str, Any], lines: list[str]
) -> None:
    """Amounts are bytes, since it knows no units, and every bracket is closed."""
    written = rendered(render, "rabbitmq.config.j2", **settings)
    assert [line for line in lines if line not in [text.strip() for text in written.splitlines()]] == []
    assert [written.count(bracket) for bracket in "[{"] == [written.count(bracket) for bracket in "]}"]
    assert written.endswith("\n].\n")


POLICIES = [
    ("  Installed: (none)\n  Candidate: 3.5.7-1ubuntu0.16.04.4", "rabbitmq.config"),
    ("  Installed: 3.5.7-1\n  Candidate: 4.0.5-4", "rabbitmq.config"),
    ("  Installed: (none)\n  Candidate: 3.8.2-0ubuntu1.5", "rabbitmq.conf"),
    ("  Installed: (none)\n  Candidate: (none)", "rabbitmq.conf"),
    ("  Installed: 3.10.8-1.1\n  Candidate: 4.0.5-4", "rabbitmq.conf"),
]


@pytest.fixture(scope="module")
def configured(play_cases: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The first tasks of configure.yml, for what apt-cache says by policy, and for an old node by its management."""
    ask, refuse, tell = yaml.safe_load((ROLE / "tasks" / "configure.yml").read_text())[:3]
    own = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    this = {**own, "ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {}
    for number, (policy, _) in enumerate(POLICIES):
        folder = tmp_path_factory.mktemp("policy")
        program = folder / "apt-cache"
        program.write_text(f"#!/bin/sh\ncat <<'END'\nrabbitmq-server:\n{policy}\nEND\n")
        program.chmod(0o755)
        (folder / "apt-get").symlink_to("/bin/true")
        hosts[f"policy{number}"] = {**this, "path": f"{folder}:{os.environ['PATH']}"}
    known = {**this, "__rabbitmq_policy": {"stdout": "  Installed: 3.6.6-1"}}
    old = {name: {**known, "rabbitmq_management": on} for name, on in {"managed": True, "unmanaged": False}.items()}
    ask["environment"]["PATH"] = "{{ path }}"
    show = {"debug": {"msg": "It gets {{ __rabbitmq_configuration }}."}}
    plays = [
        {"hosts": "policy*", "gather_facts": False, "tasks": [ask, show, tell]},
        {"hosts": "*managed", "gather_facts": False, "tasks": [refuse]},
    ]
    cases: dict[str, Any] = play_cases(plays, {**hosts, **old}).cases
    return cases


@pytest.mark.parametrize(("policy", "file"), POLICIES)
def test_the_form_of_the_configuration_follows_the_release(configured: dict[str, Any], policy: str, file: str) -> None:
    """The installed one counts, or else the one that would be installed; the boundary is 3.8.2."""
    case = configured[f"policy{POLICIES.index((policy, file))}"]
    assert not case.failed
    assert f"It gets {file}." in case.said


def test_an_upgrade_that_leaves_no_node_is_told_beforehand(configured: dict[str, Any]) -> None:
    """Where an older one is installed and the next Debian has 4.0; a new node is not meant."""
    told = [
        number for number in range(len(POLICIES)) if "does not start on its data" in configured[f"policy{number}"].said
    ]
    assert [POLICIES[number][0].split()[1] for number in told] == ["3.5.7-1", "3.10.8-1.1"]
    assert configured["policy4"].said.endswith(
        "RabbitMQ 3.10.8 of policy4 is upgraded to 4.0.5 with the packages of its host, and that one does not start on "
        "its data: 4 takes those of 3.13 alone. Hold it back (apt-mark hold rabbitmq-server); or begin anew, which "
        "loses the messages that wait: stop what publishes, let the workers empty the queues, stop rabbitmq-server, "
        "upgrade, remove /var/lib/rabbitmq/mnesia, and apply this role, which defines users and queues again."
    )


def test_an_old_node_is_not_set_up_without_its_management(configured: dict[str, Any]) -> None:
    """Its users and queues are reachable through the API alone: that is said, with the version."""
    assert "RabbitMQ 3.6.6 of unmanaged" in configured["unmanaged"].refusal(r"^configure \| Fail if an old RabbitMQ ")
    assert configured["managed"].passed
    assert not configured["managed"].failed


WANTED: dict[str, Any] = {
    "vhost": "own",
    "users": [{**{key: USER[key] for key in ("name", "configure", "write", "read")}, "tags": ["monitoring"]}],
    "passwords": {"app": "secret"},
    "absent_users": ["guest"],
    "queues": [{"name": "red", "arguments": {}}, {"name": "slow", "arguments": {"x-message-ttl": 5}}],
    "dead_letters": "dead",
}


@pytest.fixture
def state() -> dict[str, Any]:
    """What a node with all that is wanted exports."""
    return {
        "vhosts": [{"name": "own"}, {"name": "/"}],
        "users": [
            {
                "name": "app",
                "password_hash": module.hash_password("secret"),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": ["monitoring"],
            }
        ],
        "permissions": [
            {"user": "app", "vhost": "/", "configure": "", "write": "", "read": ""},
            {"user": "app", "vhost": "own", "configure": ".*", "write": ".*", "read": ".*"},
        ],
        "queues": [
            {
                "name": "red",
                "vhost": "own",
                "durable": True,
                "auto_delete": False,
                "arguments": {"x-queue-type": "classic"},
            },
            {"name": "slow", "vhost": "own", "durable": True, "auto_delete": False, "arguments": {"x-message-ttl": 5}},
            {"name": "red", "vhost": "/", "durable": False, "auto_delete": True, "arguments": {"x-expires": 1}},
            {"name": "dead", "vhost": "own", "durable": True, "auto_delete": False, "arguments": {}},
        ],
        "policies": [
            {"vhost": "/", "name": "dead-letters", "pattern": "", "definition": {}},
            {
                "vhost": "own",
                "name": "dead-letters",
                "pattern": "^(red|slow)$",
                "apply-to": "queues",
                "priority": 0,
                "definition": {"dead-letter-exchange": "", "dead-letter-routing-key": "dead"},
            },
        ],
    }


def test_a_hash_is_the_one_that_rabbitmq_documents() -> None:
    """The example of RabbitMQ's guide to passwords: salt 908dc60a, password test12."""
    assert (
        module.hash_password("test12", bytes.fromhex("908dc60a")) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
    )


def test_before_3_6_a_hash_is_made_with_md5(state: dict[str, Any]) -> None:
    """A node that names no digest knows that one alone: it is compared with, and imported as, such a hash."""
    state["users"][0].pop("hashing_algorithm")
    state["users"][0]["password_hash"] = module.hash_password("secret", hashing="rabbit_password_hashing_md5")
    assert module.compare(state, WANTED)[2] == []
    state["users"][0]["password_hash"] = module.hash_password("another", hashing="rabbit_password_hashing_md5")
    document, _, differences = module.compare(state, WANTED)
    assert differences == ["user app has another password"]
    assert module.password_matches("secret", document["users"][0])
    assert document["users"][0]["hashing_algorithm"] == "rabbit_password_hashing_md5"


class Host:
    """Stands in for AnsibleModule: notes what is run, and ends as that does."""

    check_mode = False

    def __init__(self, refused: str = "") -> None:
        self.params = {"api_url": "http://127.0.0.1:1", "timeout": 0}
        self.calls: list[list[str]] = []
        self.refused = refused

    def run_command(self, command: list[str], **_: Any) -> tuple[int, str, str]:
        """Note a command, and refuse the first that is to be refused."""
        self.calls.append(command)
        refused = command[2] == self.refused
        self.refused = "" if refused else self.refused
        return int(refused), "", "it exists"

    def fail_json(self, msg: str) -> None:
        """End as a module that failed does."""
        raise SystemExit(msg)


@pytest.mark.parametrize(
    ("refused", "first"), [("", ["add_user"]), ("add_user", ["add_user", "delete_user", "add_user"])]
)
def test_the_administrator_of_the_moment_goes_whatever_happens(refused: str, first: list[str]) -> None:
    """He is deleted when the API does not answer, one left over is replaced, and no command holds his password."""
    host = Host(refused)
    with pytest.raises(SystemExit, match="/api/definitions"), module.OldNode(host, "ctl") as node:
        node.state()
    assert [call[2] for call in host.calls] == [*first, "eval", "set_user_tags", "delete_user"]
    assert len(node.password) > 40
    assert node.password not in str(host.calls)


def test_what_is_as_wanted_is_left_alone(state: dict[str, Any]) -> None:
    """Nothing is imported, and nobody deleted."""
    document, unwanted, differences = module.compare(state, WANTED)
    assert not any(document.values())
    assert (unwanted, differences) == ([], [])


def test_an_empty_node_gets_everything() -> None:
    """Virtual host, user, permission, both queues and that of the dead letters, durable, and its policy."""
    document = module.compare({}, WANTED)[0]
    assert {key: len(value) for key, value in document.items()} == {
        "vhosts": 1,
        "users": 1,
        "permissions": 1,
        "queues": 3,
        "policies": 1,
    }
    assert all(queue["durable"] for queue in document["queues"])
    assert "secret" not in str(document)


@pytest.mark.parametrize(
    ("part", "change", "difference"),
    [
        (
            "users",
            {"password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"},
            "user app has another password",
        ),
        ("users", {"hashing_algorithm": "unheard_of"}, "user app has another password"),
        ("users", {"tags": "administrator,monitoring"}, 'user app has the tags ["administrator", "monitoring"]'),
        ("permissions", {"vhost": "other"}, "user app has other permissions in own"),
        ("permissions", {"write": ""}, "user app has other permissions in own"),
        ("queues", {"vhost": "other"}, "queue slow does not exist in own"),
        ("policies", {"pattern": "^red$"}, "the policy dead-letters in own is missing or another one"),
        ("policies", {"vhost": "other"}, "the policy dead-letters in own is missing or another one"),
        ("vhosts", {"name": "other"}, "virtual host own does not exist"),
    ],
)
def test_what_drifted_is_set_back(state: dict[str, Any], part: str, change: dict[str, Any], difference: str) -> None:
    """Only that which drifted is imported, and the difference is told in a sentence."""
    state[part][{"permissions": 1, "queues": 1, "policies": 1}.get(part, 0)].update(change)
    document, _, differences = module.compare(state, WANTED)
    assert {key for key, value in document.items() if value} == {part}
    assert len(differences) == 1
    assert differences[0].startswith(difference)


def test_guest_is_deleted_where_it_exists(state: dict[str, Any]) -> None:
    """An unwanted user is named for deletion, and nothing is imported for it."""
    state["users"].append({"name": "guest", "tags": ["administrator"]})
    document, unwanted, differences = module.compare(state, WANTED)
    assert not any(document.values())
    assert (unwanted, differences) == ([["delete_user", "guest"]], ["user guest exists"])


def test_the_policy_is_cleared_where_dead_letters_are_not_kept(state: dict[str, Any]) -> None:
    """That of the other virtual host is left alone, and so is the queue with what is in it."""
    document, deletions, differences = module.compare(state, {**WANTED, "dead_letters": ""})
    assert not any(document.values())
    assert deletions == [["clear_policy", "-p", "own", "dead-letters"]]
    assert differences == ["there is a policy dead-letters in own"]


@pytest.mark.parametrize(
    ("queue", "change"),
    [
        (0, {"arguments": {"x-queue-type": "quorum"}}),
        (0, {"arguments": {"x-message-ttl": 5}}),
        (1, {"arguments": {}}),
        (0, {"auto_delete": True}),
        (1, {"durable": False}),
    ],
)
def test_a_queue_of_another_kind_is_an_error(state: dict[str, Any], queue: int, change: dict[str, Any]) -> None:
    """It is named, with the command that deletes it; a queue cannot be changed in place."""
    state["queues"][queue].update(copy.deepcopy(change))
    name = state["queues"][queue]["name"]
    with pytest.raises(module.QueueConflictError, match=f"rabbitmqctl delete_queue --vhost own {name}"):
        module.compare(state, WANTED)


def test_an_old_node_is_told_another_command_to_delete_a_queue(state: dict[str, Any]) -> None:
    """Its rabbitmqctl deletes no queue; the API's URL is quoted."""
    params = {**WANTED, "vhost": "own", "api_url": "http://127.0.0.1:15672"}
    state["queues"][0]["durable"] = False
    with pytest.raises(module.QueueConflictError, match=r"--request DELETE http://[^ ]+/api/queues/own/red$"):
        module.compare(state, params)
    assert "/api/queues/a%2Fb/c" in module.delete_command("a/b", "c", "http://x")

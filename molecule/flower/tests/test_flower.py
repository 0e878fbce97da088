"""What Flower shows of two workers, after side_effect.yml damaged its environment and changed a setting."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from testinfra.host import Host

PASSWORD = 'page "pass$word" with\\backslash'
QUEUES = ["blue", "green", "red"]

ASK = """
import sys, urllib.error, urllib.request
request = urllib.request.Request("http://127.0.0.1:5555" + sys.argv[1])
if len(sys.argv) > 2:
    request.add_header("Authorization", "Basic " + sys.argv[2])
try:
    with urllib.request.urlopen(request, timeout=30) as answer:
        print(answer.status)
        print(answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code)
"""


def ask(host: Host, path: str, *credentials: str) -> tuple[int, str]:
    """Return the status and the text of Flower's answer to USER:PASSWORD, or to nobody."""
    encoded = [base64.b64encode(pair.encode()).decode() for pair in credentials]
    arguments = " ".join(["%s"] * (2 + len(encoded)))
    status, _, text = host.check_output(f"python3 -c {arguments}", ASK, path, *encoded).partition("\n")
    return int(status), text


def ask_json(host: Host, path: str) -> Any:
    """Return what the page's user gets from Flower's API."""
    status, text = ask(host, path, f"taskmill:{PASSWORD}")
    assert status == 200
    return json.loads(text)


def main_process(host: Host) -> str:
    """Return the process number of Flower."""
    return str(host.check_output("systemctl show --property=MainPID --value flower"))


def test_nobody_gets_in_without_the_password(host: Host) -> None:
    """Page and API refuse those who bring no password or a wrong one."""
    for path in ("/", "/workers", "/api/workers"):
        assert ask(host, path)[0] == 401
        assert ask(host, path, "taskmill:guess")[0] == 401


def test_the_page_opens_with_the_password(host: Host) -> None:
    """The password works to the letter, quotes, dollar sign and backslash included."""
    assert ask(host, "/workers", f"taskmill:{PASSWORD}")[0] == 200


def test_both_workers_are_online_with_their_three_queues(host: Host) -> None:
    """Flower has heard of w1 and w2 from the broker, and asked them what they consume."""
    deadline = time.monotonic() + 30
    status: dict[str, bool] = {}
    while status != {"w1@flower": True, "w2@flower": True} and time.monotonic() < deadline:
        time.sleep(1)
        status = ask_json(host, "/api/workers?status=1")
    assert status == {"w1@flower": True, "w2@flower": True}
    workers = ask_json(host, "/api/workers?refresh=1")
    queues = {name: sorted(queue["name"] for queue in worker["active_queues"]) for name, worker in workers.items()}
    assert queues == {"w1@flower": QUEUES, "w2@flower": QUEUES}


def test_the_lengths_of_the_queues_are_known(host: Host) -> None:
    """The management API lets Flower's user read them."""
    queues = ask_json(host, "/api/queues/length")["active_queues"]
    assert sorted((queue["name"], queue["messages"]) for queue in queues) == [(name, 0) for name in QUEUES]


def test_it_listens_on_its_address_alone(host: Host) -> None:
    """Port 5555 is open on loopback and nowhere else."""
    listening = [
        line.split()[3] for line in host.check_output("ss --listening --tcp --numeric --no-header").splitlines()
    ]
    assert [address for address in listening if address.endswith(":5555")] == ["127.0.0.1:5555"]


def test_it_runs_as_its_own_user_with_bounded_memory(host: Host) -> None:
    """Neither root nor without a limit, in the environment that the side effect made anew."""
    assert host.check_output("ps -o user= -p %s", main_process(host)) == "flower"
    assert host.check_output("systemctl show --property=MemoryMax --value flower") == str(512 * 1024**2)
    assert host.check_output("systemctl show --property=NRestarts --value flower") == "0"
    assert host.service("flower").is_enabled


def test_the_changed_setting_reached_the_process(host: Host) -> None:
    """The running Flower has the number of tasks that the side effect set."""
    assert (
        "FLOWER_MAX_TASKS=500"
        in host.check_output("tr '\\0' '\\n' < /proc/%s/environ", main_process(host)).splitlines()
    )


def test_secrets_are_kept(host: Host) -> None:
    """No password is in an argument list, and the file of the settings is closed to others."""
    assert "pass" not in host.check_output("tr '\\0' ' ' < /proc/%s/cmdline", main_process(host))
    assert host.run("setpriv --reuid=nobody --regid=nogroup --clear-groups cat /etc/flower/flower.env").rc == 1
    assert host.run("setpriv --reuid=flower --regid=flower --clear-groups cat /etc/flower/flower.env").rc == 0

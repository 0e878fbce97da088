"""Beat after side_effect.yml, which changed one thing at a time and applied the role after each."""

from __future__ import annotations

import json
import time
from typing import Any

from testinfra.host import Host

PASSWORD = "not-to-be-seen"
FILES = ["/etc/celery/celery-beat.env", "/etc/systemd/system/celery-beat.service", "/usr/local/lib/celery-beat"]
FILES.append("/var/lib/celery-beat")


def step(host: Host, name: str) -> Any:
    """Return what side_effect.yml noted; the state as a dictionary."""
    noted = json.loads(host.file(f"/root/steps/{name}.json").content_string)
    return noted | {"state": dict(line.split("=", 1) for line in noted["state"])}


def depth(host: Host) -> int:
    """Return how many messages wait in the queue that nobody consumes."""
    queues = json.loads(host.check_output("rabbitmqctl --quiet list_queues --vhost test --formatter json"))
    return next(int(queue["messages"]) for queue in queues if queue["name"] == "ticks")


def test_beat_sends_what_is_due(host: Host) -> None:
    """Its messages come to the queue, one after the other."""
    before, end = depth(host), time.monotonic() + 60
    while depth(host) == before and time.monotonic() < end:
        time.sleep(0.5)
    assert depth(host) > before


def test_beat_starts_at_boot_and_is_confined(host: Host) -> None:
    """With no capability, a read-only file system, and its schedule where it may write."""
    assert host.service("celery-beat").is_enabled
    assert host.service("celery-beat").is_running
    shown = host.check_output(
        "systemctl show --property=CapabilityBoundingSet,ProtectSystem,NoNewPrivileges celery-beat"
    )
    assert set(shown.splitlines()) == {"CapabilityBoundingSet=", "ProtectSystem=strict", "NoNewPrivileges=yes"}
    assert [name for name in host.file("/var/lib/celery-beat").listdir() if name.startswith("schedule")]


def test_beat_is_restarted_for_a_change_and_for_nothing_else(host: Host) -> None:
    """Another setting is another process."""
    nothing, setting = step(host, "nothing"), step(host, "setting")
    assert (nothing["said"], setting["said"]) == ("", "")
    assert nothing["state"]["MainPID"] != "0"
    assert setting["state"]["MainPID"] not in {"0", nothing["state"]["MainPID"]}


def test_a_beat_that_does_not_start_says_why(host: Host) -> None:
    """The play fails, with the cause in words and the log to look at."""
    said = step(host, "broken")["said"]
    assert said.startswith("Beat does not start: it has ended.")
    assert "\nWhy: the app reads TICKER_KEY from the environment" in said
    assert "journalctl --unit=celery-beat.service" in said


def test_beat_is_removed_where_it_is_not_wanted_and_comes_back(host: Host) -> None:
    """With its unit, its files and its schedule."""
    absent, back = step(host, "absent"), step(host, "back")
    assert (absent["said"], absent["there"], absent["state"]["ActiveState"]) == ("", [], "inactive")
    assert (back["said"], back["there"], back["state"]["ActiveState"]) == ("", FILES, "active")


def test_no_password_is_seen(host: Host) -> None:
    """In processes and in the journal; its file is for root and the user alone."""
    pid = host.check_output("systemctl show --value --property=MainPID celery-beat")
    assert PASSWORD not in host.file(f"/proc/{pid}/cmdline").content_string
    assert PASSWORD not in host.check_output("journalctl --quiet --no-pager --unit=celery-beat")
    assert host.file("/etc/celery/celery-beat.env").mode == 0o640

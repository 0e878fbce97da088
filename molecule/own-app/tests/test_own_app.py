"""An app of a user's own after site.yml, a drift, site.yml once more and a load."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
SECRET = "not-to-be-seen"


def changed(play: str) -> int:
    """Return how many tasks of a play changed the host."""
    said = (SCENARIO / f"{play}.txt").read_text()
    return int(re.findall(r"^own .*changed=(\d+) .*failed=0", said, re.MULTILINE)[0])


def ctl(host: Host, *arguments: str) -> Any:
    """Ask rabbitmqctl and return its JSON."""
    return json.loads(host.check_output(f"rabbitmqctl --quiet {' '.join(arguments)} --formatter json"))


def test_a_drift_is_mended_and_then_nothing_changes() -> None:
    """Each role finds what is not as it should be, once."""
    assert changed("mended") > 0
    assert changed("again") == 0


@pytest.mark.parametrize("play", ["mended", "again"])
def test_a_worker_host_that_is_down_keeps_nobody_from_being_set_up(play: str) -> None:
    """It is named, in the first play that asks something of it."""
    said = (SCENARIO / f"{play}.txt").read_text()
    assert re.findall(r"^down .*changed=0 .*unreachable=1 .*failed=0", said, re.MULTILINE)
    assert re.findall(r"fatal: \[down\]: UNREACHABLE!", said)


def test_the_broker_is_as_the_inventory_has_it(host: Host) -> None:
    """The port, the virtual host, the users with what they may do, the queues."""
    assert {user["user"] for user in ctl(host, "list_users")} == {"worker", "client", "monitor"}
    granted = {entry["user"]: entry["read"] for entry in ctl(host, "list_permissions", "--vhost team/shop")}
    assert "celeryev" in granted["monitor"]
    queues = {one["name"]: str(one["type"]) for one in ctl(host, "list_queues", "name", "type", "--vhost team/shop")}
    assert "quorum" in queues["orders"]
    assert "dead-letters" in queues
    assert host.socket("tcp://10.78.37.11:5673").is_listening
    assert not host.socket("tcp://10.78.37.11:5672").is_listening
    assert host.socket("tcp://127.0.0.1:15674").is_listening
    assert not host.socket("tcp://127.0.0.1:15672").is_listening
    assert "heartbeat = 7" not in host.file("/etc/rabbitmq/rabbitmq.conf").content_string


def test_every_service_runs_and_starts_at_boot(host: Host) -> None:
    """Those that were stopped and disabled, too."""
    for unit in ("rabbitmq-server", "memcached", "flower", "celery-worker@till"):
        assert host.service(unit).is_enabled, unit
    for unit in ("rabbitmq-server", "memcached", "flower", "celery-worker@till"):
        assert host.service(unit).is_running, unit
    assert "taskmill" in host.check_output("nft list tables")
    assert host.check_output("systemctl show --value --property=LimitNOFILE memcached") != "99"
    assert host.socket("tcp://10.78.37.11:11212").is_listening


def test_what_somebody_else_has_put_beside_the_workers_stays(host: Host) -> None:
    """Drop-ins of the unit and of its template, and a file of settings."""
    assert host.check_output("systemctl show --value --property=Nice celery-worker@till") == "5"
    assert host.check_output("systemctl show --value --property=LimitCORE celery-worker@till") == "0"
    assert host.file("/etc/celery/beat.env").content_string == "OF=another\n"


def test_the_app_is_whole_and_works_in_celerys_own_way(host: Host) -> None:
    """Its source is back; no batches, which it has not asked for."""
    assert host.file("/opt/shop/src/shop/prices.py").exists
    environment = host.file("/etc/celery/till.env").content_string
    assert "nowhere" not in environment
    assert "batches" not in environment


@pytest.mark.parametrize(
    ("worker", "options"),
    [
        ("till", ["--concurrency=2"]),
        ("kiosk", ["--pool=threads", "--concurrency=2"]),
        ("counter", ["--autoscale=2,1", "--max-tasks-per-child=50"]),
    ],
)
def test_every_worker_has_the_pool_that_its_entry_names(host: Host, worker: str, options: list[str]) -> None:
    """It runs, with the environment of all, in the confinement that is loosened by one directive."""
    unit = f"celery-worker@{worker}"
    assert host.service(unit).is_running
    pid = host.check_output("systemctl show --value --property=MainPID %s", unit)
    assert set(options) <= set(host.file(f"/proc/{pid}/cmdline").content_string.split("\0"))
    names = [entry.split("=")[0] for entry in host.file(f"/proc/{pid}/environ").content_string.split("\0")]
    assert {"SHOP_KEY", "SHOP_TAX"} <= set(names)
    assert host.check_output("systemctl show --value --property=PrivateDevices %s", unit) == "no"
    assert host.check_output("systemctl show --value --property=ProtectSystem %s", unit) == "strict"


def test_what_the_app_needs_of_the_system_is_there(host: Host) -> None:
    """The Debian package, and the directory that it may write to."""
    assert host.package("libpq5").is_installed
    assert host.file("/var/lib/shop/receipts").user == "celery"


def test_every_invoice_is_right() -> None:
    """The load was made of the app's task, on its queue, and each value was checked."""
    record = json.loads((SCENARIO / "runs" / "latest" / "run.json").read_text())
    assert record["workload"]["queues"] == ["orders"]
    assert "shop.tasks.invoice" in str(record["workload"])
    assert record["environment"]["settings"]["workers"][0]["environment"] == ["SHOP_TAX"]
    assert record["environment"]["settings"]["app_environment"] == ["SHOP_KEY"]
    assert (record["counts"]["posted"], record["counts"]["correct"], record["counts"]["lost"]) == (500, 500, 0)


def test_no_password_of_the_vault_is_seen(host: Host) -> None:
    """In what was printed, in the record, in processes and journals."""
    said = {path.stem: path.read_text() for path in SCENARIO.glob("*.txt")}
    assert {"mended", "again", "load"} <= said.keys()
    assert [name for name, text in said.items() if SECRET in text] == []
    files = [path for path in (SCENARIO / "runs").rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    seen = host.run("cat /proc/[0-9]*/cmdline; journalctl --quiet --no-pager --output=cat").stdout
    assert len(seen) > 1000
    assert SECRET not in seen

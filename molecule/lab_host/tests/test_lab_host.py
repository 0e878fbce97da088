"""A lab inside a host whose PID 1 is systemd."""

from __future__ import annotations

from testinfra.host import Host


def test_host_boots_without_failed_units(host: Host) -> None:
    """The lab host that Molecule made is up, and nothing in it failed."""
    assert host.check_output("systemctl is-system-running") == "running"

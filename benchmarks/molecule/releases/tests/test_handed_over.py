"""The worker host whose queues were handed over."""

from __future__ import annotations

from testinfra.host import Host

testinfra_hosts = ["worker1"]


def test_workers_that_gave_their_queues_away_do_not_come_back(host: Host) -> None:
    """None of them runs, nor starts at boot."""
    for name in ("w1", "w2"):
        worker = host.service(f"celery-worker@{name}")
        assert not worker.is_running
        assert not worker.is_enabled

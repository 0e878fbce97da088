"""What the sampling of side_effect.yml left: some four samples, of the second start alone."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest


@pytest.fixture
def samples(host: Any) -> list[dict[str, Any]]:
    """The samples, as the README says to read them."""
    command = "sadf -j /var/lib/host-stats/samples -- -P ALL -u ALL -r"
    report = json.loads(host.check_output(command))
    statistics: list[dict[str, Any]] = report["sysstat"]["hosts"][0]["statistics"]
    return statistics


def test_a_start_replaces_the_samples_of_the_one_before(samples: list[dict[str, Any]]) -> None:
    """The samples are those of the second start, not the six seconds of the first and these."""
    assert 2 <= len(samples) <= 8


def test_every_core_is_sampled(host: Any, samples: list[dict[str, Any]]) -> None:
    """Each sample has a line for each core, whose shares add up to the whole of its time."""
    cores = int(host.check_output("getconf _NPROCESSORS_ONLN"))
    for sample in samples:
        lines = {line["cpu"]: line for line in sample["cpu-load"]}
        assert set(lines) == {"all", *(str(core) for core in range(cores))}
        shares = [value for name, value in lines["all"].items() if name != "cpu"]
        assert sum(shares) == pytest.approx(100, abs=2)


def test_memory_is_sampled(samples: list[dict[str, Any]]) -> None:
    """Each sample says how much memory is in use."""
    assert all(sample["memory"]["memused"] > 0 for sample in samples)


@pytest.fixture
def units(host: Any) -> dict[str, list[dict[str, str]]]:
    """The samples of each unit."""
    rows = csv.DictReader(host.file("/var/lib/host-stats/units.csv").content_string.splitlines())
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(row["unit"], []).append(row)
    return found


@pytest.fixture
def limits(host: Any) -> dict[str, Any]:
    """The limits that were met."""
    met: dict[str, Any] = json.loads(host.file("/var/lib/host-stats/limits.json").content_string)
    return met


def test_what_a_unit_used_is_counted_with_its_children(units: dict[str, list[dict[str, str]]]) -> None:
    """The service worked for a second in a process that was gone before most samples."""
    burner = units["burner.service"]
    assert float(burner[-1]["cpu_s"]) == pytest.approx(1, abs=0.4)
    assert burner[-1]["processes"] == "1"
    assert int(burner[-1]["rss_bytes"]) > 100_000


def test_sampling_itself_costs_little(units: dict[str, list[dict[str, str]]]) -> None:
    """Both samplers together take less than 3 % of one core."""
    for name in ("host-stats.service", "host-stats-units.service"):
        first, last = units[name][1], units[name][-1]
        used = float(last["cpu_s"]) - float(first["cpu_s"])
        assert used < 0.03 * (float(last["unix"]) - float(first["unix"]))


def test_a_restart_and_a_kill_are_noted(limits: dict[str, Any]) -> None:
    """The service restarted once, the others not at all; one process wanted more memory than there is."""
    restarts = limits["restarts"]
    assert restarts.pop("burner.service") == 1
    assert len(restarts) > 2
    assert not any(restarts.values())
    assert limits["oom_kills"] >= 1
    assert "broker" not in limits


def test_the_service_is_left_stopped_and_not_enabled(host: Any) -> None:
    """Nothing samples unless somebody asks."""
    for name in ("host-stats", "host-stats-units"):
        assert not host.service(name).is_running
        assert host.run(f"systemctl is-enabled {name}").stdout.strip() == "static"

"""What the sampling of side_effect.yml left: about four samples, of the second start alone."""

from __future__ import annotations

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
    """Four seconds of sampling, once a second, are there, and not the six of the first start."""
    assert 2 <= len(samples) <= 5


def test_every_core_is_sampled(host: Any, samples: list[dict[str, Any]]) -> None:
    """Each sample has a line for each core, whose shares add up to the whole of its time."""
    cores = int(host.check_output("nproc --all"))
    for sample in samples:
        lines = {line["cpu"]: line for line in sample["cpu-load"]}
        assert set(lines) == {"all", *(str(core) for core in range(cores))}
        shares = [value for name, value in lines["all"].items() if name != "cpu"]
        assert sum(shares) == pytest.approx(100, abs=2)


def test_memory_is_sampled(samples: list[dict[str, Any]]) -> None:
    """Each sample says how much memory is in use."""
    assert all(sample["memory"]["memused"] > 0 for sample in samples)


def test_the_service_is_left_stopped_and_not_enabled(host: Any) -> None:
    """Nothing samples unless somebody asks."""
    assert not host.service("host-stats").is_running
    assert host.run("systemctl is-enabled host-stats").stdout.strip() == "static"

"""What capacity.yml, tune.yml and a run with all that can be seen of it left on the controller."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
RUN = SCENARIO / "runs" / "latest"
TASKS = 3000


def newest(name: str) -> Path:
    """Return the newest folder of that name: Molecule keeps some files of the scenario before."""
    return max((SCENARIO / "runs").glob(f"*-{name}"))


def test_what_profiling_cost_is_known_from_a_run_without_it() -> None:
    """The same load ran beforehand without cProfile, and lies beside the run with its own figures."""
    cost = json.loads((RUN / "profile-cost.json").read_text())
    without = RUN.parent / cost["without"]["run"]
    assert cost["with"]["run"] == RUN.resolve().name != without.name
    assert not (without / "profile.pstats").exists()
    record = json.loads((without / "run.json").read_text())
    assert record["counts"]["correct"] == TASKS
    assert cost["without"]["completed_per_s"] == record["rates"]["completed_per_s"]


def test_a_pool_process_of_each_worker_was_looked_into() -> None:
    """py-spy saw Celery at work, from its outermost function on."""
    for worker in ("w1@worker1", "w2@worker1"):
        lines = (RUN / "pyspy" / f"{worker}.txt").read_text().splitlines()
        assert lines
        assert all(line.rpartition(" ")[2].isdecimal() for line in lines)
        assert any("trace_task" in line for line in lines)


def test_the_capacity_was_found_and_what_holds_it() -> None:
    """A steady rate below one that was not, with the hosts' samples to tell the broker's ceiling by."""
    search = newest("capacity")
    found = json.loads((search / "capacity.json").read_text())
    assert found["state"] == "complete"
    assert 0 < found["answer"]["low"] <= found["answer"]["rate"] < found["answer"]["high"]
    assert {"client", "broker", "result store"} == {one["part"] for one in found["ceilings"]}
    assert "worker1" in found["limit"]["text"]
    assert [row["worker_hosts"] for row in found["extrapolation"]] == [1, 2, 4, 8]


@pytest.fixture(scope="module")
def tuning() -> Path:
    """The folder that tune.yml left."""
    return newest("tune")


def test_each_point_was_measured_with_its_own_workers(tuning: Path) -> None:
    """The workers as they are have the pools of two nodes, the point with one node has half of them."""
    default, alone = (json.loads((tuning / "measured" / f"1-{place}.json").read_text()) for place in (0, 1))
    assert alone["options"] == {"nodes": 1}
    assert default["pool_processes"] == 2 * alone["pool_processes"]
    assert default["rate"] > 0 < alone["rate"]


def test_a_point_that_cannot_be_is_a_line_of_the_table(tuning: Path) -> None:
    """Its reason is what the role said of it."""
    assert "concurrency" in json.loads((tuning / "measured" / "1-2.json").read_text())["failed"]
    assert "| concurrency 0 | failed: " in (tuning / "tune.md").read_text()


def test_the_workers_are_back_after_tuning(host: Any) -> None:
    """Those of the inventory run on the worker's host, and no other."""
    if host.backend.get_hostname() != "worker1":
        pytest.skip("no worker runs here")
    units = host.check_output("systemctl list-units --plain --no-legend 'celery-worker@*.service'").splitlines()
    assert [unit.split()[:4] for unit in units] == [
        [f"celery-worker@{name}.service", "loaded", "active", "running"] for name in ("w1", "w2")
    ]
    assert "--concurrency=" + host.check_output("nproc") in host.check_output("cat /etc/celery/w1.env")


@pytest.fixture(scope="module")
def flower() -> dict[str, Any]:
    """What the browser saw of Flower after the run, page by page."""
    pages: dict[str, Any] = json.loads((RUN / "screenshots" / "flower.json").read_text())["pages"]
    return pages


def test_flowers_pages_were_seen_whole_in_a_browser(flower: dict[str, Any]) -> None:
    """The list of workers, the broker and both workers' queues: nothing missing, no error on a console."""
    assert set(flower) == {"flower-workers", "flower-broker", "flower-w1@worker1", "flower-w2@worker1"}
    faults = {name: [page["status"], page["missing"], page["console"]] for name, page in flower.items()}
    assert faults == {name: [200, [], []] for name in flower}


def test_the_browser_saw_both_workers_online_with_three_queues(flower: dict[str, Any]) -> None:
    """w1 and w2 stand in Flower's list as online, and on the page of each are its three queues, as on the broker's."""
    rows = flower["flower-workers"]["tables"]["workers"]
    assert {row["Worker"]: row["Status"] for row in rows} == {"w1@worker1": "Online", "w2@worker1": "Online"}
    for worker in ("w1@worker1", "w2@worker1"):
        queues = flower[f"flower-{worker}"]["tables"]["queues"]
        assert sorted(queue["Name"] for queue in queues) == ["blue", "green", "red"]
    ready = {(row["Queue"], row["Ready"]) for row in flower["flower-broker"]["tables"]["queues"]}
    assert ready >= {("red", "0"), ("green", "0"), ("blue", "0")}


def test_the_pictures_of_flower_are_drawn(flower: dict[str, Any]) -> None:
    """Each page's picture is as wide as the window and has many colours, which a blank one has not."""
    for page in flower.values():
        with Image.open(RUN / "screenshots" / page["screenshot"]) as picture:
            assert picture.width == 1280
            assert picture.height >= 900
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50

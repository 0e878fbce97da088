"""The report, from run folders of all shapes."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from taskmill import hosts, report
from taskmill.errors import TaskmillError
from taskmill.plan import write_json

EVIL = "<script>alert('x')</script>&\"tasks"
RECORD: dict[str, Any] = {
    "schema": 1,
    "name": "r",
    "started_at": "2026-11-22T09:30:00Z",
    "stack": "modern",
    "workload": {"task": "a.b", "tasks": 1000, "n": 20, "queues": ["red"], "threads": 10, "processes": 1},
    "counts": {
        "posted": 1000,
        "confirmed": 1000,
        "distinct": 1000,
        "retrieved": 1000,
        "correct": 1000,
        "wrong": 0,
        "failed": 0,
        "lost": 0,
        "duplicates": 0,
    },
    "seconds": {"post": 1.0, "collect": 4.0, "total": 5.0},
    "rates": {"posted_per_s": 1000.0, "completed_per_s": 200.0},
    "efficiency": 0.5,
    "environment": {"cores": 4},
    "state": "complete",
    "duplicates_from": "workers",
    "checked": True,
    "client": {},
    "workers": [],
    "memcached": {},
    "problems": [],
    "by_queue": {"red": {"posted": 1000, "correct": 1000, "wrong": 0, "failed": 0, "lost": 0}},
}


class Page(HTMLParser):
    """Reads a page: its text, its elements, and every address that it would load."""

    def __init__(self, path: Path) -> None:
        """Read the file."""
        super().__init__()
        self.words: list[str] = []
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.feed(path.read_text())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.words.append(data)


def write(folder: Path, record: dict[str, Any] | None = None) -> Page:
    """Write a record and its report, and read the page."""
    if record is not None:
        write_json(folder / "run.json", record)
    return Page(report.write(folder))


def sadf(busy: float, cores: int = 2, samples: int = 5) -> str:
    """Return what `sadf -j` prints."""
    statistics = [
        {
            "timestamp": {"date": "2026-11-22", "time": f"09:30:0{second}", "utc": 1, "interval": 1},
            "cpu-load": [
                {
                    "cpu": cpu,
                    "user": busy,
                    "nice": 0.0,
                    "system": 0.0,
                    "iowait": 0.0,
                    "steal": 0.0,
                    "idle": 100.0 - busy,
                }
                for cpu in ("all", *map(str, range(cores)))
            ],
            "memory": {"memused-percent": 40.0 + second},
        }
        for second in range(samples)
    ]
    return json.dumps({"sysstat": {"hosts": [{"nodename": "w", "statistics": statistics}]}})


def test_report_gives_verdict_counts_and_rates(tmp_path: Path) -> None:
    """The verdict is in words, and the figures are those of the record."""
    page = write(tmp_path, RECORD)
    assert "All 1,000 results are there and right." in page.text
    assert "200 tasks per second" in page.text
    assert "50.0 %" in page.text


def test_report_needs_no_other_file(tmp_path: Path) -> None:
    """Nothing is loaded from anywhere, and no script is in it."""
    page = write(tmp_path, RECORD)
    assert page.addresses == []
    assert {"script", "img", "link", "iframe"}.isdisjoint(page.elements)


def test_names_with_markup_appear_as_text(tmp_path: Path) -> None:
    """Whatever a user or a task's exception is called, it is shown and not obeyed."""
    record = json.loads(json.dumps(RECORD))
    record["workload"]["task"] = record["name"] = EVIL
    record["workload"]["queues"] = [EVIL]
    record["by_queue"] = {EVIL: record["by_queue"]["red"]}
    record["environment"] = {EVIL: EVIL}
    record["problems"] = [EVIL]
    record["workers"] = [{"name": EVIL, "pool": "", "pool_size": 1, "prefetch": 4, "queues": [EVIL], "software": EVIL}]
    fault = {"id": EVIL, "queue": EVIL, "outcome": "failed", "detail": EVIL}
    (tmp_path / "faults.jsonl").write_text(json.dumps(fault) + "\n")
    (tmp_path / "queues.csv").write_text(
        f'time,unix,queue,ready,consumers\nx,1795339801,"{EVIL.replace(chr(34), chr(34) * 2)}",5,1\n'
    )
    page = write(tmp_path, record)
    assert "script" not in page.elements
    assert page.text.count("<script>alert('x')</script>&\"tasks") >= 10


def test_queue_depths_and_cores_are_drawn(tmp_path: Path) -> None:
    """Samples beside the record become charts."""
    lines = [f"x,{1795339800 + second},{queue},{100 * second},2" for second in range(6) for queue in ("red", "green")]
    (tmp_path / "queues.csv").write_text("time,unix,queue,ready,consumers\n" + "\n".join(lines) + "\n")
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "worker.json").write_text(sadf(75.0))
    (tmp_path / "faults.jsonl").touch()
    page = write(tmp_path, RECORD)
    assert page.elements.count("polyline") == 2
    assert page.elements.count("svg") == 2
    assert page.elements.count("rect") == 10
    assert "worker 75 % busy on average, memory at most 44 % in use" in page.text


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"sysstat": {}}', '{"sysstat": {"hosts": [{"statistics": [{}]}]}}']
)
def test_samples_that_cannot_be_read_are_named(tmp_path: Path, content: str) -> None:
    """A host's file cut short, or of another kind, costs that host's chart and nothing more."""
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "broker.json").write_text(content)
    assert "hosts/broker.json" in write(tmp_path, RECORD).text


def test_samples_from_another_time_are_left_out(tmp_path: Path) -> None:
    """Only the seconds of the run count."""
    path = tmp_path / "h.json"
    path.write_text(sadf(50.0))
    whole = hosts.read(path)
    assert (len(whole.times), whole.cores, whole.mean("1")) == (5, ["0", "1"], 50.0)
    assert len(hosts.read(path, whole.times[1], whole.times[3]).times) == 3


def test_truncated_folder_still_makes_a_report_that_says_what_is_missing(tmp_path: Path) -> None:
    """Each file that a broken run lacks, or has only half of, is named."""
    write_json(tmp_path / "plan.json", {"schema": 1})
    for name in ("run.json", "faults.jsonl", "queues.csv", "profile.pstats"):
        (tmp_path / name).write_text('{"counts": {"posted"')
    page = write(tmp_path)
    assert "This run has no record." in page.text
    for name in ("run.json", "queues.csv", "profile.pstats", "hosts/"):
        assert f"{name}:" in page.text
    for path in tmp_path.glob("*.*"):
        if path.name != "plan.json":
            path.unlink()
    assert "faults.jsonl:" in write(tmp_path).text


@pytest.mark.parametrize("key", list(RECORD))
def test_record_without_one_of_its_keys_still_makes_a_report(tmp_path: Path, key: str) -> None:
    """A record of an older version, or cut down by hand, is shown as far as it goes."""
    write(tmp_path, {name: value for name, value in RECORD.items() if name != key})


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """An empty folder gets no report."""
    with pytest.raises(TaskmillError, match="no run folder"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_report_is_made_without_the_source_tree_as_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template is found wherever the command is called from."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    assert write(folder, RECORD).text

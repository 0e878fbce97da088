"""The report, from run folders of all shapes."""

import base64
import csv
import json
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runs
from taskmill import report
from taskmill.model.errors import TaskmillError
from taskmill.model.run_folder import write_json
from taskmill.progress import Reporter
from taskmill.report import run_folder
from taskmill.report.charts import over_time, style
from taskmill.report.text import label
from taskmill.session.drive import render

EVIL = "<script>alert('x')</script>&\"tasks"
#: The titles of everything that a full run shows.
SECTIONS = (
    "What held it back, and what to change", "Where the time went", "Over time", "Cores and memory",
    "How long a task takes", "By queue and by worker", "Profile", "Limits and clocks", "Environment", "Screens",
)  # fmt: skip


class Page(HTMLParser):
    """Reads a page: its text, its elements, its figures, and every address that it would load."""

    def __init__(self, path: Path) -> None:
        """Read the file."""
        super().__init__()
        self.words: list[str] = []
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.figures: dict[str, Any] = {}
        self._inside = ""
        self.feed(path.read_text())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        self._inside = dict(attrs).get("id") or tag if tag in {"script", "style"} else ""

    def handle_endtag(self, tag: str) -> None:
        """Leave a script."""
        self._inside = "" if tag in {"script", "style"} else self._inside

    def handle_data(self, data: str) -> None:
        """Note text, and figures."""
        if self._inside.startswith("figure-"):
            self.figures[self._inside.removeprefix("figure-")] = json.loads(data)
        elif not self._inside:
            self.words.append(data)


def write(folder: Path) -> Page:
    """Write a folder's report and read the page."""
    return Page(report.write(folder))


def bare(folder: Path, record: dict[str, Any]) -> Page:
    """Write the report of a folder with nothing but a record."""
    folder.mkdir(exist_ok=True)
    write_json(folder / "run.json", record)
    return write(folder)


def test_report_gives_verdict_counts_rates_duration_and_efficiency(tmp_path: Path) -> None:
    """The verdict is in words, and the figures are those of the record."""
    page = write(runs.make(tmp_path / "run"))
    assert "All 20,000 results are there and right." in page.text
    assert "finished 1,000/s" in page.text
    assert "posted 10,000/s" in page.text
    assert "duration 20 s" in page.text
    assert "efficiency 17 %" in page.text
    assert "20,000 correct, 0 wrong, 0 failed; 0 lost; 0 executed more than once" in page.text


def test_full_run_has_every_section_and_chart(tmp_path: Path) -> None:
    """Nothing of a run that left everything is missing."""
    page = write(runs.make(tmp_path / "run"))
    assert [title for title in SECTIONS if title not in page.text] == []
    assert "Not in this report" not in page.text
    assert set(page.figures) == {
        "where", "parts", "rates", "depths", "cores-0", "memory", "histogram", "by-queue", "by-worker", "icicle-client",
        "icicle-0",
    }  # fmt: skip
    assert "ncalls tottime percall cumtime percall filename:lineno(function)" in page.text
    assert "ansible-playbook -i inventory/lab run-load.yml -e load_tasks=20000" in page.text
    assert "What profiling cost" in page.text
    assert "Mostly queueing." in page.text


def test_report_needs_no_other_file(tmp_path: Path) -> None:
    """Nothing is loaded from anywhere: all addresses are places in the page, or data in it."""
    page = write(runs.make(tmp_path / "run"))
    assert [address for address in page.addresses if not address.startswith(("#", "data:"))] == []
    assert {"iframe", "object", "embed"}.isdisjoint(page.elements)


def test_screenshots_are_in_the_page(tmp_path: Path) -> None:
    """A picture from the folder is part of the file."""
    page = write(runs.make(tmp_path / "run"))
    assert f"data:image/png;base64,{base64.b64encode(runs.png()).decode()}" in page.addresses


def test_names_with_markup_appear_as_text(tmp_path: Path) -> None:
    """Whatever a user or a task's exception is called, it is shown and not obeyed."""
    folder = runs.make(tmp_path / "run", workload={"task": EVIL, "queues": [EVIL]}, environment={EVIL: EVIL})
    record = json.loads((folder / "run.json").read_text())
    record |= {
        "name": EVIL,
        "problems": [EVIL],
        "by_queue": {EVIL: {"correct": 1}},
        "by_worker": {EVIL: {}},
    }
    record["workers"][0] |= {"name": EVIL, "queues": [EVIL], "software": EVIL}
    write_json(folder / "run.json", record)
    fault = {"id": EVIL, "queue": EVIL, "outcome": "failed", "detail": EVIL}
    (folder / "faults.jsonl").write_text(json.dumps(fault) + "\n")
    with (folder / "queues.csv").open("w", newline="") as file:
        csv.writer(file).writerow(("x", runs.START + 1, EVIL, 5, 1))
    (folder / "pyspy" / "w.txt").write_text(f"{EVIL} 5\n")
    page = write(folder)
    assert page.elements.count("script") == 3 + len(page.figures)
    assert page.text.count("<script>alert('x')</script>&\"tasks") >= 10
    shown = label(EVIL)
    assert shown == "&lt;script&gt;alert('x')&lt;/script&gt;&amp;\"tasks"
    assert page.figures["depths"]["data"][0]["name"] == shown
    assert shown in page.figures["icicle-0"]["data"][0]["labels"]


def test_figures_have_the_runs_values(tmp_path: Path) -> None:
    """What is drawn is what was measured: all tasks posted within two seconds, finished over twenty, none left."""
    run = run_folder.read(runs.make(tmp_path / "run"))
    chart = over_time.rates(run)
    assert chart is not None
    published, finished, backlog = chart.figure.data
    width = float(published.x[1] - published.x[0])
    assert float(published.y.sum()) * width == pytest.approx(20000, rel=0.01)
    assert float(finished.y.sum()) * width == pytest.approx(20000, rel=0.01)
    assert float(published.y[published.x > 2.1].sum()) == 0
    assert float(backlog.y.max()) == pytest.approx(18000, rel=0.02)
    assert float(backlog.y[-1]) == 0


def test_queues_keep_their_order_and_their_colours(tmp_path: Path) -> None:
    """The queue red is drawn in red."""
    chart = over_time.queue_depths(run_folder.read(runs.make(tmp_path / "run")))
    assert chart is not None
    colours = {trace.name: trace.line.color for trace in chart.figure.data}
    assert colours == {"red": style.RED, "green": style.GREEN, "blue": style.BLUE}


def test_hosts_of_one_machine_are_drawn_once(tmp_path: Path) -> None:
    """Containers see the same cores; hosts whose boots differ each have their own."""
    folder = runs.make(tmp_path / "run")
    assert "broker1, client1, worker1: one machine" in write(folder).text
    record = json.loads((folder / "run.json").read_text())
    for number, host in enumerate(record["environment"]["hosts"].values()):
        host["boot_id"] = str(number)
    write_json(folder / "run.json", record)
    assert {"cores-0", "cores-1", "cores-2"} <= set(write(folder).figures)


def test_samples_are_moved_to_the_clients_clock(tmp_path: Path) -> None:
    """A host whose clock is a hundred seconds ahead is drawn where it was, and its offset is shown."""
    folder = runs.make(tmp_path / "run")
    offsets = {"worker1": {"offset_s": 100.0, "error_s": 0.001}}
    write_json(folder / "hosts" / "clocks.json", {"client": "client1", "start": offsets, "end": offsets})
    assert "hosts/worker1.json: no samples from the time of the run" in write(folder).text
    late = json.loads(runs.sadf("worker1", 200.0))
    (folder / "hosts" / "worker1.json").write_text(json.dumps(late))
    run = run_folder.read(folder)
    worker = next(host for host in run.host_samples if host.name == "worker1")
    assert worker.times[0] == pytest.approx(runs.START, abs=1)
    assert "100 s ± 1 ms" in write(folder).text


def test_faults_of_the_scenario_are_a_table_and_are_marked_in_the_charts(tmp_path: Path) -> None:
    """Each by when it came, by the clock of each of its hosts, or why it did not, or how it ended."""
    folder = runs.make(tmp_path / "run")
    planned = [{"fault": name, "at": at} for name, at in (("restart-workers", 3.0), ("x", 19.0), ("kill-broker", 4.0))]
    write_json(folder / "plan.json", {"schema": 1, "faults": planned})
    text = write(folder).text
    assert "restart-workers 3 s - - not injected: nothing is noted of it; run-load.yml alone injects faults" in text
    assert "The red bands" not in text
    offsets = {"worker1": {"offset_s": 100.0, "error_s": 0.001}}
    write_json(folder / "hosts" / "clocks.json", {"client": "client1", "start": offsets, "end": offsets})
    times = {
        host: {"began": f"{runs.START + began}00", "over": f"{runs.START + began + 2}00"}
        for host, began in (("worker1", 103.5), ("worker2", 4.5))
    }
    came: list[dict[str, Any]] = [
        {"title": "warm restart", "hosts": ["worker1", "worker2"], "failed": "", "times": times},
        {"title": "the store stopped", "hosts": ["broker1"], "failed": "the load had ended", "times": {}},
        {
            "title": "RabbitMQ killed",
            "hosts": ["broker1"],
            "failed": "Job failed",
            "times": {"broker1": {"began": f"{runs.START + 8}"}},
        },
    ]
    (folder / "injected.json").write_text(json.dumps([one | more for one, more in zip(planned, came, strict=True)]))
    page = write(folder)
    assert "warm restart worker1, worker2 3 s 3.5 s 3 s " in page.text
    assert "the store stopped broker1 19 s - - not injected: the load had ended" in page.text
    assert "RabbitMQ killed broker1 4 s 8 s - failed after it began: Job failed" in page.text
    charts = ("rates", "depths", "by-queue", "by-worker")
    assert page.text.count("The red bands are injected faults.") == len(charts)
    for chart in charts:
        marks = [shape for shape in page.figures[chart]["layout"]["shapes"] if shape["type"] == "rect"]
        assert {(round(mark["x0"], 1), round(mark["x1"], 1)) for mark in marks} == {(3.5, 6.5), (8.0, 8.0)}
    for broken in ("{}", "[7, {}]", '[{"times": {"worker1": {"began": "soon"}}}]'):
        (folder / "injected.json").write_text(broken)
        assert ("injected.json: it cannot be read" in write(folder).text) == (broken == "{}")


def test_hosts_may_have_dots_in_their_names(tmp_path: Path) -> None:
    """An inventory may know its hosts by their full names."""
    folder = runs.make(tmp_path / "run")
    for path in (folder / "hosts").glob("worker1.*"):
        path.rename(path.with_name(path.name.replace("worker1", "worker1.example.org", 1)))
    assert "worker1.example.org" in [host.name for host in run_folder.read(folder).host_samples]
    assert "worker1.example.org" in run_folder.read(folder).unit_samples


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"sysstat": {}}', '{"sysstat": {"hosts": [{"statistics": [{}]}]}}']
)
def test_samples_that_cannot_be_read_are_named(tmp_path: Path, content: str) -> None:
    """A host's file cut short, or of another kind, costs that host's chart and nothing more."""
    folder = runs.make(tmp_path / "run")
    (folder / "hosts" / "worker1.json").write_text(content)
    page = write(folder)
    assert "hosts/worker1.json" in page.text
    assert "cores-0" in page.figures


@pytest.mark.parametrize(
    "name",
    ["run.json", "tasks.npz", "queues.csv", "profile.pstats", "faults.jsonl", "hosts/clocks.json"]
    + [f"hosts/worker1.{kind}" for kind in ("json", "units.csv", "limits.json")],
)
def test_missing_file_is_named_and_the_rest_is_shown(tmp_path: Path, name: str) -> None:
    """Each file that a run lacks is named, and the page is made all the same."""
    folder = runs.make(tmp_path / "run")
    (folder / name).unlink()
    page = write(folder)
    assert f"{name}:" in page.text
    assert len(page.figures) >= 5


@pytest.mark.parametrize("size", [0, 1, 40, 300])
def test_truncated_files_still_make_a_page(tmp_path: Path, size: int) -> None:
    """With every file of the run cut to so many bytes there is a page, and it says that there is no record."""
    folder = runs.make(tmp_path / "run")
    for path in folder.rglob("*.*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:size])
    page = write(folder)
    assert "This run has no record." in page.text
    assert "tasks.npz: the times of the tasks cannot be read" in page.text


@pytest.mark.parametrize("section", list(runs.base_record(10, 1.0, 1.0)))
@pytest.mark.parametrize("value", [None, 7, "text", [], {}, {"x": {"y": None}}, [{"a": 1}, None]])
def test_record_of_any_shape_makes_a_page(tmp_path: Path, section: str, value: Any) -> None:
    """A record of another schema, or cut down by hand, is shown as far as it goes."""
    record = runs.base_record(10, 1.0, 1.0)
    assert bare(tmp_path / "run", record | {section: value}).text
    del record[section]
    assert bare(tmp_path / "run", record).text


def test_what_was_tried_before_the_load_is_a_table(tmp_path: Path) -> None:
    """A row for each task; a record without has no table."""
    page = write(runs.make(tmp_path / "run"))
    assert "One of each task, before the load" in page.text
    assert "231 bytes" in page.text
    assert "One of each task" not in write(runs.make(tmp_path / "older", probed=[])).text
    # Of a scenario several kinds may have one task.
    probed = [{"task": "shop.bill", "kind": "large"}, {"task": "x"}]
    record = runs.base_record(10, 1.0, 1.0) | {"by_kind": {"large": {"task": "shop.bill"}}, "probed": probed}
    assert "kind task queue worker time message result large shop.bill" in bare(tmp_path / "kinds", record).text


def test_record_of_another_schema_is_named(tmp_path: Path) -> None:
    """The reader learns why something may be missing."""
    assert "schema 9" in bare(tmp_path / "run", runs.base_record(10, 1.0, 1.0) | {"schema": 9}).text


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """An empty folder gets no report."""
    with pytest.raises(TaskmillError, match="no run folder"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_limits_that_were_hit_are_named(tmp_path: Path) -> None:
    """An alarm seen at every look is one alarm; what nobody could count is not recorded, and not none."""
    folder = runs.make(tmp_path / "run", client={"blocked_seconds": 12.0})
    alarms = [{"unix": runs.START + second, "what": "memory", "set": True} for second in (5, 10, 15)]
    for host in runs.HOSTS:
        limits: dict[str, Any] = {"oom_kills": None, "restarts": {"memcached.service": int(host == "broker1")}}
        if host == "broker1":
            limits["broker"] = {"alarms": alarms, "flow": [], "blocked": [{"unix": runs.START + 5, "connections": 10}]}
        write_json(folder / "hosts" / f"{host}.limits.json", limits)
    text = write(folder).text
    assert "broker alarms memory, first seen at 5 s flow control not hit" in text
    assert "connections blocked by the broker seen 1 time" in text
    assert "posting blocked by the broker 12 s, all threads together" in text
    assert "restarts of services memcached.service on broker1: 1" in text
    assert "killed for want of memory not recorded" in text


@pytest.mark.parametrize("value", [None, 7, "text", [7], {"alarms": 7, "flow": [7], "blocked": "x", "a.service": "y"}])
@pytest.mark.parametrize("name", ["broker", "restarts", "oom_kills"])
def test_limits_of_any_shape_make_a_page(tmp_path: Path, name: str, value: Any) -> None:
    """Nor does a file of limits that someone else wrote keep the page from being made."""
    folder = runs.make(tmp_path / "run", tasks=100, total=3.0, post=1.0)
    write_json(folder / "hosts" / "broker1.limits.json", {name: value})
    assert "Limits and clocks" in write(folder).text


def test_paced_load_says_what_latency_counts_from(tmp_path: Path) -> None:
    """The note on loads posted at once is not there; the one on due times is."""
    folder = runs.make(tmp_path / "run", post=18.0, workload={"rate": 1100}, latency={"from": "due"})
    text = write(folder).text
    assert "Mostly queueing." not in text
    assert "at which a task should have been posted" in text


def test_failed_tasks_have_a_curve_and_are_listed(tmp_path: Path) -> None:
    """A curve of failures comes with the first failure."""
    folder = runs.make(tmp_path / "run", counts={"failed": 3, "correct": 19997})
    with np.load(folder / "tasks.npz") as file:
        arrays = dict(file)
    arrays["outcome"][:3] = 2
    np.savez_compressed(folder / "tasks.npz", **arrays)
    titles = [note["text"] for note in write(folder).figures["by-queue"]["layout"]["annotations"]]
    assert any("failed" in title for title in titles)


def test_a_page_is_as_large_with_many_tasks_as_with_few(tmp_path: Path) -> None:
    """The page holds what can be seen, not every task."""
    sizes = [
        report.write(runs.make(tmp_path / str(tasks), tasks=tasks, total=88.0, post=6.0)).stat().st_size
        for tasks in (5_000, 50_000)
    ]
    assert sizes[0] < sizes[1] < sizes[0] + 200_000 < 8_000_000


@pytest.mark.thorough
@pytest.mark.clock
def test_million_tasks_make_a_page_of_less_than_8_mb_in_time(tmp_path: Path) -> None:
    """That of the load that this is all about."""
    folder = runs.make(tmp_path / "run", tasks=1_000_000, total=880.0, post=60.0)
    before = time.monotonic()
    path = report.write(folder)
    assert time.monotonic() - before < 30
    assert path.stat().st_size < 8_000_000


def test_report_is_made_without_the_source_tree_as_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The templates are found wherever the command is called from."""
    folder = runs.make(tmp_path / "run", tasks=100, total=3.0, post=1.0)
    monkeypatch.chdir(tmp_path)
    assert write(folder).text


def test_without_plotly_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that only records has no plotly."""
    monkeypatch.setattr(report, "NEEDS", ("jinja2", "no_such_module"))
    assert not report.available()
    with pytest.raises(TaskmillError, match=r"taskmill\[report\]"):
        report.write(tmp_path)
    # A run ends there without a report, and without a complaint.
    render(runs.make(tmp_path / "run", tasks=100, total=3.0, post=1.0), Reporter())
    assert not (tmp_path / "run" / "report.html").exists()

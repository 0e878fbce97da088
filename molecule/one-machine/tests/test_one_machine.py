"""A machine that three commands have made into a whole landscape."""

from __future__ import annotations

import json
import re
from typing import Any


def test_the_app_is_the_commit_that_was_looked_at(host: Any) -> None:
    """The inventory pins it, and workers have its source."""
    commit = host.check_output("git -C /root/proj rev-parse HEAD")
    variables = host.file("/root/taskmill/inventory/mine/group_vars/all/app.yml").content_string
    assert f"app_source: 'git+file:///root/proj@{commit}'\n" in variables
    assert f"proj is commit {commit} of file:///root/proj" in host.file("/root/load.txt").content_string
    assert host.file("/opt/proj/src/proj/tasks.py").exists
    assert not host.file("/opt/proj/src/.git").exists


def test_every_result_is_there(host: Any) -> None:
    """Of both tasks, in the virtual host that is called /."""
    record = json.loads(host.file("/root/taskmill/runs/latest/run.json").content_string)
    counts = {name: record["counts"][name] for name in ("posted", "confirmed", "failed", "lost")}
    assert counts == {"posted": 600, "confirmed": 600, "failed": 0, "lost": 0}
    assert {"proj.tasks.add", "proj.tasks.mul"} <= set(re.findall(r"[\w.]+", record["workload"]["task"]))
    assert "celery" in host.check_output("rabbitmqctl --quiet list_queues --vhost / name")
    assert host.file("/root/taskmill/runs/latest/report.html").size > 10_000


def test_nothing_changes_once_more(host: Any) -> None:
    """Neither on the machine nor on its other self, the controller."""
    said = host.file("/root/again.txt").content_string
    changed = dict(re.findall(r"^(\w+) : .*changed=(\d+) .*failed=0", said, re.MULTILINE))
    assert set(changed.values()) == {"0"}, changed
    assert len(changed) >= 1

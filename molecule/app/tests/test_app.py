"""The app's own tests, against real services and on the Python of the scenario's distribution.

Environment variables say which and how: PYTEST_MARKERS selects them by marker, PYTEST_WORKERS is the number of
processes (1 for tests that are judged by the clock), and APP_JUNIT_XML is a path on this machine that gets pytest's
report as JUnit XML.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

#: What needs services and neither a browser nor a machine of its own.
MARKERS = "service and not browser and not thorough"
REPORT = "/opt/app/junit.xml"


def test_the_app_passes_its_tests(host: Any, capsys: Any) -> None:
    """pytest ends well there, and its whole report is shown here."""
    workers = int(os.environ.get("PYTEST_WORKERS") or 4)
    options = [
        "-q", "-p", "no:cacheprovider", "--durations=10", f"--junitxml={REPORT}",
        "-m", os.environ.get("PYTEST_MARKERS") or MARKERS,
    ]  # fmt: skip
    if workers > 1:
        # More than there are cores, since they wait most of the time. Each has services of its own; one that has
        # nothing left to do takes over what another has not begun.
        options += [f"--numprocesses={workers}", "--dist=worksteal"]
    command = f"cd /opt/app/project && ../venv/bin/python -m pytest {shlex.join(options)}"
    done = host.run(command)
    with capsys.disabled():
        print(done.stdout, done.stderr)
    home = os.environ.get("APP_JUNIT_XML")
    if home:
        Path(home).parent.mkdir(parents=True, exist_ok=True)
        Path(home).write_text(host.file(REPORT).content_string, encoding="utf-8")
    assert done.rc == 0

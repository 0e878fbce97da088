"""The app's own tests, against real services and on the Python of the scenario's distribution."""

from __future__ import annotations

from typing import Any


def test_the_app_passes_its_tests(host: Any, capsys: Any) -> None:
    """pytest ends well there, and its whole report is shown here."""
    command = "cd /opt/app/project && PYTHONDONTWRITEBYTECODE=1 ../venv/bin/python -m pytest -q -p no:cacheprovider"
    # They wait for services most of the time; the tests of one file share theirs.
    command += " --numprocesses 2 --dist loadfile"
    done = host.run(command)
    with capsys.disabled():
        print(done.stdout, done.stderr)
    assert done.rc == 0

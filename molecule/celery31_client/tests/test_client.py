"""The tests of the article's own client, against real services."""

from __future__ import annotations

from typing import Any


def test_the_client_passes_its_tests(host: Any, capsys: Any) -> None:
    """pytest ends well there, and its whole report is shown here."""
    # The app's settings of pytest are for a later release than this host's.
    command = (
        "cd /opt/app && PYTHONDONTWRITEBYTECODE=1 CELERY31_PYTHON=/opt/client/bin/python"
        " python3 -m pytest -q -c /dev/null --rootdir=. -p no:cacheprovider tests_celery31_client"
    )
    done = host.run(command)
    with capsys.disabled():
        print(done.stdout, done.stderr)
    assert done.rc == 0

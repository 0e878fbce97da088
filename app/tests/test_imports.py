"""What is imported with what: the contracts of pyproject.toml, seen from a fresh interpreter."""

import subprocess
import sys

import pytest

from services import SOURCE


@pytest.mark.parametrize("module", ["taskmill", "taskmill.report.page", "taskmill.report.comparison"])
def test_a_report_needs_no_library_of_broker_or_result_store(module: str) -> None:
    """Who only renders, or imports the package for one of its names, loads no client library."""
    program = f"import sys, {module}; print(sorted({{'amqp', 'celery', 'kombu', 'memcache'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=SOURCE, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""The setting of PyPy's compiler; workers on PyPy itself are in the playbooks' scenarios."""

from __future__ import annotations

import platform
import sys
from types import SimpleNamespace

import pytest

from taskmill_worker import jit


def refuse(parameters: str) -> None:
    """Take what PyPy takes."""
    if "=" not in parameters:
        raise ValueError("unknown")


@pytest.fixture
def pypy(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for PyPy, and return what it was set to."""
    was_set: list[str] = []

    def set_param(parameters: str) -> None:
        refuse(parameters)
        was_set.append(parameters)

    monkeypatch.setattr(platform, "python_implementation", lambda: "PyPy")
    monkeypatch.setitem(sys.modules, "pypyjit", SimpleNamespace(set_param=set_param))
    return was_set


def test_cpython_is_left_alone() -> None:
    """There is nothing to set, and no error."""
    assert jit.set_parameters({"CELERY_WORKER_JIT": "threshold=5"}) is None


def test_pypy_unrolls_recursions_unless_told_otherwise(pypy: list[str]) -> None:
    """The default, and what the variable says in its place."""
    jit.set_parameters({})
    jit.set_parameters({"CELERY_WORKER_JIT": "threshold=5"})
    assert pypy == ["max_unroll_recursion=14,decay=0", "threshold=5"]


def test_what_pypy_does_not_take_is_named(pypy: list[str]) -> None:
    """A worker does not start with half of its settings."""
    with pytest.raises(ValueError, match="CELERY_WORKER_JIT is 'fast'"):
        jit.set_parameters({"CELERY_WORKER_JIT": "fast"})
    assert pypy == []

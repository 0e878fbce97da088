"""Set PyPy's just-in-time compiler for a worker; do nothing on CPython.

| environment variable | meaning |
|---|---|
| `CELERY_WORKER_JIT` | parameters as `pypy3 --jit` takes them; default `max_unroll_recursion=14,decay=0` |

PyPy compiles a function that calls itself seven calls deep; twice that takes a quarter off a recursion such as
`fib(25)`, and touches nothing else. And it forgets, little by little, how often code has run: beside a task that
computes for long, what Celery does around it is then never often enough to be compiled (docs/performance.md has both).
A module, because a virtual environment's `celery` cannot be given options of its interpreter.
"""

from __future__ import annotations

import importlib
import os
import platform
from typing import Any

DEFAULT = "max_unroll_recursion=14,decay=0"


def set_parameters(environ: os._Environ[str] | dict[str, str]) -> str | None:
    """Set the parameters and return them; ``None`` on another Python.

    Raises ``ValueError`` with the variable's name.
    """
    if platform.python_implementation() != "PyPy":
        return None
    parameters = environ.get("CELERY_WORKER_JIT") or DEFAULT
    try:
        importlib.import_module("pypyjit").set_param(parameters)
    except ValueError as error:
        raise ValueError(f"CELERY_WORKER_JIT is {parameters!r}, which PyPy does not take: {error}") from error
    return parameters


def install(_app: Any) -> None:
    """Set the parameters that the environment names."""
    set_parameters(os.environ)

"""The right value, to check the tasks' results by. Importable without Celery."""


def fibonacci(n):
    # type: (int) -> int
    """Return the ``n``-th Fibonacci number (``0, 1, 1, 2, 3, 5, ...`` for ``n = 0, 1, 2, ...``), by iteration."""
    value, following = 0, 1
    for _ in range(n):
        value, following = following, value + following
    return value

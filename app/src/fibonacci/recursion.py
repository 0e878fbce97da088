"""The function behind the tasks, which needs nothing but Python."""


def fibonacci(n):
    # type: (int) -> int
    """Return the ``n``-th Fibonacci number by plain recursion.

    It is slow on purpose (about 1.6 times more calls for each step of ``n``), so that a task costs CPU. The value
    to check it by comes from :func:`fibonacci.expected.fibonacci`.
    """
    if n < 2:
        return n
    return fibonacci(n - 1) + fibonacci(n - 2)

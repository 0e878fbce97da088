"""The tasks: the same work under three names, so that settings can route each to a queue of its own."""

from __future__ import absolute_import

from celery import shared_task


def fibonacci(n):
    # type: (int) -> int
    """Return the ``n``-th Fibonacci number by plain recursion.

    It is slow on purpose (about 1.6 times more calls for each step of ``n``), so that a task costs CPU. The value
    to check it by comes from :func:`fibonacci.expected.fibonacci`.
    """
    if n < 2:
        return n
    return fibonacci(n - 1) + fibonacci(n - 2)


@shared_task
def red(n):
    # type: (int) -> int
    """Compute on the queue ``red``; ``n`` and result as in :func:`fibonacci`."""
    return fibonacci(n)


@shared_task
def green(n):
    # type: (int) -> int
    """Compute on the queue ``green``; ``n`` and result as in :func:`fibonacci`."""
    return fibonacci(n)


@shared_task
def blue(n):
    # type: (int) -> int
    """Compute on the queue ``blue``; ``n`` and result as in :func:`fibonacci`."""
    return fibonacci(n)

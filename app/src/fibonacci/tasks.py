"""The tasks: the same work under three names, so that settings can route each to a queue of its own."""

from __future__ import absolute_import

from celery import shared_task

from fibonacci.recursion import fibonacci


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

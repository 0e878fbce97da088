"""A Celery app that costs CPU: Fibonacci numbers by plain recursion, one task per queue.

``celery --app fibonacci worker``, started in the directory that holds this package, finds the app in
:mod:`fibonacci.celery`. Nothing here connects to anything at import time.
"""

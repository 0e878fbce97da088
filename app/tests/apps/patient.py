"""Has the worker wait for a memcached that does not answer, each time anew (``--include=patient``), as with Redis."""

from celery import current_app

current_app.conf.cache_backend_options = {"dead_retry": 0, "socket_timeout": 4}

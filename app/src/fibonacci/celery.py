"""The Celery app."""

from __future__ import absolute_import

import celery

from fibonacci.settings import from_environment

app = celery.Celery("fibonacci", include=["fibonacci.tasks"])
# Read when Celery first asks for a setting.
app.add_defaults(from_environment)
if celery.VERSION.major > 3:
    # Loses no result and loads no pickle. Workers with taskmill_worker have it anyway; this is for clients.
    app.loader.override_backends = {"cache": "taskmill_worker.memcached_backend:MemcachedBackend"}

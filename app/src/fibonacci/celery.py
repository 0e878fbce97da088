"""The Celery app."""

from __future__ import absolute_import

import celery

from fibonacci.settings import from_environment

app = celery.Celery("fibonacci", include=["fibonacci.tasks"])
# Read when Celery first asks for a setting.
app.add_defaults(from_environment)
if celery.VERSION.major > 3:
    # Celery 5.7's own "cache" backend uses pymemcache only; ours speaks to memcached through python-memcached.
    app.loader.override_backends = {"cache": "fibonacci.results:MemcachedBackend"}

"""The Celery app."""

from celery import Celery

from fibonacci.settings import from_environment

app = Celery("fibonacci", include=["fibonacci.tasks"])
# Read when Celery first asks for a setting.
app.add_defaults(from_environment)
# Celery 5.7's own "cache" backend uses pymemcache only; ours speaks to memcached through python-memcached.
app.loader.override_backends = {"cache": "fibonacci.results:MemcachedBackend"}

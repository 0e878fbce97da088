"""The Celery app. Celery reads CELERY_BROKER_URL and CELERY_RESULT_BACKEND by itself."""

from celery import Celery

app = Celery("prices", include=["prices.tasks"])
app.conf.task_acks_late = True
# One result backend for all greenlets. Without it each task makes its own, and leaves its connections to Redis open.
app.conf.result_backend_thread_safe = True
# Of that each task takes a connection for itself, and redis-py has 100 at most unless it is told. A task that gets none
# cannot store its result, and its message stays with the worker.
app.conf.redis_max_connections = 200

"""The Celery app. Celery reads CELERY_BROKER_URL and CELERY_RESULT_BACKEND by itself."""

from celery import Celery

app = Celery("prices", include=["prices.tasks"])
app.conf.task_acks_late = True
# One result backend for all greenlets. Without it each task makes its own, and leaves its connections to Redis open.
app.conf.result_backend_thread_safe = True

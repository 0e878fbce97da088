"""The Celery app. Celery reads CELERY_BROKER_URL and CELERY_RESULT_BACKEND by itself."""

from celery import Celery

app = Celery("prices", include=["prices.tasks"])
app.conf.task_acks_late = True

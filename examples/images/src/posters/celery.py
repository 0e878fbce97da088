"""The Celery app. Celery reads CELERY_BROKER_URL and CELERY_RESULT_BACKEND by itself."""

from celery import Celery

app = Celery("posters", include=["posters.tasks"])
app.conf.task_default_queue = "images"
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True

"""Django's settings. There is no database: nothing has to be migrated before the workers start."""

import os

SECRET_KEY = os.environ["SECRET_KEY"]
INSTALLED_APPS = ["orders"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
USE_TZ = True
# That of the hosts: Django's own default is Chicago, and the logs of workers and beat would have its time.
TIME_ZONE = "UTC"

# A task is acknowledged when it is done, and goes to another worker when its own dies.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True

# Sent by beat. What no worker has begun within the minute is dropped.
CELERY_BEAT_SCHEDULE = {
    "date the ledger": {"task": "orders.tasks.date_ledger", "schedule": 60, "options": {"expires": 60}},
}

"""The Celery app, as Django's users write it. Celery reads CELERY_BROKER_URL and CELERY_RESULT_BACKEND by itself."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

"""Acknowledge messages when their tasks begin: what late acknowledgement is for is then seen. Loaded into workers."""

from celery import current_app

current_app.conf.task_acks_late = False

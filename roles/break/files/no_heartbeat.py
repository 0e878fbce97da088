"""No heartbeats: neither side then notices that the other is gone without a word. Loaded into workers."""

from celery import current_app

current_app.conf.broker_heartbeat = 0

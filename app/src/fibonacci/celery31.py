"""The app's settings for Celery 3.1, the article's release, which has other names for them."""

MYPY = False
if MYPY:  # for the types in comments; Python 2.7 has neither of them
    from collections.abc import Mapping  # noqa: F401
    from typing import Any  # noqa: F401

#: What it calls those of the app's settings that it has.
NAMES = {
    "broker_url": "BROKER_URL",
    "result_backend": "CELERY_RESULT_BACKEND",
    "result_expires": "CELERY_TASK_RESULT_EXPIRES",
    "task_serializer": "CELERY_TASK_SERIALIZER",
    "result_serializer": "CELERY_RESULT_SERIALIZER",
    "accept_content": "CELERY_ACCEPT_CONTENT",
    "task_acks_late": "CELERY_ACKS_LATE",
    "task_queues": "CELERY_QUEUES",
    "task_create_missing_queues": "CELERY_CREATE_MISSING_QUEUES",
    "task_default_queue": "CELERY_DEFAULT_QUEUE",
    "task_default_exchange": "CELERY_DEFAULT_EXCHANGE",
    "task_routes": "CELERY_ROUTES",
    "worker_send_task_events": "CELERY_SEND_EVENTS",
}


def old_names(settings):
    # type: (Mapping[str, Any]) -> dict[str, Any]
    """Return the settings that Celery 3.1 has, under its names for them."""
    return dict((old, settings[name]) for name, old in NAMES.items())

"""What the workers of any Celery app load. It needs Celery and the standard library alone."""

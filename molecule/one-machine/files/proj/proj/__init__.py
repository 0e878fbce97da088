"""The first app of Celery's own documentation."""

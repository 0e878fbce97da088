"""Looks at a Celery app: what a cluster has to know of it, where each fact comes from, and what will hurt."""

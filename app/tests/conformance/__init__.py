"""A worker of stock Celery and one that loads taskmill_worker, compared feature by feature."""

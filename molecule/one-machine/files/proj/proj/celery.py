"""The Celery object."""

from celery import Celery

app = Celery("proj", broker="amqp://", backend="rpc://", include=["proj.tasks"])

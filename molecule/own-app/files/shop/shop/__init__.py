"""An app that has nothing of taskmill: Celery reads broker and result backend from the environment by itself."""

from celery import Celery
from kombu import Queue

app = Celery("shop", include=["shop.tasks"])
app.conf.task_acks_late = True
app.conf.task_queues = [Queue("orders", no_declare=True)]
app.conf.task_default_queue = "orders"

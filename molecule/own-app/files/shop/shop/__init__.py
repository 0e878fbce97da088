"""An app that has nothing of taskmill: Celery reads broker and result backend from the environment by itself."""

import warnings

from celery import Celery
from kombu import Queue

# As many do, and what reads a worker's answer must not stumble over.
print('{"shop": "is open"}')
warnings.warn("the shop is old", stacklevel=1)

app = Celery("shop", include=["shop.tasks"])
app.conf.task_acks_late = True
app.conf.task_queues = [Queue("orders", no_declare=True, queue_arguments={"x-queue-type": "quorum"})]
app.conf.task_default_queue = "orders"

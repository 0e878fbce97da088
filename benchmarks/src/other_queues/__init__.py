"""What taskmill is compared with: other task queues, a bare pool and bare py-amqp.

Each is set up as its own documentation advises.

``python -m other_queues worker NAME`` becomes the worker processes of a subject. ``python -m other_queues load NAME``
publishes tasks to it, fetches every result and checks it. Each subject is one module of this package, and has a
:class:`other_queues.subject.Subject` called ``SUBJECT``. The environment says where the services are:

| variable | value |
|---|---|
| ``OTHER_QUEUES_AMQP_URL`` | ``amqp://USER:PASSWORD@HOST:5672/VHOST``, a user who may declare queues |
| ``OTHER_QUEUES_REDIS_URL`` | ``redis://:PASSWORD@HOST:6379`` |
| ``OTHER_QUEUES_MEMCACHED`` | ``HOST:11211`` |
| ``OTHER_QUEUES_PROCESSES`` | processes that ``bare_amqp`` publishes with; 1 unless given |
"""

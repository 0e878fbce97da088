"""Other ways to do the same work, each set up as its own documentation advises: what taskmill is compared with.

`python -m peers worker NAME` becomes the worker processes of a peer, `python -m peers load NAME` posts tasks to it,
fetches every result and checks it. Each peer is one module of this package, with a :class:`peers.peer.Peer` called
``PEER``.
Where its services are stands in the environment:

| variable | value |
|---|---|
| ``PEERS_AMQP_URL`` | ``amqp://USER:PASSWORD@HOST:5672/VHOST``, a user who may declare queues |
| ``PEERS_REDIS_URL`` | ``redis://:PASSWORD@HOST:6379`` |
| ``PEERS_MEMCACHED`` | ``HOST:11211`` |
| ``PEERS_PROCESSES`` | processes that ``bare_amqp`` posts with; 1 unless given |
"""

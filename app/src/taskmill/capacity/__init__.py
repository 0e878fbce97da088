"""The highest steady rate of a cluster: ``taskmill capacity``, by search with paced loads.

``steady`` judges one load, ``search`` says which rate to try next, ``measure`` does both on a cluster and keeps every
step on disk, ``scale`` says what holds it back and what more hosts would bring, ``text`` writes it down.
"""

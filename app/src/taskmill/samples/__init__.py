"""What is measured beside a run, and the files of the run folder that hold it.

``host_samples`` reads CPU and memory of the hosts, ``unit_samples`` those of their systemd units. ``task_timings``
writes and reads the moments of every task. ``profile`` runs cProfile in the client; ``profile_cost`` compares a run
with one that was not profiled.
"""

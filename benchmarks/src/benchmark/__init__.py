"""Several ways to do the same work, measured in turn: what ``benchmarks/task-queues.yml`` asks for on the controller.

``python -m benchmark left FOLDER`` prints what is left to be measured, ``keep FOLDER FILE`` writes one measurement, and
``report FOLDER`` writes the tables. :mod:`benchmark.folder` describes the folder.
"""

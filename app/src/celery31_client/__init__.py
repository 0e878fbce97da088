"""The article's own client, on the article's own versions: Python 2.7 and celery 3.1.24.

Ten threads call ``apply_async``, the ids are stored, the results are fetched by id, and cProfile watches. It is what
every other figure is held against, so it shares no code with :mod:`taskmill`, and takes Celery as it comes. It takes
the arguments of ``taskmill run`` and leaves the same files: the same playbook starts it, the same report shows it.
"""

__version__ = "0.1.0"

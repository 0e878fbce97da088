"""What a fault that playbooks/break-things.yml injected did to a run: metrics beside its record, judged by bounds.

``fault.json`` of a run's folder says what was done to it, when, and what came of it. :func:`conclude` writes it, or
:func:`failed` where there is no run to judge; :func:`table` makes one table of several runs.
:mod:`taskmill.faults.metrics` says what is measured.
"""

from taskmill.faults.metrics import NAMES, Fault
from taskmill.faults.table import table
from taskmill.faults.verdict import conclude, failed, text

__all__ = ["NAMES", "Fault", "conclude", "failed", "table", "text"]

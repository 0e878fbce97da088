"""Ansible filter: workers as others may read of them."""

from __future__ import annotations

from typing import Any

DOCUMENTATION = """
name: names_of_environment
short_description: Leave the values out of the environment of workers
description:
  - A value of a worker's environment may be a password, and what is made of the workers is read by others.
options:
  _input:
    description: Workers, as C(celery_worker_nodes) lists them.
    type: list
    elements: dict
    required: true
"""

RETURN = """
_value:
  description: The workers, each with the sorted names of its C(environment) in the place of the values.
  type: list
  elements: dict
"""


def names_of_environment(workers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the workers' entries with the names of their `environment`, sorted, in the place of its values."""
    return [
        worker | ({"environment": sorted(worker["environment"] or {})} if "environment" in worker else {})
        for worker in workers
    ]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"names_of_environment": names_of_environment}

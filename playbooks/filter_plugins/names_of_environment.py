"""Workers as others may read of them."""

from __future__ import annotations

from typing import Any


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

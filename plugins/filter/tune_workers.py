"""Ansible filter: the workers of a host as a point of `tune.yml` has them."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = """
name: tune_workers
short_description: Return the workers of a host with the options of a point
description:
  - The options C(nodes), how many workers the host has, and C(processes_per_core), how many pool processes all of them
    have for each of its cores, are about the host. Every other option is put into each worker's entry as it is.
  - It is an error to change the number of workers that consume different queues.
positional: options, cores
options:
  _input:
    description: Workers of the host, as C(celery_worker_nodes) lists them.
    type: list
    elements: dict
    required: true
  options:
    description: Options of the point.
    type: dict
    required: true
  cores:
    description: Number of the host's cores.
    type: int
    required: true
"""

RETURN = """
_value:
  description: The workers, alike but for the name where there are more than before.
  type: list
  elements: dict
"""

# Options of a point that are about the host; every other one is put into each worker's entry as it is.
NODES = "nodes"
PER_CORE = "processes_per_core"


def tune_workers(workers: list[dict[str, Any]], options: dict[str, Any], cores: int) -> list[dict[str, Any]]:
    """Return the host's workers with the options: so many `nodes`, alike but for the name, whose pool processes come to
    `processes_per_core` for each of the host's cores; every other option as it is in each worker's entry.
    """
    number = int(options.get(NODES, len(workers)))
    if number < 1:
        raise AnsibleFilterError(f"nodes is {number}: a host needs at least one")
    if number != len(workers) and len({frozenset(worker["queues"]) for worker in workers}) > 1:
        raise AnsibleFilterError(
            "the workers of a host consume different queues, so their number cannot be changed: leave nodes out"
        )
    names = [worker["name"] for worker in workers]
    names += [name for name in (f"tune{place + 1}" for place in range(number)) if name not in names]
    entry = {name: value for name, value in options.items() if name not in {NODES, PER_CORE}}
    if PER_CORE in options:
        entry["concurrency"] = max(1, round(cores * float(options[PER_CORE]) / number))
    # A number of pool processes stands in the place of bounds for it.
    unbounded = [
        {key: worker[key] for key in worker if key != "autoscale" or PER_CORE not in options} for worker in workers
    ]
    found = unbounded[:number] + unbounded[:1] * (number - len(workers))
    return [worker | entry | {"name": name} for worker, name in zip(found, names[:number], strict=True)]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"tune_workers": tune_workers}

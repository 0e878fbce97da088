"""Which of several hosts a landscape takes, by its wiring."""

from __future__ import annotations

from pathlib import Path

from wiring import landscape, play


def test_the_first_client_of_the_inventory_drives(tmp_path: Path) -> None:
    """At every start the same one, with the workers in the inventory's order."""
    names = [f"host{number}" for number in range(9, 0, -1)]
    said = play(
        tmp_path,
        landscape({name: {} for name in names}),
        [{"debug": {"msg": "{{ cluster_client }} {{ cluster_workers | join(',') }}"}, "run_once": True}],
    )
    assert f"{names[0]} {','.join(names)}" in " ".join(said.split())

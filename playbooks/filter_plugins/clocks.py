"""Clocks of hosts, compared with that of one of them."""

from __future__ import annotations

from typing import Any


def against(read: dict[str, dict[str, float]], client: str) -> dict[str, dict[str, float]]:
    """Return every host's clock less the client's, from what each was less the controller's.

    The errors of both add up; against itself a clock is right.
    """
    zero, found = read[client], {}
    for host, clock in read.items():
        same = host == client
        found[host] = {
            "offset_s": round(clock["offset_s"] - zero["offset_s"], 6),
            "error_s": 0.0 if same else round(clock["error_s"] + zero["error_s"], 6),
        }
    return found


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"against": against}

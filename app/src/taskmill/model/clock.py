"""Moments that can be compared from one process to the next, and after an interruption."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@lru_cache(maxsize=1)
def boot() -> str:
    """Return what tells this boot of the machine from any other; empty where the kernel does not say."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Moment:
    """A point in time on both clocks: ``monotonic`` seconds, valid within one boot, and ``wall`` seconds (Unix)."""

    monotonic: float
    wall: float
    boot: str

    @classmethod
    def now(cls) -> Moment:
        """Return this moment."""
        return cls(time.monotonic(), time.time(), boot())

    @classmethod
    def at(cls, monotonic: float) -> Moment:
        """Return the moment that this boot's monotonic clock showed as ``monotonic``."""
        now = cls.now()
        return cls(monotonic, now.wall - (now.monotonic - monotonic), now.boot)

    @classmethod
    def load(cls, data: Any) -> Moment | None:
        """Read what ``dataclasses.asdict`` made of a moment; ``None`` for anything else."""
        try:
            return cls(float(data["monotonic"]), float(data["wall"]), str(data["boot"]))
        except (KeyError, TypeError, ValueError):
            return None

    def until(self, later: Moment) -> float:
        """Return the seconds to a later moment, by the monotonic clock where both are of one boot."""
        if self.boot and self.boot == later.boot:
            return later.monotonic - self.monotonic
        return later.wall - self.wall

    @property
    def iso(self) -> str:
        """UTC in ISO 8601, to the second."""
        return datetime.fromtimestamp(self.wall, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

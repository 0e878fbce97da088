"""All features: those of single tasks, of tasks that belong together, and of remote control."""

from __future__ import annotations

from conformance import features, remote, workflows  # noqa: F401  # they add their features
from conformance.posting import FEATURES

__all__ = ["FEATURES"]

"""Do workers work off what waits in their queues when they start? The outcomes that side_effect.yml brought home."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

OUTCOMES = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "outcomes"
RELEASES = {"celery5": "5.7.", "celery31": "3.1.24"}
#: What the author of the article met.
BROKEN = "celery-4.0.2"
FAULT = "Unrecoverable error: TypeError(\"'NoneType' object is not callable\""


def outcome(environment: str) -> dict[str, Any]:
    """Return what came of looking at an environment."""
    found: dict[str, Any] = json.loads((OUTCOMES / f"{environment}.json").read_text())
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_a_worker_that_starts_on_full_queues_works_them_off(release: str) -> None:
    """With messages waiting on all three queues, every one is executed, and the worker goes on until it is stopped."""
    case = outcome(release)["start"]
    assert (case["posted"], case["waiting"], case["done"], case["left"]) == (300, 300, 300, 0)
    assert not case["ended"]


@pytest.mark.parametrize("release", RELEASES)
def test_a_worker_that_restarts_with_messages_pending_works_them_off(release: str) -> None:
    """Some messages were executed before the restart, the others waited, and in the end every one is executed."""
    case = outcome(release)["restart"]
    assert 0 < case["before"] < case["posted"]
    assert case["waiting"] > 0
    assert (case["done"], case["left"], case["ended"]) == (case["posted"], 0, False)


def test_celery_4_0_2_dies_when_it_starts_on_full_queues() -> None:
    """The control: it ends with the fault of the article, and every message stays."""
    case = outcome(BROKEN)["start"]
    assert any(FAULT in line for line in case["log"])
    assert any("_quick_put" in line for line in case["log"])
    assert (case["ended"], case["done"], case["left"]) == (True, 0, 300)
    assert case["code"] != 0


def test_celery_4_0_2_works_on_empty_queues_and_dies_after_a_restart() -> None:
    """As the author met it: work goes on until a restart with messages pending; they stay where they are."""
    case = outcome(BROKEN)["restart"]
    assert case["before"] > 0
    assert case["ended"]
    assert any(FAULT in line for line in case["log"])
    assert case["done"] == case["before"]
    assert case["left"] == case["waiting"] > 0


@pytest.mark.parametrize(("environment", "version"), [*RELEASES.items(), (BROKEN, "4.0.2")])
def test_the_releases_are_those_that_are_spoken_of(environment: str, version: str) -> None:
    """Each environment holds the Celery that its name promises."""
    assert outcome(environment)["versions"]["celery"].startswith(version)

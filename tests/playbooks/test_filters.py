"""The playbooks' own filters."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import python_file
from ansible.errors import AnsibleFilterError
from ansible.utils.vars import load_extra_vars

FILTERS = Path(__file__).parents[2] / "plugins" / "filter"


def load(name: str) -> Any:
    """Import a filter's module from where Ansible finds it."""
    return python_file.load(FILTERS / f"{name}.py")


DEFAULTS = {"load_tasks": 1000000, "load_profile": True, "load_name": "fibonacci", "load_thresholds": []}


def repeat(always: dict[str, Any] | None = None, **options: Any) -> list[str]:
    """Return the command for options that are set, the others as they are, in words."""
    values = list((DEFAULTS | options).values())
    command = load("repeat_command").repeat_command(values, list(DEFAULTS), DEFAULTS, "inventory/lab", always or {})
    return shlex.split(command)


def test_a_run_as_it_comes_is_repeated_without_options() -> None:
    """What was given as it is anyway, as text or not, is not repeated."""
    plain = ["ansible-playbook", "-i", "inventory/lab", "run-load.yml"]
    assert repeat() == repeat(load_tasks="1000000", load_profile="true") == plain


def test_every_option_that_differs_is_repeated() -> None:
    """Values keep their kind and their quotes."""
    words = repeat(load_tasks="5000", load_profile=False, load_name="it's", load_thresholds=["lost==0"])
    assert words[-2] == "-e"
    assert (
        words[-1]
        == '{"load_tasks": "5000", "load_profile": false, "load_name": "it\'s", "load_thresholds": ["lost==0"]}'
    )


def test_a_release_of_the_command_line_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was given, alone or among others; one of the inventory is not."""
    given = load("from_command_line").from_command_line
    arguments = {"extra_vars": ["celery_release=celery31 load_tasks=5", '{"app_arguments": [3]}']}
    monkeypatch.setattr("ansible.utils.vars.context.CLIARGS", arguments)
    monkeypatch.setattr(load_extra_vars, "extra_vars", {}, raising=False)
    assert given(["celery_release"]) == {"celery_release": "celery31"}
    assert repeat(always=given(["celery_release"]))[-1] == '{"celery_release": "celery31"}'
    assert given(["cluster"]) == {}


def test_clocks_are_compared_with_the_clients() -> None:
    """The controller's own clock drops out, and both errors count; the client's clock is its own measure."""
    read = {
        "client1": {"offset_s": 10.0, "error_s": 0.01, "changed": False},
        "worker1": {"offset_s": 7.5, "error_s": 0.02},
    }
    assert load("clock_offsets").clock_offsets(read, "client1") == {
        "client1": {"offset_s": 0.0, "error_s": 0.0},
        "worker1": {"offset_s": -2.5, "error_s": 0.03},
    }


WORKERS = [{"name": "w1", "queues": ["a", "b"], "loglevel": "info"}, {"name": "w2", "queues": ["b", "a"]}]


def tuned(workers: list[dict[str, Any]], cores: int = 4, **options: Any) -> list[dict[str, Any]]:
    """Return the workers of a host with these options."""
    found: list[dict[str, Any]] = load("tune_workers").tune_workers(workers, options, cores)
    return found


def test_a_point_without_options_leaves_the_workers_as_they_are() -> None:
    """It is the default."""
    assert tuned(WORKERS) == WORKERS


def test_options_go_into_every_workers_entry() -> None:
    """Any option, known or not: the role knows which there are."""
    assert [worker["batch"] for worker in tuned(WORKERS, batch=8)] == [8, 8]


def test_workers_are_left_out_or_added_alike_but_for_the_name() -> None:
    """The first ones stay; further ones are as the first."""
    assert tuned(WORKERS, nodes=1) == WORKERS[:1]
    three = tuned(WORKERS, nodes=3)
    assert three[:2] == WORKERS
    assert three[2] == WORKERS[0] | {"name": "tune1"}


def test_pool_processes_are_shared_out_among_the_nodes() -> None:
    """So many for each core of the host, at least one a node."""
    assert [worker["concurrency"] for worker in tuned(WORKERS, cores=8, processes_per_core=1)] == [4, 4]
    assert [worker["concurrency"] for worker in tuned(WORKERS, cores=1, nodes=4, processes_per_core=1)] == [1] * 4


def test_a_number_of_pool_processes_takes_the_place_of_bounds() -> None:
    """A worker cannot have both; where no number is tried the bounds stay."""
    bounded = [{"name": "w1", "queues": ["a"], "autoscale": [8, 2]}]
    assert tuned(bounded, cores=4, processes_per_core=1) == [{"name": "w1", "queues": ["a"], "concurrency": 4}]
    assert tuned(bounded, batch=8) == [bounded[0] | {"batch": 8}]


def test_workers_of_different_queues_cannot_be_counted_anew() -> None:
    """A queue would lose its worker."""
    different = [{"name": "w1", "queues": ["a"]}, {"name": "w2", "queues": ["b"]}]
    with pytest.raises(AnsibleFilterError, match="leave nodes out"):
        tuned(different, nodes=1)
    assert tuned(different, nodes=2) == different
    with pytest.raises(AnsibleFilterError, match="at least one"):
        tuned(WORKERS, nodes=0)

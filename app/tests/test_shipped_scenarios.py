"""The scenarios that are shipped: each can be read, and its right results are those of the example."""

import re
from pathlib import Path

import pytest

from fibonacci.recursion import fibonacci
from taskmill.model.plan import Plan
from taskmill.workload import scenario
from taskmill.workload.calls import Calls

FOLDER = Path(__file__).parents[2] / "scenarios"
FILES = sorted(FOLDER.glob("*.yml"))


def test_the_page_lists_every_scenario() -> None:
    """Those and no others."""
    listed = re.findall(r"^\| `([\w.-]+)` ", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == [path.name for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_scenario_expects_what_the_task_does(path: Path) -> None:
    """For the first messages of every kind: the value, or the exception. It has at most fifteen lines."""
    assert len(path.read_text().splitlines()) <= 15
    found = scenario.read(path)
    plan = Plan("p", found.routes, 20, (), seed=found.seed, scenario=path.name, directory=str(FOLDER))
    calls = Calls(plan)
    calls.check()
    for kind in calls.kinds:
        for number in range(1 if kind.only else 5):
            right, call = kind.right(number), kind.call(number)
            if right.how == "fails":
                with pytest.raises(Exception, match=r".") as raised:
                    fibonacci(*call.args, **call.kwargs)
                assert raised.type.__name__ == right.value
            else:
                assert (right.how, right.value) == ("value", fibonacci(*call.args, **call.kwargs))

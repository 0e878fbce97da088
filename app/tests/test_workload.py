"""What each message of a plan calls and what is right for it, and the bytes that come of that."""

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan, Right, Route
from taskmill.publishing import message
from taskmill.results.verdict import judge
from taskmill.workload import files, rows
from taskmill.workload.calls import Call, Calls, largest_value

GENERATOR = """
import helper

def items(dice, index):
    return [dice.randrange(10**9), helper.double(index)]

def named(dice, index):
    return {"index": index}

def right(number, index):
    return number + index

def broken(*_):
    raise ValueError("no luck")

def text(*_):
    return "abc"
"""
CSV = 'amount,country,total\n1050,NL,1270.5\n"[1, 2]",007,null\n'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of a scenario with rows and a module."""
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "made.py").write_text(GENERATOR)
    (folder / "helper.py").write_text("def double(number):\n    return 2 * number\n")
    (folder / "rows.csv").write_text(CSV)
    (folder / "load.yml").write_text("kinds: {}\n")
    return folder


@pytest.fixture
def plan_of(directory: Path) -> Callable[..., Plan]:
    """Return what makes a plan of kinds."""

    def make(*routes: Route, tasks: int = 100, seed: int = 0) -> Plan:
        return Plan("p", routes, tasks, (), scenario="load.yml", directory=str(directory), seed=seed)

    return make


def kind(name: str = "some", **fields: Any) -> Route:
    """Return a kind of a scenario."""
    return Route("a.b", "red", name=name, **fields)


def test_routes_without_weights_take_turns_as_ever() -> None:
    """Message number i goes by the route i modulo their number, also where a task stands there twice."""
    routes = (Route("a", "red"), Route("a", "red"), Route("b", "blue"))
    assert Plan("p", routes, 10, ()).slots == (0, 1, 2)


def test_routes_can_be_keys_whatever_their_arguments_are() -> None:
    """Of a scenario, and without one."""
    one, other = kind(args=([1],), kwargs={"a": {}}, right=Right("value", [])), kind(args=([2],))
    assert {one: 1, other: 2, Route("a", "b"): 3} == {kind(args=([2],)): 2, one: 1, Route("a", "b"): 3}


def test_every_kind_has_its_share_and_is_spread_over_the_run() -> None:
    """Of any messages in a row, a kind has its weight's share but for one."""
    plan = Plan("p", (kind("a", weight=60), kind("b", weight=30), kind("c", weight=10)), 25, (), scenario="s")
    assert Counter(plan.slots) == {0: 6, 1: 3, 2: 1}
    drawn = [plan.slots[number % 10] for number in range(200)]
    for place, share in ((0, 0.6), (1, 0.3), (2, 0.1)):
        for end in range(1, 200):
            assert abs(drawn[:end].count(place) - share * end) <= 1
    assert plan.counts() == Counter(drawn[:25])


def test_tasks_that_store_a_result_are_counted_by_their_weight() -> None:
    """Of 25 messages 6 in 10 store nothing."""
    routes = (replace(kind("a", weight=6), task="forget"), kind("b", weight=4))
    assert Plan("p", routes, 25, (), scenario="s", unstored=("forget",)).storing == 10


def test_rows_are_taken_in_their_order_and_again(plan_of: Callable[..., Plan]) -> None:
    """The n-th message of a kind has the n-th row, whatever other kinds are between."""
    rowed = kind("rows", rows="rows.csv", args=("$amount",), kwargs={"in": ["$country", "$$x"]}, weight=2)
    calls = Calls(plan_of(rowed, kind("other", args=(5,))))
    numbers = [number for number in range(6) if calls.slots[number % 3] == 0]
    first, second = Call([1050], {"in": ["NL", "$x"]}), Call([[1, 2]], {"in": ["007", "$x"]})
    assert [calls.call(number) for number in numbers] == [first, second, first, second]


def test_what_is_generated_depends_on_seed_kind_and_number_alone(plan_of: Callable[..., Plan]) -> None:
    """Asked for in any order, by anyone, a message has the same arguments; another seed has others."""
    plan = plan_of(kind("one", generate="made:items"), kind("two", generate="made:items"))
    made = [Calls(plan).call(number) for number in range(40)]
    again = Calls(plan)
    order = random.Random(1).sample(range(40), 40)
    assert {number: again.call(number) for number in order} == dict(enumerate(made))
    assert [call.args[1] for call in made] == [2 * (number // 2) for number in range(40)]
    assert len({call.args[0] for call in made}) == 40
    assert Calls(replace(plan, seed=1)).call(0) != made[0]


def test_the_right_value_is_given_or_a_column_or_worked_out(plan_of: Callable[..., Plan]) -> None:
    """Of each message; where a failure is expected there is no value."""
    plan = plan_of(
        kind("value", args=(1,), right=Right("value", 5)),
        kind("column", rows="rows.csv", args=("$amount",), right=Right("value", "$total")),
        kind("function", generate="made:items", right=Right("function", "made:right")),
        kind("fails", args=(1,), right=Right("fails", "ValueError")),
        kind("any", args=(1,)),
    )
    calls = Calls(plan)
    assert [calls.right(number) for number in (0, 5)] == [Right("value", 5)] * 2
    assert [calls.right(number).value for number in (1, 6)] == [1270.5, None]
    assert [calls.right(number).value for number in (2, 7)] == [sum(calls.call(number).args) for number in (2, 7)]
    assert calls.right(3) == Right("fails", "ValueError")
    assert calls.right(4) == Right()
    assert largest_value(plan) == max(
        (calls.kinds[2].right(n).value for n in range(20)), key=lambda one: len(repr(one))
    )


def test_values_of_the_plan_are_those_of_routes_without_their_own() -> None:
    """Today's plan is the case of one call and one value for all."""
    calls = Calls(Plan("p", (Route("a", "red"), Route("b", "blue")), 2, (20,), check=True, expect=6765))
    assert [calls.call(number) for number in (0, 1)] == [Call([20], {})] * 2
    assert calls.right(1) == Right("value", 6765)
    assert calls.uniform


@pytest.mark.parametrize(
    ("route", "message_"),
    [
        (
            kind(generate="made:broken"),
            "kinds.some: made:broken raised ValueError: no luck, for the index 0",
        ),
        (
            kind(generate="made:text"),
            "kinds.some: made:text returned 'abc': return a list of arguments, or a dictionary of keyword arguments",
        ),
        (
            kind(args=(1, 2), right=Right("function", "made:broken")),
            (
                "kinds.some: made:broken(1, 2) raised ValueError: no luck. It is to return the right value; where the "
                "task is to fail, say fails: ValueError"
            ),
        ),
        (
            kind(rows="rows.csv", args=("$amout",)),
            (
                "kinds.some names the column 'amout', and rows.csv has amount, country, total. Write a text that "
                "begins with $ as $$"
            ),
        ),
    ],
)
def test_a_call_that_cannot_be_made_is_told_with_its_kind(
    plan_of: Callable[..., Plan], route: Route, message_: str
) -> None:
    """With the function or file, and what it gave."""
    calls = Calls(plan_of(route))
    with pytest.raises(TaskmillError) as refused:
        calls.call(0), calls.right(0)
    assert str(refused.value) == message_


def test_a_function_that_is_not_there_is_told_with_where_to_put_it(
    plan_of: Callable[..., Plan], directory: Path
) -> None:
    """A module that cannot be imported, one without the function, and one whose name another has."""
    with pytest.raises(TaskmillError) as refused:
        Calls(plan_of(kind(generate="gone:items")))
    assert str(refused.value) == (
        f"gone:items cannot be imported (ModuleNotFoundError: No module named 'gone'). Put the module beside the "
        f"scenario, in {directory}, or install it for the client, into {sys.prefix}"
    )
    with pytest.raises(TaskmillError) as refused:
        Calls(plan_of(kind(generate="made:itms")))
    assert (
        str(refused.value) == f"{directory / 'made.py'} has no function 'itms', which the scenario names as made:itms"
    )
    (directory / "json.py").write_text("def items(dice, index):\n    return []\n")
    with pytest.raises(TaskmillError) as refused:
        Calls(plan_of(kind(generate="json:items")))
    assert str(refused.value) == (
        f"json:items is not in the scenario's directory: a module of the same name is imported already, from "
        f"{json.__file__}. Rename json in {directory}"
    )


APP = "import shop.prices\n\ndef items(dice, index):\n    return [shop.prices.price]\n"
LATER = "def items(*anything):\n    import shop.prices\n    return [1]\n"


@pytest.mark.parametrize(
    ("text", "route", "said"),
    [
        (APP, kind(generate="own:items"), "own:items cannot be imported: {}:1"),
        ("import inner\n", kind(generate="own:items"), "own:items cannot be imported: {}/inner.py:2"),
        (LATER, kind(generate="own:items"), "kinds.some: own:items failed: {}:2"),
        (LATER, kind(right=Right("function", "own:items")), "kinds.some: own:items failed: {}:2"),
    ],
    ids=["at-the-top", "by-another", "generator", "right"],
)
def test_a_function_that_imports_the_app_is_told_that_the_client_does_not_have_it(
    plan_of: Callable[..., Plan], directory: Path, text: str, route: Route, said: str
) -> None:
    """Which import failed in which file and line, and what mends it."""
    own = directory / "own.py"
    own.write_text(text)
    (directory / "inner.py").write_text("import json\nfrom shop.prices import gross\n")
    with pytest.raises(TaskmillError) as refused:
        Calls(plan_of(route)).check()
    place = said.format(directory if "inner" in said else own)
    assert str(refused.value) == (
        f"{place} imports shop, which the client does not have (No module named 'shop'). The app is installed on the "
        f"workers alone: write what the function needs of it into a Python file beside the scenario, in {directory}, "
        f"or install shop for the client, into {sys.prefix}"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0\n", "ZeroDivisionError: division by zero, at {}:1"),
        (
            "import json\nfrom json import nothing\n",
            "ImportError: cannot import name 'nothing' from 'json' ({json}), at {}:2",
        ),
        ("def items(\n", "SyntaxError: '(' was never closed (broken.py, line 1)"),
    ],
    ids=["error", "name", "syntax"],
)
def test_a_module_that_fails_is_told_with_its_line(
    plan_of: Callable[..., Plan], directory: Path, text: str, said: str
) -> None:
    """It is there, so nothing is to be installed."""
    own = directory / "broken.py"
    own.write_text(text)
    with pytest.raises(TaskmillError) as refused:
        Calls(plan_of(kind(generate="broken:items")))
    assert str(refused.value) == f"broken:items cannot be imported ({said.format(own, json=json.__file__)})"


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("a.csv", "x,y\n1\n", "line 2 of {} has not 2 cells, as its first line has"),
        ("a.csv", "x,y\n1,2,3\n", "line 2 of {} has not 2 cells, as its first line has"),
        ("a.csv", "x,y\n", "{} has no rows: give it at least one"),
        ("a.jsonl", '{"x": 1}\n{x}\n', "line 2 of {} is not JSON: Expecting property name enclosed in double quotes: "),
        ("a.jsonl", "[1]\n", '{} is no JSON object, such as {"amount": 12}'),
    ],
)
def test_rows_that_cannot_be_read_are_told_with_their_line(tmp_path: Path, name: str, text: str, wrong: str) -> None:
    """Whatever is wrong with them."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TaskmillError) as refused:
        rows.read(path)
    said = wrong.replace("{}", str(path), 1) if "{}" in wrong else wrong
    assert str(refused.value).removeprefix("line 1 of " if "no JSON object" in wrong else "").startswith(said)


def test_rows_of_json_lines_keep_their_types(tmp_path: Path) -> None:
    """A number in quotation marks stays text, as no cell of CSV can."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"x": "12", "y": {"z": [null]}}\n\n')
    assert rows.read(path) == [{"x": "12", "y": {"z": [None]}}]


def test_the_run_folder_is_all_that_a_scenario_needs(
    plan_of: Callable[..., Plan], directory: Path, tmp_path: Path
) -> None:
    """Once kept there, with the modules that its own import, the directory that it came from may go."""
    plan = plan_of(
        kind("made", generate="made:items", right=Right("function", "made:right"), weight=2, priority=3, countdown=1.5),
        kind("rows", rows="rows.csv", args=("$amount", "$country"), kwargs={"a": 1}, right=Right("value", "$total")),
    )
    before = [(Calls(plan).call(number), Calls(plan).right(number)) for number in range(30)]
    folder = tmp_path / "run"
    folder.mkdir()
    kept = files.keep(plan, folder)
    for path in directory.iterdir():
        if path.is_file():
            path.unlink()
    loaded = Plan.load(folder)
    assert loaded == kept == plan
    assert loaded.directory == kept.directory == str(folder / "scenario")
    assert [(Calls(loaded).call(number), Calls(loaded).right(number)) for number in range(30)] == before
    assert sorted(path.name for path in (folder / "scenario").iterdir() if path.is_file()) == [
        "helper.py",
        "load.yml",
        "made.py",
        "rows.csv",
    ]


def test_modules_of_two_scenarios_may_have_the_same_name(tmp_path: Path) -> None:
    """Each calls its own."""
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "made.py").write_text(f"def items(dice, index):\n    return [{name!r}]\n")
        route = kind(generate="made:items")
        found.append(Calls(Plan("p", (route,), 1, (), scenario="s.yml", directory=str(tmp_path / name))).call(0).args)
    assert found == [["one"], ["two"]]


SENDER = message.Sender("gen1@host", "00000000-0000-4000-8000-000000000000")
IDENTIFIER = b"5f9b5b1e-1111-4222-8333-444455556666"


@pytest.mark.parametrize("minimal", [True, False])
@pytest.mark.parametrize("call", [Call([20], {}), Call([], {"text": "ü" * 70_000, "when": None})])
def test_a_message_made_for_one_call_is_the_one_made_once_for_all(call: Call, minimal: bool) -> None:
    """Byte for byte, in one frame or several, with a priority or without."""
    for route in (Route("a.b", "red"), Route("a.b", "red", priority=4)):
        options = {"minimal_headers": minimal, "persistent": True}
        encoder = message.Encoder(route, SENDER, 1, 131_072, **options)
        pieces = message.template(route, call.args, SENDER, 1, 131_072, kwargs=call.kwargs, **options)
        other = Call([1], {})
        assert encoder.encode(IDENTIFIER, other) != encoder.encode(IDENTIFIER, call)
        assert encoder.encode(IDENTIFIER, call) == IDENTIFIER.join(pieces)


@pytest.mark.parametrize("minimal", [True, False])
def test_a_countdown_counts_from_when_the_message_is_sent(monkeypatch: pytest.MonkeyPatch, minimal: bool) -> None:
    """The moment stands in the header that workers read, with its zone."""
    moments = iter(["2026-11-30T12:00:01.000000+00:00", "2026-11-30T12:00:02.500000+00:00"])
    monkeypatch.setattr(message, "moment", lambda countdown: next(moments) if countdown == 1.5 else "?")
    encoder = message.Encoder(
        Route("a.b", "red", countdown=1.5), SENDER, 1, 131_072, minimal_headers=minimal, persistent=True
    )
    found = [re.findall(rb"\d{4}-\d\d-\d\dT[0-9:.+]+", encoder.encode(IDENTIFIER, Call([1], {}))) for _ in range(2)]
    assert found == [[b"2026-11-30T12:00:01.000000+00:00"], [b"2026-11-30T12:00:02.500000+00:00"]]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", message.ETA)


@pytest.mark.parametrize(
    ("state", "result", "verdict"),
    [
        ("FAILURE", {"exc_type": "ValueError", "exc_module": "builtins"}, ("correct", "")),
        ("FAILURE", {"exc_type": "Odd", "exc_module": "shop.errors"}, ("correct", "")),
        (
            "FAILURE",
            {"exc_type": "KeyError", "exc_message": ["x"], "exc_module": "builtins"},
            ("failed", "FAILURE: KeyError: x; it is to fail with "),
        ),
        ("SUCCESS", 5, ("wrong", "the task returned 5, and is to fail with ")),
        ("REVOKED", {"exc_type": "ValueError"}, ("failed", "REVOKED: ValueError: None; it is to fail with ")),
        ("RETRY", {"exc_type": "ValueError"}, ("pending", "")),
    ],
)
def test_a_failure_that_is_expected_is_right_and_nothing_else(
    state: str, result: Any, verdict: tuple[str, str]
) -> None:
    """By the exception's name, with its module or without."""
    fails = "shop.errors.Odd" if isinstance(result, dict) and result["exc_type"] == "Odd" else "ValueError"
    found = judge(b"id", {"status": state, "result": result, "task_id": "id"}, False, None, fails)[:2]
    assert found == (verdict[0], verdict[1] and verdict[1] + fails)

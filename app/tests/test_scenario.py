"""The scenario's file: what it says, what is refused, and what is shown of it."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from msgspec.structs import fields

from taskmill.cli import cli
from taskmill.cli.smoke import outcome, smoke_plan
from taskmill.model.errors import TaskmillError
from taskmill.model.plan import Plan, Right, Route
from taskmill.model.record import Kind, Spread
from taskmill.model.thresholds import LIVE_OF_KIND
from taskmill.workload import scenario
from taskmill.workload.calls import Calls

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "scenario.yml"


def written(folder: Path, **kind: Any) -> Path:
    """Write a scenario with one kind into a folder, beside a file with rows."""
    path = folder / "load.yml"
    (folder / "rows.csv").write_text("a\n1\n")
    path.write_text(yaml.safe_dump({"kinds": {"invoice": {"task": "a.b", "queue": "red", **kind}}}))
    return path


def run(*arguments: str) -> Result:
    """Run the command without a broker."""
    return CliRunner().invoke(cli, ["run", *arguments], env={"CELERY_BROKER_URL": "", "CELERY_RESULT_BACKEND": ""})


def test_the_example_has_every_key_with_a_comment() -> None:
    """What is documented is what is read: no key is missing in it, and each is explained above its first line."""
    lines = EXAMPLE.read_text().splitlines()
    keys = {
        field.encode_name
        for kind in (scenario.Scenario, scenario.KindEntry, scenario.StageEntry, scenario.FaultEntry)
        for field in fields(kind)
    }
    shown: dict[str, str] = {}
    for above, line in itertools.pairwise(lines):
        if match := re.match(r" *(?:- )?(\w+):", line):
            shown.setdefault(match[1], above)
    assert keys <= set(shown)
    # The queue is explained with the task.
    assert {key for key in keys if not shown[key].lstrip().startswith("#")} == {"queue"}


def test_the_example_is_a_scenario() -> None:
    """By the code that reads any, with its rows and functions."""
    found = scenario.read(EXAMPLE)
    plan = Plan("p", found.routes, 11, (), seed=found.seed, scenario=EXAMPLE.name, directory=str(DOCS))
    calls = Calls(plan)
    calls.check()
    assert plan.kinds == ["small", "by_name", "listed", "made", "refused"]
    assert plan.routes[1] == Route(
        "fibonacci.tasks.green", "green", "by_name", args=(), kwargs={"n": 12}, priority=4, countdown=0.5, right=Right()
    )
    assert plan.routes[4].right == Right("fails", "TypeError")
    made = calls.kinds[3]
    assert len({made.call(number).args[0] for number in range(50)}) > 5
    assert [made.right(number).value for number in range(9)] == [
        [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610][made.call(number).args[0]] for number in range(9)
    ]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("kinds: [", "{} is not YAML: did not find expected node content in line 1"),
        ("a: 1\na: 2\n", "{} is not YAML: the key 'a' stands twice in line 2"),
        ("- 1", "{}: the scenario is [1]: give a mapping of keys"),
        (
            "kind: {}",
            (
                "{}: the scenario has no key 'kind': the nearest is kinds; known are kinds, seed, stages, thresholds, "
                "faults"
            ),
        ),
        (
            "seed: 1",
            "{}: kinds has to be a mapping with at least one kind, such as invoice: {task: ..., queue: ...}",
        ),
        ("kinds: {a: 1}", "{}: kinds.a is 1: give a mapping of keys"),
        (
            "kinds: {a b: {}}",
            (
                "{}: kinds.a b: the name has to be text of letters, digits, '.', '_' and '-', and begin with a letter "
                "or a digit"
            ),
        ),
        ("kinds: {a: {queue: red}}", "{}: kinds.a: object missing required field `task`"),
        (
            "{thresholds: [lost of b==0], kinds: {a: {task: a, queue: b}}}",
            "{}: thresholds[0]: there is no kind 'b': there are a",
        ),
        (
            "{thresholds: [lost], kinds: {a: {task: a, queue: b}}}",
            (
                "{}: thresholds[0]: 'lost' does not have the form METRIC OPERATOR NUMBER, such as "
                "'completed_per_s>=500'; operators are >=, <=, >, <, =="
            ),
        ),
        (
            "{thresholds: ['wrong of a>3 for 5s, stop as failed'], kinds: {a: {task: a, queue: b}}}",
            (
                "{}: thresholds[0]: there is no metric 'wrong' of a kind while messages are published; the nearest is "
                f"wrong_share; known are {', '.join(LIVE_OF_KIND)}"
            ),
        ),
        (
            "{thresholds: ['failed_share of b>0 for 5s, stop as failed'], kinds: {bc: {task: a, queue: b}}}",
            "{}: thresholds[0]: there is no kind 'b': the nearest is bc; there are bc",
        ),
        ("{thresholds: 5, kinds: {a: {task: a, queue: b}}}", "{}: thresholds: expected `array`, got `int`"),
        ("{seed: x, kinds: {a: {task: a, queue: b}}}", "{}: seed: expected `int`, got `str`"),
        (
            "{faults: kill-worker, kinds: {a: {task: a, queue: b}}}",
            "{}: faults is 'kill-worker': give a list of them, such as [{fault: kill-worker, at: 30}]",
        ),
        (
            "{faults: [{fault: kill-worker, when: 3}], kinds: {a: {task: a, queue: b}}}",
            "{}: faults[0] has no key 'when': known are fault, at",
        ),
        (
            "{faults: [{fault: kill-worker}], kinds: {a: {task: a, queue: b}}}",
            "{}: faults[0]: object missing required field `at`",
        ),
        (
            "{faults: [{fault: kill-worker, at: 30 %}], kinds: {a: {task: a, queue: b}}}",
            "{}: faults[0].at: expected `float`, got `str`",
        ),
        (
            "{faults: [{fault: kill worker, at: 3}], kinds: {a: {task: a, queue: b}}}",
            "{}: faults[0].fault is 'kill worker': give a name, such as kill-worker",
        ),
        (
            "{faults: [{fault: kill-worker, at: .inf}], kinds: {a: {task: a, queue: b}}}",
            "{}: faults[0].at is inf: give seconds",
        ),
        (
            "{faults: [{fault: kill-worker, at: 3}, {fault: kill-worker, at: -1}], kinds: {a: {task: a, queue: b}}}",
            "{}: faults[1].at: expected `float` >= 0.0",
        ),
    ],
)
def test_a_file_that_is_no_scenario_is_told_with_the_place(tmp_path: Path, text: str, wrong: str) -> None:
    """Whatever is wrong with it, with what is right."""
    path = tmp_path / "load.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"load\.yml") as refused:
        scenario.read(path)
    found = str(refused.value)
    if "did not find" in wrong:
        assert re.fullmatch(re.escape(f"{path} is not YAML: ") + r".+ in line \d", found)
    else:
        assert found == wrong.replace("{}", str(path), 1)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (
            {"wieght": 2},
            (
                " has no key 'wieght': the nearest is weight; known are task, queue, weight, args, kwargs, rows, "
                "generate, expect, expect_from, fails, priority, countdown"
            ),
        ),
        ({"weight": 0}, ".weight: expected `int` >= 1"),
        ({"weight": 1.5}, ".weight: expected `int`, got `float`"),
        ({"args": 20}, ".args: expected `array`, got `int`"),
        ({"kwargs": {1: 2}}, ".kwargs: expected `str`, got `int`"),
        ({"task": " a"}, ".task is ' a': give the name that the task is registered by"),
        (
            {"queue": "two words"},
            ".queue is 'two words': give a queue's name, of at most 255 bytes and without spaces",
        ),
        ({"generate": "made"}, ".generate is 'made': give MODULE:FUNCTION, such as values:total"),
        ({"expect_from": "a b:c"}, ".expect_from is 'a b:c': give MODULE:FUNCTION, such as values:total"),
        (
            {"generate": "a:b", "args": [1]},
            ": generate makes all the arguments; args, kwargs and rows cannot stand beside it",
        ),
        ({"expect": None, "fails": "E"}, ": expect and fails say each what is right; keep one of them"),
        ({"rows": "rows.txt"}, ".rows is 'rows.txt': give a .csv or .jsonl file beside the scenario or below"),
        ({"rows": "../rows.csv"}, ".rows is '../rows.csv': give a .csv or .jsonl file beside the scenario or below"),
        ({"rows": "row.csv"}, ".rows is 'row.csv', and there is no such file in {}"),
        ({"priority": 256}, ".priority: expected `int` <= 255"),
        ({"countdown": -1}, ".countdown: expected `float` >= 0.0"),
        ({"countdown": float("inf")}, ".countdown is inf: give seconds"),
        ({"countdown": float("nan")}, ".countdown: expected `float` >= 0.0"),
    ],
)
def test_a_kind_that_cannot_be_is_told_with_its_key(tmp_path: Path, kind: dict[str, Any], wrong: str) -> None:
    """With the path of the key, and the nearest one where it is not known."""
    path = written(tmp_path, **kind)
    with pytest.raises(ValueError, match=r"load\.yml") as refused:
        scenario.read(path)
    found = str(refused.value)
    assert found == f"{path}: kinds.invoice{wrong.replace('{}', str(tmp_path))}"


def test_the_command_refuses_what_does_not_go_together(tmp_path: Path) -> None:
    """Options that say the same as the scenario, no number of tasks, and a file that cannot be."""
    path = str(written(tmp_path))
    beside = run("--scenario", path, "--tasks=1", "--task=a=b", "--n=1")
    assert (beside.exit_code, beside.output.splitlines()[-1]) == (
        2,
        "Error: the scenario says what is published: --task, --n cannot stand beside it",
    )
    assert run("--scenario", path).output.splitlines()[-1] == "Error: Missing option '--tasks'."
    assert run("--tasks=1").output.splitlines()[-1] == "Error: Missing option '--task' or '--scenario'."
    refused = run("--scenario", str(written(tmp_path, quue="red")), "--tasks=1")
    assert refused.exit_code == 2
    assert "kinds.invoice has no key 'quue': the nearest is queue" in " ".join(refused.output.split())


@pytest.mark.parametrize(
    "options",
    [("--task=a=b", "--n=1"), ("--scenario", str(EXAMPLE), "--dry"), ("--scenario", str(EXAMPLE), "--tasks=5")],
)
def test_a_smoke_run_is_of_a_scenario_and_of_one_message_of_each_kind(options: tuple[str, ...]) -> None:
    """So there is nothing to say of how many, and nothing to show instead."""
    refused = run("--smoke", *options)
    assert (refused.exit_code, refused.output.splitlines()[-1]) == (
        2,
        "Error: --smoke takes a --scenario, and neither --dry nor --tasks nor --require",
    )


def test_a_smoke_plan_has_the_first_message_of_each_kind() -> None:
    """The same that the load begins with."""
    found = scenario.read(EXAMPLE)
    plan = Plan("p", found.routes, 500, (), seed=found.seed, scenario=EXAMPLE.name, directory=str(DOCS), processes=3)
    smoke = smoke_plan(plan)
    assert (smoke.name, smoke.tasks, smoke.slots, smoke.posters()) == ("p-smoke", 5, (0, 1, 2, 3, 4), [(0, 5)])
    assert [Calls(smoke).call(number) for number in range(5)] == [kind.call(0) for kind in Calls(plan).kinds]


@pytest.mark.parametrize(
    ("right", "kind", "fault", "words"),
    [
        (Right("value", 5), Kind(posted=1, correct=1), None, "right"),
        (Right("value", 5), Kind(correct=1, latency=Spread(count=1, p50=0.0123)), None, "right (0.0123 s)"),
        (Right("fails", "E"), Kind(posted=1, correct=1), None, "failed, as it has to"),
        (Right(), Kind(posted=1, correct=1), None, "ended well; there is nothing to compare"),
        (Right(), Kind(posted=1, acknowledged=1), None, "ended; it stores no result"),
        (Right(), Kind(posted=1), None, "has no result"),
        (Right("value", 5), Kind(wrong=1), {"outcome": "wrong", "detail": "it is 6"}, "wrong: it is 6"),
    ],
)
def test_what_came_of_a_smoke_message_is_told_in_words(
    right: Right, kind: Kind, fault: dict[str, str] | None, words: str
) -> None:
    """By what is right for its kind."""
    assert outcome(Route("a", "red", "k", right=right), kind, fault) == words


def test_the_first_messages_are_shown_and_nothing_is_published(tmp_path: Path) -> None:
    """Without broker and result store: the stages, and five of each kind that differ, with what is right for them."""
    shown = run("--scenario", str(EXAMPLE), "--dry")
    assert shown.exit_code == 0, shown.output
    timing, faults, *lines = shown.output.splitlines()
    assert faults == "faults, injected by run-load.yml alone: restart-worker at 1 s"
    stages = "5 to 20/s for 2 s; 20/s for 0.5 s; 15 at once; pause of 0.5 s"
    assert timing == f"50 messages: {stages}"
    few = run("--scenario", str(EXAMPLE), "--dry", "--tasks=7")
    assert few.output.splitlines()[0] == f"7 of 50 messages: {stages}"
    assert lines[:8] == [
        "small: fibonacci.tasks.red to the queue red, 6 of 11 messages",
        "  every one: (10) has to return 55",
        ("by_name: fibonacci.tasks.green to the queue green, 1 of 11 messages, priority 4, due 0.5 s after it is sent"),
        "  every one: (n=12) may return anything",
        "listed: fibonacci.tasks.blue to the queue blue, 1 of 11 messages",
        "  1: (5) has to return 5",
        "  2: (10) has to return 55",
        "  3: (15) has to return 610",
    ]
    assert lines[-2:] == [
        "refused: fibonacci.tasks.blue to the queue blue, 1 of 11 messages",
        "  every one: ('no number') has to fail with TypeError",
    ]
    assert len(lines) == 5 + 5 + 5 + 3
    plain = run("--task=a.b=red", "--args=[1]", "--expect=2", "--dry", "--runs-directory", str(tmp_path / "runs"))
    assert plain.output == "a.b to the queue red, 1 of 1 messages\n  every one: (1) has to return 2\n"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (
            "return [random.random()]",
            (
                "kinds.invoice: made:items gives other arguments when it is asked again for the index 0. Take what is "
                "random from the random.Random that it is handed, so that results can be compared"
            ),
        ),
        (
            "return [object]",
            "kinds.invoice: JSON does not carry the arguments (<class 'object'>): ",
        ),
    ],
)
def test_a_generator_that_cannot_be_compared_with_is_refused_at_once(tmp_path: Path, body: str, wrong: str) -> None:
    """Before anything is asked or published."""
    (tmp_path / "made.py").write_text(f"import random\ndef items(dice, index):\n    {body}\n")
    refused = run("--scenario", str(written(tmp_path, generate="made:items")), "--tasks=1")
    assert isinstance(refused.exception, TaskmillError)
    assert str(refused.exception).startswith(wrong)


def look(path: Path) -> Result:
    """Run what playbooks run before they prepare hosts."""
    return CliRunner().invoke(cli, ["scenario", str(path)])


def test_a_scenario_is_told_in_a_line() -> None:
    """With its functions not imported."""
    done = look(EXAMPLE)
    assert done.output == f"{EXAMPLE}: 50 messages; kinds: small, by_name, listed, made, refused\n"


@pytest.mark.parametrize("generate", ["nowhere:numbers", ""])
def test_functions_are_left_to_the_client(tmp_path: Path, generate: str) -> None:
    """They may import what is there alone."""
    kind = {"generate": generate} if generate else {"expect_from": "nowhere:right", "args": [1]}
    path = written(tmp_path, **kind)
    done = look(path)
    assert (done.exit_code, done.output) == (0, f"{path}: as many messages as are asked for; kinds: invoice\n")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"weight": 0}, "{0}/load.yml: kinds.invoice.weight: expected `int` >= 1"),
        (
            {"rows": "rows.csv", "args": ["$b"], "expect_from": "nowhere:right"},
            "kinds.invoice names the column 'b', and rows.csv has a. Write a text that begins with $ as $$",
        ),
    ],
    ids=["value", "column"],
)
def test_what_is_wrong_in_the_file_or_its_rows_is_told(tmp_path: Path, kind: dict[str, Any], said: str) -> None:
    """By its place; a column is missing whatever a function says is right."""
    done = look(written(tmp_path, **kind))
    assert isinstance(done.exception, TaskmillError)
    assert str(done.exception) == said.format(tmp_path)

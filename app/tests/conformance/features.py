"""What is posted to a worker for each feature.

A feature is a function that is given a :class:`Poster`. What it posts is told apart by labels, ``FEATURE/COPY/STEP``.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from celery import chain, chord, group
from celery.canvas import StampingVisitor
from celery.result import AsyncResult

from conformance import canvas, classes, tasks
from conformance.app import QUEUE, app

#: Pools in which a task can be ended from outside.
PROCESSES = ("prefork",)
ALL_POOLS = ("prefork", "threads", "solo", "gevent")


@dataclass
class Poster:
    """Posts the tasks of one copy of a feature, and keeps what the client is to look at."""

    prefix: str
    #: Results by label.
    results: dict[str, AsyncResult] = field(default_factory=dict)
    #: States that the client is to see, and to say so, by label; and the label whose sign it gives.
    watched: dict[str, tuple[str, str]] = field(default_factory=dict)

    def label(self, step: str = "") -> str:
        """Return the label of a step."""
        return f"{self.prefix}/{step}"

    def __call__(self, task: Any, *args: Any, step: str = "", watch: str = "", sign: str = "", **options: Any) -> Any:
        """Post one task, and keep its result; `watch` is a state to look for, `sign` the step that is told."""
        label = self.label(step)
        result = task.apply_async(args, {"label": label}, **options)
        return self.keep(label, result, watch, sign)

    def keep(self, label: str, result: Any, watch: str = "", sign: str = "") -> Any:
        """Keep a result."""
        self.results[label] = result
        if watch:
            self.watched[label] = (watch, self.label(sign) if sign else label)
        return result

    def add(self, step: str, *args: Any) -> Any:
        """Return the signature of a sum."""
        return tasks.add.s(*args, label=self.label(step))

    def total(self, step: str = "body") -> Any:
        """Return the signature of a chord's body."""
        return tasks.total.s(label=self.label(step))


@dataclass(frozen=True)
class Feature:
    """What is posted for a feature, and where it can be."""

    name: str
    post: Callable[[Poster], object]
    pools: tuple[str, ...] = ALL_POOLS
    #: It ends processes, and what else is in the worker meanwhile would not be as ever.
    alone: bool = False


FEATURES: dict[str, Feature] = {}


def feature(pools: tuple[str, ...] = ALL_POOLS, *, alone: bool = False) -> Callable[[Any], Any]:
    """Have a function be a feature of its name."""

    def register(post: Callable[[Poster], object]) -> Callable[[Poster], object]:
        name = post.__name__.replace("_", " ")
        FEATURES[name] = Feature(name, post, pools, alone)
        return post

    return register


@feature()
def plain(post: Poster) -> None:
    for number in range(12):
        post(tasks.add, number, 1, step=str(number))


@feature()
def values(post: Poster) -> None:
    for kind in ("none", "large", "not JSON", "a set", "an exception", "unicode", "nested"):
        post(tasks.give, kind, step=kind)


@feature()
def a_result_over_a_megabyte(post: Poster) -> None:
    post(tasks.give, "over a megabyte")


@feature()
def failures(post: Poster) -> None:
    for kind in ("ValueError", "KeyError", "TypeError", "ConnectionError", "OSError", "nested", "no text",
                 "NotImplementedError"):  # fmt: skip
        post(tasks.fail, kind, step=kind)


@feature()
def failure_that_does_not_pickle(post: Poster) -> None:
    post(tasks.fail, "OddError")


@feature(PROCESSES, alone=True)
def a_task_that_exits(post: Poster) -> None:
    post(tasks.exit_once)


@feature()
def expected_failure(post: Poster) -> None:
    post(tasks.fail_as_expected)


@feature()
def wrong_arguments(post: Poster) -> None:
    label = post.label()
    post.keep(label, app.send_task("conformance.tasks.add", (1, 2, 3), {"label": label}))


@feature()
def log_and_print(post: Poster) -> None:
    post(tasks.log)


@feature()
def pydantic_arguments(post: Poster) -> None:
    post(tasks.move, {"x": 1}, step="good")
    post(tasks.move, {"x": "no number"}, step="bad")


@feature()
def retries(post: Poster) -> None:
    post(tasks.retry, 2, 0.3, step="countdown")
    post(tasks.retry, 2, 0, step="at once")
    post(tasks.retry_in_vain, step="in vain")
    label = post.label("in vain, with an error")
    post.keep(label, tasks.retry_in_vain.apply_async((), {"label": label, "error": True}))
    post(tasks.retry_by_itself, 1, step="by itself")
    post(tasks.retry_by_itself, 9, step="by itself, in vain")
    post(tasks.retry_with_backoff, step="with backoff")
    post(tasks.retry_with_other_arguments, 1, step="with other arguments")


@feature()
def retry_is_seen(post: Poster) -> None:
    post(tasks.retry_seen, watch="RETRY")


@feature()
def track_started(post: Poster) -> None:
    post(tasks.started_seen, watch="STARTED")


@feature()
def update_state(post: Poster) -> None:
    post(tasks.progress_seen, watch="PROGRESS")


@feature()
def update_state_from_a_thread(post: Poster) -> None:
    post(tasks.progress_from_thread, watch="PROGRESS")


@feature()
def a_result_is_seen_while_the_next_task_runs(post: Poster) -> None:
    post(tasks.add, 1, 1, step="first", watch="SUCCESS", sign="first")
    label = post.label("second")
    post.keep(label, tasks.success_seen.apply_async((post.label("first"),), {"label": label}))


@feature()
def state_set_by_the_task(post: Poster) -> None:
    for state in ("SUCCESS", "FAILURE", "OWN"):
        post(tasks.set_state_and_ignore, state, step=state)


@feature()
def ignore_result(post: Poster) -> None:
    post(tasks.ignored, step="task")
    post(tasks.add, 1, step="message", ignore_result=True)
    post(tasks.ignored_but_errors, True, step="good")
    post(tasks.ignored_but_errors, False, step="errors")


@feature()
def request(post: Poster) -> None:
    post(tasks.request_fields, 1, "two", step="plain")
    post(tasks.request_fields, step="headers", headers={"x_header": "x"}, priority=3, shadow="shadowed", expires=600)
    post(tasks.request_fields, step="reply", reply_to="somewhere", correlation_id="own")
    post(
        tasks.request_fields,
        step="argsrepr",
        argsrepr="(hidden)",
        kwargsrepr=repr({"label": post.label("argsrepr")}),
    )
    label = post.label("chain")
    post.keep(label, chain(post.add("before", 1, 1), tasks.request_fields.s(label=label))())
    label = post.label("group")
    post.keep(label, group(tasks.request_fields.s(label=label))()[0])


@feature()
def messages(post: Poster) -> None:
    post(tasks.add, 1, 1, step="compressed", compression="zlib")
    post(tasks.add, 1, 1, step="shadow", shadow="another name")
    post(tasks.add, 1, 1, step="transient", delivery_mode=1)
    post(tasks.add, 1, 1, step="own id", task_id=f"own-{post.label()}".replace("/", "-").replace(" ", "-"))


@feature()
def eta_and_expiry(post: Poster) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    post(tasks.add, 1, 1, step="countdown", countdown=0.7)
    post(tasks.add, 1, 1, step="eta", eta=now + datetime.timedelta(seconds=1))
    post(tasks.add, 1, 1, step="eta gone by", eta=now - datetime.timedelta(seconds=60))
    post(tasks.add, 1, 1, step="expires", expires=300)
    post(tasks.add, 1, 1, step="expired", expires=now - datetime.timedelta(seconds=60))


@feature(PROCESSES, alone=True)
def soft_time_limit(post: Poster) -> None:
    post(tasks.soft_limit, step="task")
    post(tasks.sleep, 3, step="message", soft_time_limit=1)


@feature(PROCESSES, alone=True)
def hard_time_limit(post: Poster) -> None:
    post(tasks.sleep, 5, step="message", time_limit=1)
    post(tasks.add, 1, 1, step="in time", time_limit=30)


@feature()
def time_limit_beside_plain_tasks(post: Poster) -> None:
    post(tasks.with_limit, 1.0, step="limited")
    for number in range(6):
        post(tasks.add, number, step=str(number))


@feature()
def rate_limit(post: Poster) -> None:
    for number in range(3):
        post(tasks.rated, step=str(number))


@feature()
def early_acknowledgement(post: Poster) -> None:
    post(tasks.acknowledged_early)


@feature()
def no_acknowledgement_on_failure(post: Poster) -> None:
    post(tasks.not_acknowledged_on_failure)


@feature()
def reject_and_ignore(post: Poster) -> None:
    post(tasks.reject, False, step="dead letter")
    post(tasks.reject, True, step="requeue")
    post(tasks.ignore, step="ignore")


@feature(PROCESSES, alone=True)
def a_lost_process(post: Poster) -> None:
    post(tasks.kill_process, 1)


@feature(PROCESSES, alone=True)
def a_task_that_always_kills_its_process(post: Poster) -> None:
    # So often that a worker that goes on for ever comes to an end here.
    post(tasks.kill_process, 8)


@feature()
def unknown_task(post: Poster) -> None:
    label = post.label()
    post.keep(label, app.send_task("conformance.tasks.unknown", (), {"label": label}))


@feature()
def refused_content_type(post: Poster) -> None:
    with app.producer_or_acquire() as producer:
        headers = {"id": post.label("refused"), "task": "conformance.tasks.add", "lang": "py"}
        producer.publish(b"\x80", routing_key=QUEUE, content_type="application/x-odd", content_encoding="binary",
                         headers=headers)  # fmt: skip


@feature()
def body_that_is_no_JSON(post: Poster) -> None:  # noqa: N802  # its name
    with app.producer_or_acquire() as producer:
        headers = {"id": post.label("broken"), "task": "conformance.tasks.add", "lang": "py"}
        producer.publish("[[1, ", routing_key=QUEUE, content_type="application/json", content_encoding="utf-8",
                         headers=headers)  # fmt: skip


@feature()
def links(post: Poster) -> None:
    post(tasks.add, 1, 1, step="linked", link=[post.add("link", 10), post.add("other link", 20)])
    post(tasks.add, 1, 1, step="immutable", link=tasks.add.si(5, 5, label=post.label("immutable link")))
    error = canvas.errback.s(label=post.label("errback"))
    post(tasks.fail, "ValueError", step="failing", link_error=error)
    old = canvas.old_errback.s(label=post.label("old errback"))
    post(tasks.fail, "ValueError", step="failing, old", link_error=old)


@feature()
def chains(post: Poster) -> None:
    post.keep(post.label("3"), chain(post.add("1", 1, 1), post.add("2", 10), post.add("3", 100))())
    failing = tasks.fail.si("ValueError", label=post.label("failing"))
    broken = chain(post.add("before", 1), failing, post.add("never", 1))
    broken.link_error(canvas.errback.s(label=post.label("errback")))
    post.keep(post.label("never"), broken())
    post.keep(
        post.label("b"), chain(post.add("a", 1), tasks.retry.si(1, 0.1, label=post.label("r")), post.add("b", 1))()
    )


@feature()
def groups(post: Poster) -> None:
    result = group(post.add(str(number), number, 1) for number in range(4))()
    for number, one in enumerate(result):
        post.keep(post.label(str(number)), one)
    joined = chain(post.add("first", 1), group(post.add("left", 1), post.add("right", 2)))()
    for step, one in zip(("left", "right"), joined, strict=True):
        post.keep(post.label(step), one)


@feature()
def chunks_and_maps(post: Poster) -> None:
    numbers = [(1, 2), (3, 4)]
    post.keep(post.label("map"), canvas.plain_sum.map(numbers).apply_async())
    post.keep(post.label("starmap"), canvas.plain_sum_of_two.starmap(numbers).apply_async())


@feature()
def chords(post: Poster) -> None:
    header = [post.add(str(number), number, 1) for number in range(4)]
    post.keep(post.label("body"), chord(header)(post.total()))
    failing = [post.add("good", 1), tasks.fail.si("ValueError", label=post.label("failing"))]
    body = post.total("never")
    body.link_error(canvas.errback.s(label=post.label("errback")))
    post.keep(post.label("never"), chord(failing)(body))


@feature()
def nested_chords(post: Poster) -> None:
    inner = chord([post.add("1", 1), post.add("2", 2)], post.total("inner"))
    post.keep(post.label("body"), chord([inner, post.add("3", 3)])(post.total()))
    chained = chord([chain(post.add("4", 4), post.add("5", 5)), post.add("6", 6)])
    post.keep(post.label("of chains"), chained(post.total("of chains")))
    upgraded = chain(group(post.add("7", 7), post.add("8", 8)), post.total("upgraded"), post.add("after", 1))
    post.keep(post.label("after"), upgraded())


@feature()
def begun_in_a_task(post: Poster) -> None:
    for what in ("one", "chain", "group", "chord", "countdown"):
        post(canvas.begin, what, step=what)


@feature()
def a_chord_begun_in_a_chord(post: Poster) -> None:
    header = [canvas.begin_and_return.s(number, label=post.label(f"h{number}")) for number in (1, 2)]
    post.keep(post.label("outer"), chord(header)(post.total("outer")))


@feature(("prefork", "threads", "gevent"))
def waiting_for_another_task(post: Poster) -> None:
    post(canvas.wait_for_another)


@feature()
def another_task_applied(post: Poster) -> None:
    post(canvas.apply_another)


@feature()
def replace(post: Poster) -> None:
    post(canvas.replace, 0, step="once")
    post(canvas.replace, 3, step="by itself, three times")
    for what in ("chain", "group", "chord"):
        post(canvas.replace_by, what, step=what)
    chained = chain(canvas.replace_by.s("chain", label=post.label("in chain")), post.add("end", 1))
    post.keep(post.label("end"), chained())


@feature()
def add_to_chord(post: Poster) -> None:
    header = [canvas.add_to_chord.s(label=post.label("adds")), post.add("other", 2)]
    post.keep(post.label("body"), chord(header)(post.total()))


class Visitor(StampingVisitor):  # type: ignore[misc]  # Celery carries no types
    """Stamps every signature alike."""

    def on_signature(self, _sig: Any, **_headers: Any) -> dict[str, Any]:
        """Return the stamps."""
        return {"color": "red", "stamped_headers": ["color"]}


@feature()
def stamps(post: Poster) -> None:
    label = post.label("stamped")
    stamped = tasks.request_fields.s(label=label)
    stamped.stamp(Visitor())
    post.keep(label, stamped.apply_async())
    chained = chain(post.add("1", 1), post.add("2", 1))
    chained.stamp(Visitor())
    post.keep(post.label("2"), chained())


@feature()
def hooks(post: Poster) -> None:
    for how in ("succeed", "fail", "retry"):
        post(classes.hooked, how, step=how)


@feature()
def hooks_that_raise(post: Poster) -> None:
    for (hook, error), task in classes.HOOKS_THAT_RAISE.items():
        for good in (True, False):
            post(task, good, step=f"{hook} {error.__name__} {'good' if good else 'failed'}")


@feature()
def custom_base(post: Poster) -> None:
    post(classes.called, 1)


@feature()
def custom_request(post: Poster) -> None:
    post(classes.with_own_request, 1)


@feature()
def own_event(post: Poster) -> None:
    post(tasks.send_event)

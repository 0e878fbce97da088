"""Features of single tasks: values, failures, retries, states, limits, acknowledgement, classes."""

from __future__ import annotations

import datetime

from celery import chain, group

from conformance import classes, tasks
from conformance.app import QUEUE, app
from conformance.posting import PROCESSES, SHARING, Poster, feature


@feature()
def plain(post: Poster) -> None:
    for number in range(12):
        post(tasks.add, number, 1, step=str(number))


@feature()
def values(post: Poster) -> None:
    for kind in ("none", "large", "not JSON", "a set", "an exception", "unicode", "nested"):
        post(tasks.give, kind, step=kind)


# The tests' broker refuses such a message and closes the channel, to the harm of whichever task uses it next.
@feature(without=("rpc",))
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


@feature(PROCESSES, alone=True, without=SHARING)
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
    post(tasks.add, 1, 1, step="own id", task_id=post.own_id("own id"))


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


@feature(PROCESSES, alone=True, without=SHARING)
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


@feature(PROCESSES, alone=True, without=SHARING)
def a_lost_process(post: Poster) -> None:
    post(tasks.kill_process, 1)


@feature(PROCESSES, alone=True, without=SHARING)
def a_task_that_always_kills_its_process(post: Poster) -> None:
    # So often that a worker that goes on for ever comes to an end here.
    post(tasks.kill_process, 8)


@feature()
def unknown_task(post: Poster) -> None:
    label = post.label()
    post.keep(label, app.send_task("conformance.tasks.unknown", (), {"label": label}))


@feature()
def refused_content_type(post: Poster) -> None:
    # Stock Celery's record of it has no id.
    post.ids["application/x-odd"] = post.label("refused")
    with app.producer_or_acquire() as producer:
        headers = {"id": post.own_id("refused"), "task": "conformance.tasks.add", "lang": "py"}
        producer.publish(b"\x80", routing_key=QUEUE, content_type="application/x-odd", content_encoding="binary",
                         headers=headers)  # fmt: skip


@feature()
def body_that_is_no_JSON(post: Poster) -> None:  # noqa: N802  # its name
    with app.producer_or_acquire() as producer:
        headers = {"id": post.own_id("broken"), "task": "conformance.tasks.add", "lang": "py"}
        producer.publish("[[1, ", routing_key=QUEUE, content_type="application/json", content_encoding="utf-8",
                         headers=headers)  # fmt: skip


@feature()
def hooks(post: Poster) -> None:
    for how in ("succeed", "fail", "retry"):
        post(classes.hooked, how, step=how)


# Without processes or threads, what on_failure raises ends the worker, that of stock Celery too.
@feature(("prefork", "threads"))
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

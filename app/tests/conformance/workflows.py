"""Features of tasks that belong together: links, chains, groups, chords, and tasks that begin others."""

from __future__ import annotations

from celery import chain, chord, group

from conformance import canvas, tasks
from conformance.posting import Poster, Visitor, feature


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


# Alone: as many as there are processes wait for what none is left to run.
@feature(("prefork", "threads", "gevent"), alone=True)
def waiting_for_another_task(post: Poster) -> None:
    post(canvas.wait_for_another)


# Whether a task may wait for another is one flag of the whole process, and what threads do about it goes together.
@feature(("prefork", "solo"))
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
    header = [canvas.add_to_chord.s(label=post.label("adds")), post.add("other", 5, 5)]
    post.keep(post.label("body"), chord(header)(post.total()))


@feature()
def stamps(post: Poster) -> None:
    label = post.label("stamped")
    stamped = tasks.request_fields.s(label=label)
    stamped.stamp(Visitor())
    post.keep(label, stamped.apply_async())
    chained = chain(post.add("1", 1), post.add("2", 1))
    chained.stamp(Visitor())
    post.keep(post.label("2"), chained())

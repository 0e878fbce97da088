"""What differs from stock Celery: on purpose, and what is a fault that is known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from conformance.observe import ASPECTS, WORKER


@dataclass(frozen=True)
class Difference:
    """Lines that differ in a feature, where, and why. Where it says nothing of pools or backends, all are meant."""

    feature: str
    #: By aspect: patterns of the lines that ``observe.differences`` has of it, each of a whole line.
    lines: Mapping[str, tuple[str, ...]]
    reason: str
    pools: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ``ValueError`` where an aspect is none."""
        if strange := set(self.lines) - set(ASPECTS):
            raise ValueError(f"{self.feature}: no such aspect: {', '.join(sorted(strange))}")

    def applies(self, feature: str, pool: str, backend: str) -> bool:
        """Say whether it is about a feature with a pool and a result backend."""
        return (
            feature == self.feature
            and (not self.pools or pool in self.pools)
            and (not self.backends or backend in self.backends)
        )

    def covers(self, aspect: str, line: str) -> bool:
        """Say whether a line of an aspect is one of these."""
        return any(re.fullmatch(pattern, line, re.DOTALL) for pattern in self.lines.get(aspect, ()))


REJECTED = r"ours alone: ERROR taskmill_worker\.dead_lettering A message is rejected: "
#: What is logged of the task of a message: its task, and the content by its length alone.
ABOUT = r" task='conformance\.tasks\.\w+' exchange='' routing_key='conformance' content_type='[\w/-]+' bytes=\d+"
TOO_LARGE = r"ResultTooLargeError\(.a result of [\d,]+ bytes does not fit into memcached .*"
TOO_LARGE_FOR_STOCK = r"MemcacheServerError\(b'object too large for cache'\)"


def not_revoked(feature: str, step: str, reason: str) -> tuple[Difference, Difference]:
    """Return what differs where a task runs although it was revoked, of the steps of a pattern."""
    succeeded = r"INFO celery\.app\.trace Task conformance\.tasks\.add\[.*\] succeeded in <time>s: \d"
    results = {
        "result": (
            rf"{step}: result: stock \"TaskRevokedError\('revoked'\)\", ours '\d'",
            rf"{step}: status: stock \"'REVOKED'\", ours \"'SUCCESS'\"",
        ),
    }
    others = {
        "events": (
            rf"{step}: worker: stock alone: task-revoked terminated=False expired=False",
            rf"{step}: worker: ours alone: task-started",
            rf"{step}: worker: ours alone: task-succeeded result=\d",
        ),
        "log": (
            rf"{step}: stock alone: INFO celery\.worker\.request Discarding revoked task: .*",
            rf"{step}: ours alone: {succeeded}",
        ),
        "runs": (rf"{step}: stock None, ours 1",),
        "hooks": (
            rf"{step}: stock alone: signal revoked {{'terminated': 'False', 'expired': 'False'}}",
            rf"{step}: ours alone: signal prerun ",
        ),
    }
    return (
        Difference(feature, others, reason, pools=("prefork",)),
        Difference(feature, results, reason, pools=("prefork",), backends=("memcached", "redis", "rpc", "database")),
    )


#: docs/compatibility.md has these with their reasons.
DIFFERS_ON_PURPOSE: tuple[Difference, ...] = (
    Difference(
        "body that is no JSON",
        {
            "events": (
                (
                    # In a batch, it is read by the pool process.
                    r".*/broken: stock None, ours {'worker': \[('task-received .*', 'task-started', )?"
                    r"\"task-failed exception=Refused\('its message could not be decoded'\)\"\], 'others': \[\]}"
                ),
            ),
            "log": (
                r".*/broken: stock alone: CRITICAL celery\.worker\.consumer\.consumer Can't decode message body: .*",
                rf".*/broken: {REJECTED}its body cannot be decoded \(DecodeError\)\. id='[\w-]+'{ABOUT}",
                r".*/broken: ours alone: INFO celery\.worker\.strategy Task conformance\.tasks\.add\[.*\] received",
            ),
            "dead letters": (r".*/broken: stock None, ours 1",),
        },
        "stock Celery acknowledges it, and it is gone; dead_lettering keeps it, and nobody waits for it in vain",
    ),
    Difference(
        "refused content type",
        {
            "events": (
                (
                    r".*/refused: stock None, ours {'worker': "
                    r"\[\"task-failed exception=Refused\('its message was not valid'\)\"\], 'others': \[\]}"
                ),
            ),
            "log": (
                (
                    r".*/refused: stock alone: ERROR celery\.worker\.consumer\.consumer Received invalid task message: "
                    r"Refusing to deserialize untrusted content of type application/x-odd .*"
                ),
                rf".*/refused: {REJECTED}its task message is not valid \(ContentDisallowed\)\. id='[\w-]+'{ABOUT}",
            ),
        },
        "the same, in one line of the log, and without its content",
    ),
    *(
        Difference(
            feature,
            {
                "result": (
                    rf".*/{step}: result: stock 'None', ours \"Refused\('its message .*'\)\"",
                    rf".*/{step}: status: stock \"'PENDING'\", ours \"'FAILURE'\"",
                    rf".*/{step}: children: stock 'None', ours '\[\]'",
                    rf".*/{step}: keys: ours alone: (children|date_done|task_id|traceback)",
                )
            },
            "stock Celery stores nothing, and its client waits in vain",
            backends=("memcached", "redis", "database"),
        )
        for feature, step in (("body that is no JSON", "broken"), ("refused content type", "refused"))
    ),
    Difference(
        "unknown task",
        {
            "log": (
                (
                    r".*/: stock alone: ERROR celery\.worker\.consumer\.consumer Received unregistered task of type "
                    r"'conformance\.tasks\.unknown'\. .*"
                ),
                rf".*/: {REJECTED}no such task is registered in this worker\. id='<unknown task/>'{ABOUT}",
            ),
        },
        "stock Celery logs the whole message; dead_lettering nothing of its content",
    ),
    Difference(
        "a result over a megabyte",
        {
            "result": (
                rf".*/: result: stock \"{TOO_LARGE_FOR_STOCK}\", ours .{TOO_LARGE}",
                (
                    r".*/: traceback: stock .*MemcacheServerError: b'object too large for cache'\", "
                    r"ours .*ResultTooLargeError: a result of .*"
                ),
            ),
            "events": (
                rf".*/: worker: stock alone: task-failed exception=({TOO_LARGE_FOR_STOCK}|ExceptionWithTraceback\(\))",
                rf".*/: worker: ours alone: task-failed exception={TOO_LARGE}",
            ),
            "log": (
                rf".*/: stock alone: ERROR celery\.app\.trace Task .* raised unexpected: {TOO_LARGE_FOR_STOCK} .*",
                rf".*/: ours alone: ERROR celery\.app\.trace Task .* raised unexpected: {TOO_LARGE}",
            ),
            "hooks": (
                r".*/: stock alone: signal internal_error ",
                r".*/: stock alone: signal postrun {'state': 'SUCCESS'}",
                r".*/: ours alone: signal postrun {'state': 'FAILURE'}",
            ),
        },
        "the error says how large the result is, what the limit is, and which settings raise it",
        backends=("memcached",),
    ),
    Difference(
        "a task that always kills its process",
        {
            "result": (
                r".*/: result: stock \"'survived'\", ours \"Parked\('delivered again 3 times, .*'\)\"",
                r".*/: status: stock \"'SUCCESS'\", ours \"'FAILURE'\"",
            ),
            "events": (
                r".*/: worker: stock alone: task-received name=conformance\.tasks\.kill_process .*",
                r".*/: worker: stock alone: task-(started|rejected requeue=True|succeeded result='survived')",
                r".*/: worker: ours alone: task-failed exception=reject requeue=False: delivered again 3 times, .*",
                r".*/: worker: ours alone: task-rejected requeue=False",
            ),
            "log": (
                r".*/: stock alone: INFO celery\.worker\.strategy Task conformance\.tasks\.kill_process\[.*\] received",
                r".*/: stock alone: INFO celery\.app\.trace Task .* succeeded in <time>s: 'survived'",
                (
                    r".*/: ours alone: ERROR taskmill_worker\.parking A message is rejected: its task was lost with "
                    r"its process too often, it is parked\. .*"
                ),
            ),
            "runs": (r".*/: stock 9, ours 4",),
            "hooks": (
                r".*/: stock alone: signal (prerun |success |postrun {'state': 'SUCCESS'})",
                r".*/: ours alone: signal failure ",
            ),
            "dead letters": (r".*/: stock None, ours 1",),
        },
        "stock Celery begins it again for ever; dead_lettering parks it, where the result backend can count",
        pools=("prefork",),
        # With memcached, too; this feature is left out there.
        backends=("redis",),
    ),
    *not_revoked(
        "revoke",
        r"revoke/waits [13]",
        "a task that was handed to a pool process in a batch, which is some 50 ms of work, is not revoked any more",
    ),
    *not_revoked("revoke by stamped headers", r"revoke by stamped headers/stamped", "the same"),
    Difference(
        WORKER,
        {
            "log": (
                r".*: ours alone: WARNING taskmill_worker\.batching\.strategy Tasks that run singly, since they .*",
            ),
        },
        "the worker says which tasks go singly and why",
        pools=("prefork",),
    ),
    Difference(
        WORKER,
        {
            "log": (
                (
                    r".*: ours alone: WARNING taskmill_worker\.batching\.strategy Tasks run singly, and not in "
                    r"batches, since only the prefork pool takes batches, and this one is (thread|solo|gevent)\."
                ),
            ),
        },
        "the worker says that no task goes in a batch",
        pools=("threads", "solo", "gevent"),
    ),
    Difference(
        WORKER,
        {
            "log": (
                (
                    r".*: stock alone: WARNING py\.warnings .*/celery/app/trace\.py:\d+: RuntimeWarning: Exception "
                    rf"raised outside body: {TOO_LARGE_FOR_STOCK}: .*"
                ),
            ),
        },
        "what does not fit into memcached is the task's own failure, as of one that raises",
        backends=("memcached",),
    ),
    Difference(
        WORKER,
        {
            "log": (
                (
                    r".*: (stock|ours) alone: ERROR multiprocessing Process 'ForkPoolWorker-\d+' <process> exited with "
                    r"'signal 9 \(SIGKILL\)'"
                ),
                r".*: (stock|ours) alone: ERROR celery\.worker\.request Task handler raised error: WorkerLostError\(.*",
                r".*: ours alone: WARNING taskmill_worker\.batching\.gatherer \d+ messages go back to their queues: .*",
            ),
        },
        "a task that kills its process does so less often, and other processes have other numbers",
        pools=("prefork",),
        # With memcached these features are left out.
        backends=("redis", "rpc", "database", "none"),
    ),
    Difference(
        WORKER,
        {
            "log": (
                r".*: ours alone: WARNING taskmill_worker\.parking No task is parked: the result backend .*",
                r".*: ours alone: WARNING taskmill_worker\.task_times The result backend \w+ cannot store when .*",
            ),
        },
        "the worker says what cannot be had with the app's result backend",
        backends=("rpc", "database", "none"),
    ),
)

#: Faults. A case here is expected to fail, and fails when it does not any more.
BEING_MENDED: tuple[Difference, ...] = ()


def listed(among: Iterable[Difference], feature: str, pool: str, backend: str) -> list[Difference]:
    """Return those of the differences that are about a feature with a pool and a result backend."""
    return [one for one in among if one.applies(feature, pool, backend)]


def judge(differs: Mapping[str, list[str]], expected: Iterable[Difference]) -> list[str]:
    """Return what is wrong with the differences of a feature: what nobody has asked for, what is listed and gone."""
    expected = list(expected)
    wrong = [
        f"{aspect} differs: {line}"
        for aspect, lines in differs.items()
        for line in lines
        if not any(one.covers(aspect, line) for one in expected)
    ]
    wrong += [
        f"{aspect} no longer differs, take it out of the list: {one.reason}"
        for one in expected
        for aspect in one.lines
        if not any(one.covers(aspect, line) for line in differs.get(aspect, ()))
    ]
    return wrong

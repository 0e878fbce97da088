"""What broker, workers and memcached say of themselves, before and after."""

from __future__ import print_function

import csv
import os
import threading
from contextlib import contextmanager
from datetime import datetime

import memcache

#: Seconds for workers to make themselves known, and for known ones to answer.
HELLO = 2.0
ANSWER = 10.0
INTERVAL = 1.0
SCHEME = "cache+memcached://"


def look_at_queues(connection, names):
    """Return ``{queue: (messages that wait, consumers)}``; raise what kombu raises when the broker refuses."""
    channel = connection.channel()
    try:
        answers = [(name, channel.queue_declare(name, passive=True)) for name in names]
    finally:
        channel.close()
    return dict((name, (answer.message_count, answer.consumer_count)) for name, answer in answers)


def broker_version(connection):
    """Return the broker's product and version, such as ``RabbitMQ 4.0.5``."""
    server = connection.connection.server_properties
    return " ".join(str(server.get(name, "")) for name in ("product", "version")).strip()


def look_at_workers(app, names=None):
    """Return the workers that answer, or those of these names, as the record has them."""
    stats = app.control.inspect(names, timeout=ANSWER if names else HELLO).stats() or {}
    if not stats:
        return []
    # Known ones are not waited for longer than they take.
    inspect = app.control.inspect(sorted(stats), timeout=ANSWER)
    queues, reports = inspect.active_queues() or {}, inspect.report() or {}
    return [
        {
            "name": name,
            "pid": one.get("pid") or 0,
            "pool": "prefork" if (one.get("pool") or {}).get("processes") else "",
            "pool_size": (one.get("pool") or {}).get("max-concurrency") or 0,
            "prefetch": one.get("prefetch_count") or 0,
            "uptime": one.get("uptime") or 0,
            "software": software((reports.get(name) or {}).get("ok") or ""),
            "queues": sorted(queue["name"] for queue in queues.get(name) or []),
            "executed": one.get("total") or {},
        }
        for name, one in sorted(stats.items())
    ]


def software(report):
    """Return the versions in a worker's report."""
    for line in report.splitlines():
        name, arrow, rest = line.partition("->")
        if arrow and name.strip() == "software":
            return " ".join(rest.split())
    return ""


def executed_between(before, after, tasks):
    """Return the executions of the tasks between two answers; ``None`` when a worker came, went or started anew."""
    known = dict(((one["name"], one["pid"]), one) for one in before)
    if not known or set((one["name"], one["pid"]) for one in after) != set(known):
        return None
    return sum(
        one["executed"].get(task, 0) - known[one["name"], one["pid"]]["executed"].get(task, 0)
        for one in after
        for task in tasks
    )


def look_at_memcached(backend):
    """Return memcached's size, use and evictions over all servers, or ``None`` when one does not answer."""
    servers = [server for server in backend[len(SCHEME) :].strip("/").split(";") if server]
    client = memcache.Client(servers)
    answers = [stats for _, stats in client.get_stats()]
    client.disconnect_all()
    if len(answers) < len(servers):
        return None
    return {
        "limit_bytes": sum(int(stats["limit_maxbytes"]) for stats in answers),
        "used_bytes": sum(int(stats["bytes"]) for stats in answers),
        "items": sum(int(stats["curr_items"]) for stats in answers),
        "evictions": sum(int(stats["evictions"]) for stats in answers),
        "version": ", ".join(sorted(set(stats["version"] for stats in answers))),
    }


@contextmanager
def sampled_queues(app, names, path):
    """Append the depth of every queue to a CSV file, once a second, while the ``with`` block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=sample, args=(app, names, path, stop), name="queues")
    thread.daemon = True
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(ANSWER)


def sample(app, names, path, stop):
    """Write a line per queue and second until the end is asked for; while the broker is away there are none."""
    new = not os.path.exists(path)
    with open(path, "a") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(("time", "unix", "queue", "ready", "consumers"))
        connection = app.connection()
        while True:
            now = datetime.utcnow()
            unix = "%.3f" % (now - datetime(1970, 1, 1)).total_seconds()
            try:
                found = look_at_queues(connection, names)
            except Exception:
                connection.release()
                connection, found = app.connection(), {}
            for name, (ready, consumers) in sorted(found.items()):
                writer.writerow((now.isoformat()[:-3] + "Z", unix, name, ready, consumers))
            stream.flush()
            if stop.wait(INTERVAL):
                connection.release()
                return

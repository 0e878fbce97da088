"""Run folders made up from figures, as full as those of real runs."""

from __future__ import annotations

import csv
import json
import pstats
import struct
import zlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from taskmill.model.run_folder import write_json

START = 1795388520.0
QUEUES = ("red", "green", "blue")
WORKERS = ("w1@worker1", "w2@worker1")
HOSTS = {"broker1": ["broker", "results", "monitor"], "client1": ["client"], "worker1": ["workers"]}
#: CPU per task, in seconds, by unit and host.
UNITS = {
    "worker1": {"celery-worker@w1.service": 0.0009, "celery-worker@w2.service": 0.0009, "ssh.service": 0.000002},
    "broker1": {"rabbitmq-server.service": 0.0006, "memcached.service": 0.00015, "flower.service": 0.00012},
    "client1": {"taskmill-load.service": 0.00014, "host-stats.service": 0.00002},
}
PARTS = {
    "broker": ["rabbitmq-server.service"],
    "result store": ["memcached.service"],
    "worker": ["celery-worker@*.service"],
    "client": ["taskmill-load.service"],
    "monitor": ["flower.service"],
    "sampling": ["host-stats.service"],
}
CORES = 4
#: CPU of the bare function.
FUNCTION = 0.00067


def make(folder: Path, tasks: int = 20000, total: float = 20.0, post: float = 2.0, **record: Any) -> Path:
    """Write the folder of a run whose tasks were posted in ``post`` seconds and done evenly over ``total``.

    Further arguments are merged into the record, section by section.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "plan.json", {"schema": 1})
    latency = write_tasks(folder, tasks, total, post)
    write_depths(folder, tasks, total, post)
    write_hosts(folder, tasks, total)
    write_profile(folder, total)
    write_extras(folder)
    whole = base_record(tasks, total, post) | {"latency": latency}
    for section, values in record.items():
        whole[section] = whole[section] | values if isinstance(values, dict) else values
    write_json(folder / "run.json", whole)
    return folder


def base_record(tasks: int, total: float, post: float) -> dict[str, Any]:
    """Return the record of a run in which all went well."""
    each = tasks // len(QUEUES)
    counts = dict.fromkeys(("posted", "confirmed", "distinct", "retrieved", "correct"), tasks)
    outcome = {"posted": each, "correct": each, "wrong": 0, "failed": 0, "lost": 0}
    return {
        "schema": 1,
        "name": "fibonacci",
        "started_at": datetime.fromtimestamp(START, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "stack": "celery5",
        "workload": {
            "task": ", ".join(f"fibonacci.tasks.{queue}" for queue in QUEUES), "tasks": tasks, "n": None, "args": [20],
            "queues": list(QUEUES), "threads": 10, "processes": 1, "rate": None,
        },
        "counts": counts | dict.fromkeys(("wrong", "failed", "lost", "duplicates"), 0),
        "seconds": {"post": post, "collect": total - post, "total": total},
        "rates": {"posted_per_s": tasks / post, "completed_per_s": tasks / total},
        "efficiency": round(tasks * FUNCTION / (CORES * total), 4),
        "environment": environment(tasks),
        "state": "complete",
        "duplicates_from": "workers",
        "checked": True,
        "client": {"peak_memory_bytes": 51552256, "cpu_seconds": 2.7, "reconnects": 0, "blocked_seconds": 0.0},
        "workers": [
            {
                "name": name, "pool": "TaskPool", "pool_size": 4, "prefetch": 16, "queues": list(QUEUES),
                "software": "celery:5.7.0 (collider) kombu:5.7.0 py:3.13.5",
            }
            for name in WORKERS
        ],
        "memcached": {"limit_bytes": 400556032, "evictions": 0, "version": "1.6.38", "evicted_during_run": 0},
        "by_queue": {queue: dict(outcome) for queue in QUEUES},
        "by_worker": {
            name: {"succeeded": tasks // 2, "failed": 0, "run_s": tasks * 0.0005, "cpu_s": tasks * FUNCTION / 2}
            for name in WORKERS
        },
        "task_seconds": {"run": tasks * 0.001, "cpu": tasks * FUNCTION},
        "clocks": {
            name: {"start": {"offset_s": 0.02, "error_s": 0.0004}, "end": {"offset_s": 0.022, "error_s": 0.0005}}
            for name in WORKERS
        },
        "clock_jumps": {},
        "probed": [
            {
                "task": f"fibonacci.tasks.{queue}", "queue": queue, "worker": WORKERS[0], "seconds": 0.0012,
                "measured": "worker", "message_bytes": 81, "result_bytes": None if queue == "blue" else 231,
            }
            for queue in QUEUES
        ],
        "problems": [],
        "requirements": [],
    }  # fmt: skip


def environment(tasks: int) -> dict[str, Any]:
    """Return what the record of a run says of the landscape."""
    return {
        "taskmill": "0.1.0", "client_host": "client1", "client_python": "3.13.5", "celery": "5.7.0",
        "broker": "RabbitMQ 4.0.5", "window": 500, "profile": True, "worker_cores": CORES,
        "function_seconds": FUNCTION,
        "hosts": {
            name: {
                "groups": groups, "cores": CORES, "memory_mb": 16000, "kernel": "6.1.0-18-amd64",
                "distribution": "Debian 13", "python": "3.13.5", "boot_id": "one",
            }
            for name, groups in HOSTS.items()
        },
        "repository": {"revision": "0123abcd", "dirty": False},
        "command": f"ansible-playbook -i inventory/lab run-load.yml -e load_tasks={tasks}",
        "parts": PARTS,
        "settings": {"memcached_memory": "382 MB", "prefetch_multiplier": 4, "rabbitmq_memory_high_watermark": 0.6},
    }  # fmt: skip


def write_tasks(folder: Path, tasks: int, total: float, post: float) -> dict[str, Any]:
    """Write ``tasks.npz`` and return the record's ``latency``."""
    dice = np.random.default_rng(1)
    posted = START + np.sort(dice.uniform(0, post, tasks))
    done = START + 0.05 + np.sort(dice.uniform(0, max(total - 0.2, post), tasks))
    done = np.maximum(done, posted + 0.004)
    run = dice.lognormal(np.log(0.0009), 0.35, tasks)
    worker = dice.integers(0, len(WORKERS), tasks).astype("u2")
    np.savez_compressed(
        folder / "tasks.npz",
        due=posted, posted=posted, start=done - run + 0.021, done=done + 0.021, run=run.astype("f4"),
        cpu=np.full(tasks, FUNCTION, "f4"), queue=(np.arange(tasks) % len(QUEUES)).astype("u1"), worker=worker,
        outcome=np.zeros(tasks, "u1"), queues=np.array(QUEUES), workers=np.array(WORKERS),
    )  # fmt: skip
    kinds = {"queue": done - run - posted, "execution": run, "latency": done - posted}
    latency: dict[str, Any] = {"from": "posted"}
    for kind, values in kinds.items():
        quantiles = zip(
            ("p50", "p90", "p99", "p99_9"), np.quantile(values, [0.5, 0.9, 0.99, 0.999]).tolist(), strict=True
        )
        latency[kind] = {"count": tasks, "mean": float(values.mean()), **dict(quantiles), "max": float(values.max())}
    return latency


def write_depths(folder: Path, tasks: int, total: float, post: float) -> None:
    """Write ``queues.csv``."""
    with (folder / "queues.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("time", "unix", "queue", "ready", "consumers"))
        for second in range(int(total) + 1):
            there = min(1.0, second / post) - min(1.0, second / total)
            for place, queue in enumerate(QUEUES):
                ready = int(max(0.0, tasks / len(QUEUES) * there * (1 + 0.06 * place * (second % 7) / 7)))
                writer.writerow(("x", f"{START + second:.3f}", queue, ready, len(WORKERS)))


def sadf(host: str, total: float, busy: float = 93.0, cores: int = CORES, memory: float = 31.0) -> str:
    """Return what `sadf -j` prints, from two seconds before the run until three after it."""
    dice = np.random.default_rng(2)
    statistics = []
    for second in range(-2, int(total) + 4):
        moment = datetime.fromtimestamp(START + second, timezone.utc)
        working = 0 < second <= total + 1
        loads: list[dict[str, Any]] = []
        for core in range(cores):
            percent = float(np.clip(busy + dice.normal(0, 4), 0, 100)) if working else 3.0
            loads.append({"cpu": str(core), "usr": percent, "steal": 0.0, "iowait": 0.0, "idle": 100 - percent})
        idle = sum(load["idle"] for load in loads) / cores
        loads.insert(0, {"cpu": "all", "usr": 100 - idle, "steal": 0.0, "iowait": 0.0, "idle": idle})
        stamp = {"date": f"{moment:%Y-%m-%d}", "time": f"{moment:%H:%M:%S}", "tz": "UTC", "interval": 1}
        used = memory + 12 * (max(0, second) / total) if working else memory
        statistics.append({"timestamp": stamp, "cpu-load": loads, "memory": {"memused-percent": used}})
    return json.dumps({"sysstat": {"hosts": [{"nodename": host, "statistics": statistics}]}})


def write_hosts(folder: Path, tasks: int, total: float) -> None:
    """Write what was sampled on the hosts, whose clocks are the client's."""
    directory = folder / "hosts"
    directory.mkdir(exist_ok=True)
    for host, units in UNITS.items():
        (directory / f"{host}.json").write_text(sadf(host, total))
        with (directory / f"{host}.units.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("unix", "unit", "cpu_s", "rss_bytes", "processes"))
            for second in range(-2, int(total) + 4):
                share = min(1.0, max(0.0, second / total))
                for unit, each in units.items():
                    writer.writerow((f"{START + second:.3f}", unit, f"{100 + tasks * each * share:.4f}", 80_000_000, 3))
        limits: dict[str, Any] = {"oom_kills": 0, "restarts": dict.fromkeys(units, 0)}
        if host == "broker1":
            limits["broker"] = {"alarms": [], "flow": [{"unix": START + 1, "connections": 4}], "blocked": []}
        write_json(directory / f"{host}.limits.json", limits)
    offsets = {host: {"offset_s": 0.0, "error_s": 0.0006} for host in HOSTS}
    write_json(directory / "clocks.json", {"client": "client1", "start": offsets, "end": offsets})


def write_profile(folder: Path, total: float) -> None:
    """Write a cProfile of made-up calls: a client that posts, waits and collects."""
    site = "/opt/taskmill/venv/lib/python3.13/site-packages"
    run = (f"{site}/taskmill/post.py", 420, "_thread")
    publish = (f"{site}/taskmill/post.py", 510, "_publish")
    basic = (f"{site}/amqp/channel.py", 1760, "_basic_publish")
    write = (f"{site}/amqp/method_framing.py", 90, "write_frame")
    send = ("~", 0, "<method 'sendall' of '_socket.socket' objects>")
    lock = ("~", 0, "<method 'acquire' of '_thread.lock' objects>")
    collect = (f"{site}/taskmill/collect.py", 120, "run")
    get = (f"{site}/memcache.py", 1100, "get_multi")
    sleep = ("~", 0, "<built-in method time.sleep>")
    rows: dict[Any, tuple[float, float, list[tuple[Any, float]]]] = {
        run: (0.2, total, []),
        publish: (0.9, 0.8 * total, [(run, 0.8 * total)]),
        basic: (1.5, 0.6 * total, [(publish, 0.6 * total)]),
        write: (1.0, 0.5 * total, [(basic, 0.5 * total)]),
        send: (0.3 * total, 0.3 * total, [(write, 0.25 * total), (get, 0.05 * total)]),
        lock: (0.15 * total, 0.15 * total, [(write, 0.15 * total)]),
        collect: (0.4, 0.9 * total, []),
        get: (1.1, 0.3 * total, [(collect, 0.3 * total)]),
        sleep: (0.5 * total, 0.5 * total, [(collect, 0.5 * total)]),
    }
    stats = {
        function: (100, 100, own, cumulative, {caller: (100, 100, spent, spent) for caller, spent in callers})
        for function, (own, cumulative, callers) in rows.items()
    }
    merged = pstats.Stats()
    vars(merged)["stats"] = stats
    merged.dump_stats(folder / "profile.pstats")


def png(width: int = 60, height: int = 30) -> bytes:
    """Return a small picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\x40\x80\xc0" * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_extras(folder: Path) -> None:
    """Write what only comes when asked for, and the faults, of which there are none."""
    (folder / "faults.jsonl").touch()
    (folder / "pyspy").mkdir(exist_ok=True)
    base = "<module> (celery:8);main (celery/bin/celery.py:217);workloop (billiard/pool.py:362)"
    trace = f"{base};fast_trace_task (celery/app/trace.py:651)"
    stacks = {
        f"{trace};trace_task (celery/app/trace.py:453);fib (fibonacci/tasks.py:12)": 160,
        f"{trace};mark_as_done (celery/backends/base.py:182)": 210,
        f"{base};recv (billiard/connection.py:216)": 120,
        base: 9,
    }
    lines = [f"{stack} {seen}" for stack, seen in stacks.items()]
    (folder / "pyspy" / "w1@worker1.txt").write_text("\n".join([*lines, "broken line", ""]))
    (folder / "screenshots").mkdir(exist_ok=True)
    (folder / "screenshots" / "flower-workers.png").write_bytes(png())
    write_json(
        folder / "profile-cost.json",
        {
            "with": {"posted_per_s": 10000.0, "completed_per_s": 1000.0, "total_s": 20.0},
            "without": {"posted_per_s": 16000.0, "completed_per_s": 1080.0, "total_s": 18.5},
        },
    )

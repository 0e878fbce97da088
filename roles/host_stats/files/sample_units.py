#!/usr/bin/python3
"""Sample what each systemd unit of this host uses, and note which limits are hit, until terminated.

Usage: sample_units.py DIRECTORY INTERVAL [FILE], with INTERVAL in seconds, and FILE holding the URL
of RabbitMQ's management API (http://user:password@host:port/api/) where a broker runs on this host.
For Python 2.7 and every later one. Both files of DIRECTORY are begun anew:

units.csv    unix,unit,cpu_s,rss_bytes,processes: a line per sample and unit with processes. cpu_s
             counts from the unit's start, processes that ended included. What has no unit is "other".
limits.json  since the sampling began: `oom_kills`; `restarts` by unit, of the services that ran at
             the beginning; `broker`, once its API answered: `alarms` (unix, what, set), `flow` and
             `blocked` (unix, connections), each entry a look at which there were any.
"""

from __future__ import division, print_function, unicode_literals

import base64
import io
import json
import os
import sys
import threading
import time

try:
    from http.client import HTTPException
    from urllib.parse import unquote, urlsplit, urlunsplit
    from urllib.request import Request, urlopen
except ImportError:
    from urllib import unquote

    from httplib import HTTPException
    from urllib2 import Request, urlopen
    from urlparse import urlsplit, urlunsplit

TICK = os.sysconf(str("SC_CLK_TCK"))
PAGE = os.sysconf(str("SC_PAGE_SIZE"))
KERNEL_THREAD = 0x00200000
# systemd moves a process into its unit's group soon after it began: look that often before believing it.
LOOKS = 3
# The broker itself counts anew every five seconds.
BROKER_INTERVAL = 5
BROKER_TIMEOUT = 4


def read(path):
    """Return a file's text, or nothing where it is gone or not to be had."""
    try:
        with io.open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (IOError, OSError):
        return ""


def number_after(word, text):
    """Return the whole number that follows a word at the beginning of a line, or None."""
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 2 and parts[0] == word:
            return int(parts[1])
    return None


class Process(object):
    """One process at one look; `key` tells it from a later one of the same number."""

    def __init__(self, pid, stat):
        fields = stat[stat.rindex(")") + 2 :].split()
        self.pid = pid
        self.parent = int(fields[1])
        self.kernel = bool(int(fields[6]) & KERNEL_THREAD)
        own, ended = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
        # What init waited for are other units' processes.
        self.cpu = (own if pid == 1 else own + ended) / TICK
        self.key = (int(fields[19]), pid)
        self.rss = int(fields[21]) * PAGE


def unit_path(cgroups):
    """Return the group of the unit that a process belongs to by its /proc/PID/cgroup; empty for none."""
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "name=systemd"):
            parts = path.split("/")
            for place, part in enumerate(parts):
                if part.endswith((".service", ".scope")):
                    return "/".join(parts[: place + 1])
    return ""


class Units(object):
    """The units of this host: `sample()` looks at them, `restarts` counts since the first look."""

    def __init__(self, proc="/proc", groups="/sys/fs/cgroup"):
        self.proc = proc
        # Where version 1 is in use, version 2 may be beside it; its count of CPU needs no controller.
        unified = os.path.join(groups, "unified")
        self.groups = unified if os.path.isdir(unified) else groups
        self.restarts = {}
        self._paths = {}
        self._seen = {}
        self._ended = {}
        self._leaders = None

    def sample(self):
        """Return (unit, CPU seconds, bytes of memory, processes) of each unit that has processes."""
        found = self._processes()
        by_path = {}
        for process in found.values():
            by_path.setdefault(process.path, []).append(process)
        self._keep_ended(found)
        self._note_restarts(by_path)
        rows = {}
        for path, processes in by_path.items():
            row = rows.setdefault(path.rpartition("/")[2] or "other", [0.0, 0, 0])
            row[0] += self._cpu(path, processes)
            row[1] += sum(process.rss for process in processes)
            row[2] += len(processes)
        return [(unit, row[0], row[1], row[2]) for unit, row in sorted(rows.items())]

    def _processes(self):
        found, paths = {}, {}
        for name in os.listdir(self.proc):
            stat = read(os.path.join(self.proc, name, "stat")) if name.isdigit() else ""
            process = Process(int(name), stat) if stat else None
            if process is None or process.kernel:
                continue
            looks, path = self._paths.get(process.key, (0, ""))
            if looks < LOOKS:
                path = unit_path(read(os.path.join(self.proc, name, "cgroup")))
            paths[process.key] = (looks + 1, path)
            process.path = path
            found[process.pid] = process
        self._paths = paths
        return found

    def _keep_ended(self, found):
        """Keep the CPU of processes that are gone, unless a parent in the same unit waited for them."""
        for pid, before in self._seen.items():
            if pid in found and found[pid].key == before.key:
                continue
            parent, then = found.get(before.parent), self._seen.get(before.parent)
            waited = parent is not None and then is not None and parent.key == then.key and parent.path == before.path
            if not waited or before.parent == 1:
                self._ended[before.path] = self._ended.get(before.path, 0.0) + before.cpu
        self._seen = found

    def _cpu(self, path, processes):
        """Return what a unit used by its own group's count, else by the sum over its processes."""
        counted = number_after("usage_usec", read(self.groups + path + "/cpu.stat")) if path else None
        if counted is not None:
            return counted / 1e6
        return self._ended.get(path, 0.0) + sum(process.cpu for process in processes)

    def _note_restarts(self, by_path):
        """Count a service as restarted when the process that was its first has made room for another."""
        leaders = {
            path: min(process.key for process in processes)
            for path, processes in by_path.items()
            if path.startswith("/system.slice/") and path.endswith(".service")
        }
        if self._leaders is None:
            self._leaders = leaders
            self.restarts = dict.fromkeys([path.rpartition("/")[2] for path in leaders], 0)
        for path, first in leaders.items():
            if path in self._leaders and self._leaders[path] != first:
                self.restarts[path.rpartition("/")[2]] += 1
                self._leaders[path] = first


class Kills(object):
    """Processes that the kernel killed for want of memory: `count()` since this object was made, or None."""

    def __init__(self, groups="/sys/fs/cgroup", vmstat="/proc/vmstat", container="/run/systemd/container"):
        self.groups = groups
        self.vmstat = vmstat
        # The kernel's own count is of the whole machine, all its containers included.
        self.contained = os.path.exists(container)
        self.total = 0
        self._before = self._counts()

    def count(self):
        """Return the number so far; None where the kernel does not count them."""
        now = self._counts()
        for place, kills in now.items():
            self.total += max(0, kills - self._before.get(place, 0))
        # A group that is gone stays known: one of the same name begins at nothing again.
        self._before = now
        return self.total if now else None

    def _counts(self):
        if not self.contained:
            return self._known({self.vmstat: number_after("oom_kill", read(self.vmstat))})
        whole = number_after("oom_kill", read(os.path.join(self.groups, "memory.events")))
        if whole is not None:
            return {self.groups: whole}
        # Version 1 counts in each group for itself.
        return self._known(
            {
                directory: number_after("oom_kill", read(os.path.join(directory, "memory.oom_control")))
                for directory, _, _ in os.walk(os.path.join(self.groups, "memory"))
            }
        )

    @staticmethod
    def _known(counts):
        return {place: kills for place, kills in counts.items() if kills is not None}


class Broker(threading.Thread):
    """Looks at the broker's alarms and connections; `events` is None until its API has answered."""

    ALARMS = (("memory", "mem_alarm"), ("disk", "disk_free_alarm"))

    def __init__(self, url, clock=time.time):
        super(Broker, self).__init__()
        self.daemon = True
        parts = urlsplit(url.strip())
        address = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit((parts.scheme, address, parts.path.rstrip("/") + "/", "", ""))
        login = "{0}:{1}".format(unquote(parts.username or ""), unquote(parts.password or ""))
        self.login = "Basic " + base64.b64encode(login.encode("utf-8")).decode("ascii")
        self.clock = clock
        self.events = None
        self._set = {}
        self._complained = False

    def run(self):
        """Look every few seconds, for as long as the program lives."""
        while True:
            self.try_to_look()
            time.sleep(BROKER_INTERVAL)

    def try_to_look(self):
        """Look; say once that there is no answer, until there has been one again."""
        try:
            self.look()
            self._complained = False
        except (EnvironmentError, HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
            if not self._complained:
                print("The broker's API at {0} does not answer: {1}".format(self.url, error), file=sys.stderr)
                sys.stderr.flush()
            self._complained = True

    def look(self):
        """Note what the broker says now."""
        nodes = self.ask("nodes?columns=name,mem_alarm,disk_free_alarm")
        states = [connection.get("state") for connection in self.ask("connections?columns=state")]
        now = round(self.clock(), 3)
        events = self.events or {"alarms": [], "flow": [], "blocked": []}
        alarms = list(events["alarms"])
        for what, name in self.ALARMS:
            on = any(node.get(name) for node in nodes)
            if on != self._set.get(what, False):
                alarms.append({"unix": now, "what": what, "set": on})
            self._set[what] = on
        found = {"alarms": alarms}
        for name, wanted in (("flow", ("flow",)), ("blocked", ("blocked", "blocking"))):
            connections = sum(state in wanted for state in states)
            found[name] = events[name] + ([{"unix": now, "connections": connections}] if connections else [])
        # At once and anew: the other thread may be writing the one before.
        self.events = found

    def ask(self, path):
        """Return the API's answer."""
        request = Request(self.url + path, headers={"Authorization": self.login})
        answer = urlopen(request, timeout=BROKER_TIMEOUT)
        try:
            return json.loads(answer.read().decode("utf-8"))
        finally:
            answer.close()


def write_whole(path, data):
    """Write JSON so that a reader finds either what was there before or all of it."""
    with io.open(path + ".new", "w", encoding="utf-8") as file:
        # Python 2.7 has two kinds of text.
        file.write("{0}\n".format(json.dumps(data, sort_keys=True)))
    os.rename(path + ".new", path)


def main():
    """Sample until terminated."""
    directory, interval = sys.argv[1], float(sys.argv[2])
    units, kills, broker, written = Units(), Kills(), None, None
    if len(sys.argv) > 3:
        broker = Broker(read(sys.argv[3]))
        broker.start()
    with io.open(os.path.join(directory, "units.csv"), "w", encoding="utf-8") as file:
        file.write("unix,unit,cpu_s,rss_bytes,processes\n")
        while True:
            now = time.time()
            file.writelines("{0:.3f},{1},{2:.6f},{3},{4}\n".format(now, *row) for row in units.sample())
            file.flush()
            limits = {"restarts": units.restarts.copy()}
            killed = kills.count()
            if killed is not None:
                limits["oom_kills"] = killed
            if broker is not None and broker.events is not None:
                limits["broker"] = broker.events
            if limits != written:
                write_whole(os.path.join(directory, "limits.json"), limits)
                written = limits
            # To the next whole interval of the clock.
            time.sleep(interval - time.time() % interval)


if __name__ == "__main__":
    main()

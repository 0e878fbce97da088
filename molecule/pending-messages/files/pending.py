"""See whether a worker that finds messages on its queues when it starts works them off.

Usage: PENDING_BROKER_URL=amqp:... python pending.py, with the Python of the environment that is looked at (2.7 or 3).
There are two cases:

start    100 messages on each of three queues, then a worker
restart  a worker on empty queues, messages that take it a while, and a restart while some of them wait

Prints one JSON object: `versions`, and for each case what came of it:

posted   messages that were published
before   distinct messages that were executed before the worker in question was started
waiting  messages that waited in the queues just before that
done     distinct messages that were executed in the end
left     messages in the queues after the end of all workers
ended    whether that worker ended by itself, and `code`, its exit code then
log      what it wrote, as lines
"""

from __future__ import print_function

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid

import billiard
import kombu
from celery import Celery, __version__
from kombu import Queue

QUEUES = ("red", "green", "blue")
EACH = 100
#: Seconds that a message of the case `restart` takes: long enough that some wait while the worker is restarted.
SLOW = 0.02
#: Seconds for a worker to do all of its work; and to end, once asked.
DEADLINE = 60
WARM = 30

app = Celery("pending", broker=os.environ.get("PENDING_BROKER_URL"))
# The releases agree on the options of a task, but not on the names of settings.
app.conf["CELERY_ACCEPT_CONTENT" if __version__.startswith("3.") else "accept_content"] = ["json"]


@app.task(name="pending.note", serializer="json", acks_late=True, ignore_result=True)
def note(path, identifier, seconds):
    """Append the identifier to the file: the proof that this message was executed."""
    time.sleep(seconds)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, (identifier + "\n").encode())
    os.close(descriptor)


class Worker(object):
    """A worker on all three queues, in a process of its own."""

    def __init__(self, folder):
        """Start it; it is not waited for."""
        self._log = os.path.join(folder, uuid.uuid4().hex + ".log")
        command = [sys.executable, "-m", "celery", "--app=pending", "worker", "--queues=" + ",".join(QUEUES)]
        command += ["--concurrency=2", "--loglevel=warning", "--hostname=pending@%h"]
        here = os.path.dirname(os.path.abspath(__file__))
        # Its log goes to stderr; what it says on stdout is a banner.
        with open(self._log, "wb") as log, open(os.devnull, "wb") as nowhere:
            self._process = subprocess.Popen(command, cwd=here, stdout=nowhere, stderr=log, preexec_fn=os.setsid)

    def wait(self, condition):
        """Wait until the condition holds, the worker ends, or the deadline passes; tell whether it ended."""
        end = time.time() + DEADLINE
        while not condition() and self._process.poll() is None and time.time() < end:
            time.sleep(0.1)
        return self._process.poll() is not None

    def stop(self):
        """End it warmly, and by force what is left of it."""
        end = time.time() + WARM
        if self._process.poll() is None:
            self._process.terminate()
        while self._process.poll() is None and time.time() < end:
            time.sleep(0.1)
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except OSError:
            pass  # all of it has ended
        return self._process.wait()

    def log(self):
        """Return what it wrote, as lines."""
        with open(self._log, "rb") as stream:
            return stream.read().decode("utf-8", "replace").splitlines()


def executed(path):
    """Return the messages that were executed."""
    with open(path) as stream:
        return set(stream.read().split())


def ask(question):
    """Return the sum of what the three queues answer."""
    with app.connection() as connection:
        return sum(question(Queue(name, channel=connection.channel())) for name in QUEUES)


def waiting():
    """Return how many messages wait in the queues."""
    return ask(lambda queue: queue.queue_declare(passive=True).message_count)


def consumers():
    """Return how many consumers the queues have."""
    return ask(lambda queue: queue.queue_declare(passive=True).consumer_count)


def post(path, seconds):
    """Publish to every queue in turn; return how many."""
    for number in range(EACH * len(QUEUES)):
        note.apply_async((path, str(number), seconds), queue=QUEUES[number % len(QUEUES)])
    return EACH * len(QUEUES)


def judge(path, worker, posted, before, pending):
    """Let the worker do its work; return what came of it."""
    ended = worker.wait(lambda: len(executed(path)) == posted)
    code = worker.stop()
    return {
        "posted": posted,
        "before": before,
        "waiting": pending,
        "done": len(executed(path)),
        "left": waiting(),
        "ended": ended,
        "code": code if ended else None,
        "log": worker.log(),
    }


def on_start(folder, path):
    """Start a worker on full queues."""
    posted = post(path, 0)
    pending = waiting()
    return judge(path, Worker(folder), posted, 0, pending)


def on_restart(folder, path):
    """Restart a worker while messages wait."""
    worker = Worker(folder)
    worker.wait(lambda: consumers() == len(QUEUES))
    posted = post(path, SLOW)
    worker.wait(lambda: len(executed(path)) > posted // 4)
    worker.stop()
    before, pending = len(executed(path)), waiting()
    return judge(path, Worker(folder), posted, before, pending)


def main():
    """Try both cases and print the outcome."""
    outcome = {"versions": {"celery": __version__, "kombu": kombu.__version__, "billiard": billiard.__version__}}
    for name, case in (("start", on_start), ("restart", on_restart)):
        folder = tempfile.mkdtemp(prefix="pending-")
        path = os.path.join(folder, "executed")
        open(path, "w").close()
        # What a case needs it makes; what another one has left goes.
        ask(lambda queue: queue.queue_declare() and queue.purge())
        outcome[name] = case(folder, path)
    print(json.dumps(outcome, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()

"""Time a function by itself: how long it takes on one core, without any queue.

``python time_function.py [--app=APP] MODULE:FUNCTION ARGS_JSON [MODULE:EXPECTED_FUNCTION]``, started in the directory
that holds the module, prints one JSON object:

value     the result of the function, as Celery's JSON carries it where Celery is installed
expected  the result of the other function; null without one
seconds   median time of one call
spread    half the distance between the quartiles, in seconds
calls     how many calls were timed
python    implementation and version

APP is a Celery app, as ``celery --app`` takes it; it is loaded first, with its tasks and, of Django, its settings, as a
worker does. What the app prints goes to standard error. Without one, the standard library is all it needs, of Python
2.7 or 3.

Exit codes: 0; 1 when the two functions disagree; 2 for wrong usage.
"""

from __future__ import print_function

import importlib
import json
import os
import platform
import sys
import time

#: Seconds to spend on measuring, and the number of samples in them.
SECONDS = 2.0
SAMPLES = 25

clock = getattr(time, "perf_counter", time.time)


def load(path):
    """Return the function that MODULE:FUNCTION names."""
    module, separator, name = path.partition(":")
    if not separator:
        raise ValueError("%r does not have the form MODULE:FUNCTION" % (path,))
    return getattr(importlib.import_module(module), name)


def load_app(name):
    """Load a Celery app and its modules of tasks, as a worker does."""
    from celery.app.utils import find_app  # noqa: PLC0415  # only a function of an app needs it

    app = find_app(name)
    app.set_current()
    app.finalize()
    app.loader.import_default_modules()


def measure(function, args):
    """Return the seconds of single calls, as sorted means over equal batches of calls, and the number of calls."""
    begin = clock()
    function(*args)
    once = max(clock() - begin, 1e-7)
    batch = max(1, int(SECONDS / SAMPLES / once))
    samples = []
    end = clock() + 2 * SECONDS
    while len(samples) < SAMPLES and (clock() < end or not samples):
        begin = clock()
        for _ in range(batch):
            function(*args)
        samples.append((clock() - begin) / batch)
    return sorted(samples), batch * len(samples)


def as_json(data):
    """Return data as JSON, with what Celery's JSON has beyond the plain one where there is Celery."""
    try:
        from kombu.utils.json import dumps  # noqa: PLC0415  # only where Celery is installed, and not by Celery 3.1
    except ImportError:
        from json import dumps  # noqa: PLC0415  # in its place
    return dumps(data, sort_keys=True)


def main(argv, out=None):
    """Do as the module says and return the exit code; the JSON goes to `out`, or else to standard output."""
    apps = [argument[len("--app=") :] for argument in argv[1:2] if argument.startswith("--app=")]
    argv = argv[:1] + argv[1 + len(apps) :]
    if len(argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    sys.path.insert(0, os.getcwd())
    try:
        for name in apps:
            load_app(name)
        function, args = load(argv[1]), json.loads(argv[2])
        expected = load(argv[3])(*args) if len(argv) == 4 else None
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        print("time_function.py: %s" % error, file=sys.stderr)
        return 2
    value = function(*args)
    try:
        texts = [as_json(value), as_json(expected)]
    except (TypeError, ValueError) as error:
        print("time_function.py: the result is none that JSON carries: %s" % error, file=sys.stderr)
        return 2
    alike = value == expected or texts[0] == texts[1]
    samples, calls = measure(function, args)
    quarter = len(samples) // 4
    print(
        as_json(
            {
                "value": value,
                "expected": expected,
                "seconds": samples[len(samples) // 2],
                "spread": (samples[-1 - quarter] - samples[quarter]) / 2,
                "calls": calls,
                "python": "%s %s" % (platform.python_implementation(), platform.python_version()),
            }
        ),
        file=out or sys.stdout,
    )
    return 0 if len(argv) == 3 or alike else 1


if __name__ == "__main__":
    # What the app prints, be it in C, is not of the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    code = main(sys.argv, answer)
    answer.close()
    sys.exit(code)

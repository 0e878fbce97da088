"""Time a function by itself: how long it takes on one core, without any queue.

``python time_function.py MODULE:FUNCTION ARGS_JSON [MODULE:EXPECTED_FUNCTION]``, started in the directory that holds
the module, prints one JSON object:

value     the result of the function
expected  the result of the other function; null without one
seconds   median time of one call
spread    half the distance between the quartiles, in seconds
calls     how many calls were timed
python    implementation and version

It needs the standard library alone, of Python 2.7 or 3.

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


def main(argv):
    """Do as the module says and return the exit code."""
    if len(argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    sys.path.insert(0, os.getcwd())
    try:
        function, args = load(argv[1]), json.loads(argv[2])
        expected = load(argv[3])(*args) if len(argv) == 4 else None
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        print("time_function.py: %s" % error, file=sys.stderr)
        return 2
    value = function(*args)
    samples, calls = measure(function, args)
    quarter = len(samples) // 4
    print(
        json.dumps(
            {
                "value": value,
                "expected": expected,
                "seconds": samples[len(samples) // 2],
                "spread": (samples[-1 - quarter] - samples[quarter]) / 2,
                "calls": calls,
                "python": "%s %s" % (platform.python_implementation(), platform.python_version()),
            },
            sort_keys=True,
        )
    )
    return 0 if len(argv) == 3 or value == expected else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))

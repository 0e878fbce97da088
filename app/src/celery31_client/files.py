"""What a run leaves on disk: its folder, the ids of each thread, JSON files."""

from __future__ import print_function

import errno
import glob
import itertools
import json
import os
import time


def new_folder(runs, name):
    """Make ``RUNS/<utc time>-<name>`` with its ``ids``, point ``RUNS/latest`` at it, and return its path.

    Raises ``OSError`` where that is not allowed.
    """
    stem = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + name
    if not os.path.isdir(runs):
        os.makedirs(runs)
    for number in itertools.count(1):
        folder = os.path.join(runs, stem if number == 1 else "%s-%d" % (stem, number))
        try:
            os.mkdir(folder)
            break
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
    os.mkdir(os.path.join(folder, "ids"))
    link = os.path.join(runs, ".latest-%d" % os.getpid())
    os.symlink(os.path.basename(folder), link)
    os.rename(link, os.path.join(runs, "latest"))
    return folder


class Ids(object):
    """The ids that one thread posted: ``ids/00-TTT.ids``, a line ``ID QUEUE`` for each, written as soon as known."""

    def __init__(self, folder, thread):
        """Make the file."""
        path = os.path.join(folder, "ids", "00-%03d.ids" % thread)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)

    def add(self, identifier, queue):
        """Keep one more; it is with the operating system when this returns."""
        os.write(self._descriptor, ("%s %s\n" % (identifier, queue)).encode("utf-8"))

    def close(self):
        """Bring them to the disk."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def read_ids(folder):
    """Return the pairs ``(id, queue)`` of all threads, one of each in turn: about in the order of posting."""
    threads = []
    for path in sorted(glob.glob(os.path.join(folder, "ids", "*.ids"))):
        with open(path) as stream:
            lines = [line.split(" ", 1) for line in stream if line.endswith("\n")]
        threads.append([(identifier, queue.rstrip("\n")) for identifier, queue in lines])
    # Few distinct queues, many ids: let them share one text each.
    names = {}
    turns = itertools.izip_longest(*threads)
    return [(pair[0], names.setdefault(pair[1], pair[1])) for turn in turns for pair in turn if pair is not None]


def write_json(path, data):
    """Write a JSON file so that readers find the old or the new content whole."""
    temporary = "%s.%d" % (path, os.getpid())
    with open(temporary, "wb") as stream:
        stream.write(json.dumps(data, indent=2, sort_keys=True) + "\n")
    os.rename(temporary, path)


def read_json(path):
    """Return what a JSON file holds; raise ``ValueError`` or ``IOError`` where it cannot be read."""
    with open(path, "rb") as stream:
        return json.load(stream)

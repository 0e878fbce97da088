"""Run a command, and hand on what it says without the users and passwords of addresses.

Usage: python - COMMAND [ARGUMENT ...], run by the interpreter that the environment is made with, 2.7 or 3. Ends as
COMMAND did.
"""

import os
import re
import subprocess
import sys

#: Of Python 2 and 3.
STREAMS = [getattr(stream, "buffer", stream) for stream in (sys.stdout, sys.stderr)]


def main():
    """Run the arguments; the exit code is theirs."""
    with open(os.devnull) as nothing:
        process = subprocess.Popen(sys.argv[1:], stdin=nothing, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for stream, said in zip(STREAMS, process.communicate()):  # noqa: B905  Python 2.7 knows no strict
            # Not by r"": the formatter writes rb"", which Python 2.7 does not know.
            stream.write(re.sub(b"://[^/\\s]+@", b"://***@", said))
    sys.exit(process.returncode)


main()

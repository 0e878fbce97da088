"""What the features read from a worker's environment, and the same check of each kind of value.

Runs on Python 2.7 and 3.
"""

MYPY = False
if MYPY:  # for the types in comments; Python 2.7 has not all of them
    from collections.abc import Mapping  # noqa: F401


def whole_number(environ, name, default):
    # type: (Mapping[str, str], str, int) -> int
    """Return a variable as a whole number of at least 1; raise ``ValueError`` with its name."""
    text = environ.get(name) or str(default)
    try:
        value = int(text) if text.isdigit() else 0
    except ValueError:  # of digits such as a raised two
        value = 0
    if value < 1:
        raise ValueError("{} must be a whole number of at least 1, not {!r}".format(name, text))
    return value


def seconds(environ, name, default):
    # type: (Mapping[str, str], str, float) -> float
    """Return a variable as a number of seconds above 0, and not without end; raise ``ValueError`` with its name."""
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError("{} must be a number of seconds above 0, not {!r}".format(name, text))
    return value

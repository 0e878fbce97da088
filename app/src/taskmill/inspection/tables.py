"""Dependencies as poetry's ``pyproject.toml`` and a ``Pipfile`` have them, where no lock file says more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: A version, and what comes of it with a caret or a tilde before it.
NUMBERS = re.compile(r"\d+(\.\d+)*")


def lines(packages: Mapping[str, Any]) -> Iterator[str]:
    """Yield the requirements of a table, as pip reads them; neither Python nor what is optional or a path."""
    for name, wanted in packages.items():
        # Of several, one for each Python or system, the first is taken.
        one = wanted[0] if isinstance(wanted, list) else wanted
        more = one if isinstance(one, dict) else {"version": one}
        if name.lower() == "python" or more.get("optional") or "path" in more:
            continue
        extras = f"[{','.join(more['extras'])}]" if more.get("extras") else ""
        marker = f" ; {more['markers']}" if more.get("markers") else ""
        if "git" in more:
            at = next((f"@{more[key]}" for key in ("rev", "ref", "tag", "branch") if key in more), "")
            yield f"{name}{extras} @ git+{more['git']}{at}{marker}"
        elif "url" in more:
            yield f"{name}{extras} @ {more['url']}{marker}"
        else:
            yield f"{name}{extras}{specifier(str(more.get('version', '*')))}{marker}"


def specifier(version: str) -> str:
    """Return poetry's or pipenv's way of saying versions as PEP 440 says it; empty for any, and for alternatives.

    Source: https://python-poetry.org/docs/dependency-specification/.
    """
    if "|" in version:
        return ""
    return ",".join(filter(None, (_one(part.strip()) for part in version.split(","))))


def _one(version: str) -> str:
    sign, rest = version[:1], version[1:].strip()
    if sign == "^" or (sign == "~" and not rest.startswith("=")):
        if not NUMBERS.fullmatch(rest):
            return f">={rest}"
        numbers = [int(part) for part in rest.split(".")]
        # What may not change: up to the first number that is not 0, or with a tilde up to the second.
        fixed = next((place for place, number in enumerate(numbers) if number), len(numbers) - 1)
        last = fixed if sign == "^" else min(1, len(numbers) - 1)
        return f">={rest},<{'.'.join(map(str, [*numbers[:last], numbers[last] + 1]))}"
    if version[:1].isdigit():
        return f"=={version}"
    return "" if version == "*" else version

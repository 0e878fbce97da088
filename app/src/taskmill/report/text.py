"""Numbers and names as people read them."""

from __future__ import annotations

import html
import json
from typing import Any

#: In place of what is not known.
UNKNOWN = "-"
#: The longest name that a chart shows whole.
LONGEST = 90


def number(value: Any) -> str:
    """Return a number for people; other values as JSON, text as it is."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: UNKNOWN}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def rate(value: float) -> str:
    """Return a rate per second."""
    return f"{value:,.0f}/s" if abs(value) >= 100 else f"{value:,.3g}/s"


def seconds(value: float | None) -> str:
    """Return a duration in the unit that suits it."""
    if value is None or value != value:  # noqa: PLR0124  # NaN
        return UNKNOWN
    size = abs(value)
    if size >= 3600:
        return f"{value / 3600:.0f} h {value % 3600 / 60:02.0f} min"
    if size >= 100:
        return f"{value:,.0f} s"
    if size >= 1 or size == 0:
        return f"{value:.3g} s"
    return f"{value * 1e3:.3g} ms" if size >= 1e-3 else f"{value * 1e6:.3g} µs"


def percent(share: float | None) -> str:
    """Return a share of one in percent."""
    if share is None:
        return UNKNOWN
    return f"{100 * share:.1f} %" if abs(share) < 0.0995 else f"{100 * share:.0f} %"


def size(count: float | None) -> str:
    """Return bytes in the unit that suits them."""
    if count is None:
        return UNKNOWN
    for unit in ("bytes", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:,.3g} {unit}" if unit != "bytes" else f"{count:,.0f} {unit}"
        count /= 1000
    return f"{count:,.3g} GB"


def count(many: int, singular: str, plural: str | None = None) -> str:
    """Return ``1 worker`` or ``2 workers``."""
    return f"{many:,} {singular if many == 1 else plural or singular + 's'}"


def listed(names: list[str]) -> str:
    """Return ``a``, ``a and b``, or ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def label(name: object) -> str:
    """Return a name for a chart, which would otherwise read markup in it."""
    text = " ".join(str(name).split())
    return html.escape(text if len(text) <= LONGEST else "…" + text[1 - LONGEST :], quote=False)

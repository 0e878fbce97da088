"""Which Debian packages a Python package needs beside it, and which one a missing library or program is in.

The names are those of Debian 12; Debian 13 and Ubuntu provide them, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskmill.inspection.probed import Distribution

COMPILER = ("gcc", "python3-dev")


@dataclass(frozen=True)
class Needs:
    """Debian packages that a distribution needs, and why its wheel does not do without."""

    packages: tuple[str, ...]
    why: str


NO_WHEEL = "PyPI has no wheel of it for Linux: pip builds it, and it loads that library"
OPENS = "it opens that library when it is imported"
CALLS = "it calls that program"

#: As the documentation of each says under installation. A wheel that carries its libraries (in NAME.libs) needs none.
NEEDS = {
    "cairocffi": Needs(("libcairo2",), OPENS),
    "cairosvg": Needs(("libcairo2",), OPENS),
    "ffmpeg-python": Needs(("ffmpeg",), CALLS),
    "mysqlclient": Needs(("libmariadb3", "libmariadb-dev", "pkg-config", *COMPILER), NO_WHEEL),
    "opencv-contrib-python": Needs(("libgl1", "libglib2.0-0"), OPENS),
    "opencv-python": Needs(("libgl1", "libglib2.0-0"), OPENS),
    "pdf2image": Needs(("poppler-utils",), CALLS),
    "psycopg": Needs(("libpq5",), OPENS),
    "psycopg2": Needs(("libpq5", "libpq-dev", *COMPILER), NO_WHEEL),
    "pycairo": Needs(("libcairo2", "libcairo2-dev", "pkg-config", *COMPILER), NO_WHEEL),
    "pydub": Needs(("ffmpeg",), CALLS),
    "pylibmc": Needs(("libmemcached11", "libmemcached-dev", *COMPILER), NO_WHEEL),
    "pytesseract": Needs(("tesseract-ocr",), CALLS),
    "python-ldap": Needs(("libldap-dev", "libsasl2-dev", *COMPILER), NO_WHEEL),
    "python-magic": Needs(("libmagic1",), OPENS),
    "pyvips": Needs(("libvips42",), OPENS),
    "pyzbar": Needs(("libzbar0",), OPENS),
    "wand": Needs(("libmagickwand-6.q16-6",), OPENS),
    "weasyprint": Needs(("libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0"), OPENS),
}
#: Bring along what the other one loads from the system.
INSTEAD = {"psycopg": ("psycopg-binary",), "opencv-python": ("opencv-python-headless",)}

LIBRARIES = {
    "libGL.so": "libgl1",
    "libcairo.so": "libcairo2",
    "libglib-2.0.so": "libglib2.0-0",
    "libgthread-2.0.so": "libglib2.0-0",
    "libmagic.so": "libmagic1",
    "libmariadb.so": "libmariadb3",
    "libmemcached.so": "libmemcached11",
    "libpango-1.0.so": "libpango-1.0-0",
    "libpq.so": "libpq5",
    "libzbar.so": "libzbar0",
}


def needed(installed: dict[str, Distribution]) -> dict[str, Needs]:
    """Return what the installed distributions need of the system."""
    return {
        name: needs
        for name, needs in NEEDS.items()
        if name in installed
        and not installed[name].carries
        and not any(other in installed for other in INSTEAD.get(name, ()))
    }


def packages(needs: Iterable[Needs]) -> list[str]:
    """Return all packages, each once, in their order."""
    return list(dict.fromkeys(package for one in needs for package in one.packages))


def package_of(library: str) -> str:
    """Return the Debian package of a library's file, empty where it is not known."""
    return next((package for known, package in LIBRARIES.items() if library.startswith(known)), "")

"""What side_effect.yml saw of its pages through the role's command."""

from __future__ import annotations

import json
from typing import Any


def seen(host: Any, name: str) -> dict[str, Any]:
    """What a look left as JSON, page by page."""
    pages: dict[str, Any] = json.loads(host.file(f"/var/tmp/{name}/seen.json").content_string)["pages"]
    return pages


def test_a_page_is_seen_with_what_comes_late_and_what_is_behind_a_button(host: Any) -> None:
    """With its password, a page's table is read once it is filled, its button pressed, its console clean."""
    page = seen(host, "whole")["whole"]
    assert (page["status"], page["title"], page["missing"], page["console"]) == (200, "A page", [], [])
    assert page["tables"] == {"rows": [{"Name": "w1", "State": "Online"}]}
    assert "Behind the button" in page["text"]


def test_the_picture_is_a_drawn_page(host: Any) -> None:
    """The PNG is as wide as the window, and its data too varied for a blank page (letters, not boxes)."""
    picture = host.file("/var/tmp/whole/whole.png").content
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(picture[16:20], "big") == 1280
    assert len(picture) > 6000
    assert host.file("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf").exists


def test_what_is_missing_and_what_went_wrong_is_said(host: Any) -> None:
    """A row that never comes, a fault in a script and a server that is not there are each named."""
    pages = seen(host, "lacking")
    assert pages["broken"]["missing"] == ["text=w2"]
    assert pages["broken"]["console"] == ["not drawn", "a fault of the page"]
    assert "ERR_CONNECTION_REFUSED" in pages["nobody"]["missing"][0]


def test_a_page_without_its_password_is_refused(host: Any) -> None:
    """Without credentials the browser says that it was not let in, and nothing of the page is there."""
    page = seen(host, "refused")["refused"]
    assert "ERR_INVALID_AUTH_CREDENTIALS" in page["missing"][0]
    assert "Workers" not in page["text"]


def test_nothing_of_chromium_goes_on(host: Any) -> None:
    """A look ends with all its processes, and its files belong to its own user."""
    assert host.process.filter(user="browser") == []
    assert host.file("/var/tmp/whole/whole.png").user == "browser"


def test_a_name_cannot_leave_the_folder(host: Any) -> None:
    """A page whose name has a slash is not looked at."""
    assert not host.file("/var/tmp/climbing/seen.json").exists
    assert not host.file("/var/tmp/x.png").exists

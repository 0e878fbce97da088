"""Look at web pages through Chromium, and write down what was seen.

Usage: look.py FOLDER < pages.json, by the environment that holds playwright. The description:

{"deadline": 60,                               seconds for each page
 "credentials": {"username": .., "password": ..},  what pages ask for; may be left out
 "pages": [{"name": "workers",                 of the picture, FOLDER/workers.png
            "url": "http://...",
            "unverified": true,                its certificate may be any; may be left out
            "click": "#tab",                   pressed once it is there; may be left out
            "expect": ["tr:has-text('w1')"],   selectors of what must be visible; waited for
            "tables": {"workers": "#table"}}]}   what to read, by selector; may be left out

It comes by standard input because it may hold a password: arguments, and an environment that
Ansible sets, can be read by everybody on the host.

FOLDER/seen.json: {"unix", "browser", "pages": {NAME: {"url", "title", "status", "screenshot",
"missing": [selector], "console": [text], "tables": {NAME: [{header: cell}]}, "text"}}}. Exit code:
0 all that is expected was seen, 1 something is missing (and listed), 2 bad input or no browser.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as BrowserError

#: The user is nobody, the unit has no privilege, and only the operator's own pages are opened: Chromium's own sandbox
#: wants user namespaces, which containers and hardened kernels may refuse.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
]
SIZE = {"width": 1280, "height": 900}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]*")

READ_TABLE = """table => {
  const text = cell => cell.innerText.trim();
  // As written: a style may show them in capitals.
  const headers = [...table.querySelectorAll('thead th')].map(cell => cell.textContent.trim());
  return [...table.querySelectorAll('tbody tr')].map(
    row => Object.fromEntries([...row.cells].map((cell, place) => [headers[place] ?? String(place), text(cell)])));
}"""


def missing(page: Page, wanted: dict[str, Any], deadline: float) -> list[str]:
    """Return which of the expected selectors are not visible on the open page by the deadline."""

    def visible(selector: str) -> bool:
        left = max(1.0, deadline - time.monotonic())
        try:
            page.locator(selector).first.wait_for(state="visible", timeout=1000 * min(left, 10))
        except BrowserError:
            return False
        return True

    if "click" in wanted and visible(wanted["click"]):
        page.locator(wanted["click"]).click()
    return [selector for selector in wanted.get("expect", []) if not visible(selector)]


def look(browser: Browser, wanted: dict[str, Any], plan: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Open one page, again and again until all that is expected is there; picture it and read it."""
    deadline = time.monotonic() + plan.get("deadline", 60)
    seen: dict[str, Any] = {"url": wanted["url"], "status": None, "title": "", "console": [], "tables": {}, "text": ""}
    credentials = plan.get("credentials")
    page = browser.new_page(
        viewport=SIZE,
        http_credentials=credentials,
        reduced_motion="reduce",
        ignore_https_errors=bool(wanted.get("unverified")),
    )
    page.on("console", lambda said: seen["console"].append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: seen["console"].append(str(error)))
    while True:
        # What an attempt complained of that was in vain is not what was seen.
        seen["console"].clear()
        try:
            answer = page.goto(wanted["url"], timeout=1000 * max(1.0, deadline - time.monotonic()))
            seen["status"] = answer.status if answer else None
            seen["missing"] = missing(page, wanted, deadline)
        except BrowserError as error:
            seen["missing"] = [f"the page itself: {error.message.splitlines()[0]}"]
        if not seen["missing"] or time.monotonic() >= deadline:
            break
        time.sleep(1)
    seen["title"] = page.title()
    seen["text"] = page.locator("body").inner_text()
    for name, selector in wanted.get("tables", {}).items():
        table = page.locator(selector)
        seen["tables"][name] = table.first.evaluate(READ_TABLE) if table.count() else []
    seen["screenshot"] = f"{wanted['name']}.png"
    page.screenshot(path=folder / seen["screenshot"], full_page=True, animations="disabled")
    page.close()
    return seen


def main() -> int:
    """Look at every page that standard input describes."""
    folder = Path(sys.argv[1])
    try:
        plan = json.load(sys.stdin)
        pages = {page["name"]: page for page in plan["pages"]}
        odd = [name for name in pages if not NAME.fullmatch(name)]
        without = [name for name, page in pages.items() if not page.get("url")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # Not the text itself: it may hold a password.
        print(f"look: standard input does not describe pages ({type(error).__name__}); see the head of {__file__}")
        return 2
    if odd or without:
        print(f"look: names are letters, digits and @._- ({odd}); each page has a url ({without})")
        return 2
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            seen = {
                "unix": round(time.time(), 3),
                "browser": f"Chromium {browser.version}",
                "pages": {name: look(browser, page, plan, folder) for name, page in pages.items()},
            }
            browser.close()
    except BrowserError as error:
        print(f"look: Chromium could not do it: {error.message}")
        return 2
    (folder / "seen.json").write_text(json.dumps(seen, indent=1) + "\n")
    lacking = {name: page["missing"] for name, page in seen["pages"].items() if page["missing"]}
    for name, selectors in lacking.items():
        print(f"look: {name} ({pages[name]['url']}) lacks {', '.join(selectors)}")
    return 1 if lacking else 0


sys.exit(main())

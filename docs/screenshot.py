"""Take the README's picture of a report: ``screenshot.py RUN/report.html PICTURE.png``, by Debian's Chromium."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

#: The part of the page that the picture shows: the verdict, the findings, and where the time went.
SIZE = {"width": 1200, "height": 1500}
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

if len(sys.argv) != 3:
    sys.exit(__doc__)
page, picture = map(Path, sys.argv[1:])
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
    tab = browser.new_page(viewport=SIZE)
    tab.goto(page.resolve(strict=True).as_uri())
    tab.wait_for_selector("html[data-drawn=all]")
    tab.screenshot(path=picture)
    browser.close()

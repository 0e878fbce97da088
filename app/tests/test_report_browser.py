"""The report in a real browser: Debian's Chromium, without any display or network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import runs
from taskmill import report
from taskmill.report import comparison

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync",
]  # fmt: skip
DESKTOP, PHONE = (1280, 900), (390, 844)


@dataclass
class View:
    """An open page, and what it complained of or asked the network for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield a Chromium."""
    program = shutil.which("chromium")
    assert program, "these tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield one
        finally:
            one.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a run that left everything."""
    return report.write(runs.make(tmp_path_factory.mktemp("report") / "run"))


def view(browser: Browser, path: Path, size: tuple[int, int] = DESKTOP, theme: str = "light") -> View:
    """Open a page and wait until its charts are drawn."""
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if theme == "dark" else "light",
    )
    seen = View(page)
    page.on("console", lambda message: seen.complaints.append(message.text))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn=all]")
    return seen


def brightness(page: Page, selector: str, what: str) -> float:
    """Return how bright a colour of an element is, from 0 to 255."""
    colour = page.eval_on_selector(selector, f"(one) => getComputedStyle(one).{what}")
    parts = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    return sum(parts) / 3


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_report_is_drawn_without_complaint_or_network(
    browser: Browser, path: Path, size: tuple[int, int], theme: str
) -> None:
    """Every chart has its marks; the console is empty; nothing but the file itself is asked for."""
    seen = view(browser, path, size, theme)
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    drawn = seen.page.eval_on_selector_all(
        ".plot",
        "plots => plots.map((one) => [one.id, one.querySelectorAll("
        "'.scatterlayer .trace path, .heatmaplayer image, .icicle .slice, .barlayer .point').length])",
    )
    assert len(drawn) == 11
    assert [name for name, marks in drawn if not marks] == []
    seen.page.close()


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_page_does_not_scroll_sideways(browser: Browser, path: Path, size: tuple[int, int]) -> None:
    """On a phone, only wide tables do, within themselves."""
    page = view(browser, path, size).page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = page.eval_on_selector_all(
        ".plot svg.main-svg", "all => all.filter((one) => one.clientWidth > innerWidth).length"
    )
    assert wide == 0
    page.close()


def test_theme_follows_the_system_and_the_button(browser: Browser, path: Path) -> None:
    """Dark where the system is dark, until it changes; and what the button says, charts included."""
    page = view(browser, path, theme="dark").page
    axis = "#rates .ytick text"
    assert brightness(page, "body", "backgroundColor") < 60
    assert brightness(page, axis, "fill") > 120
    page.emulate_media(color_scheme="light")
    page.wait_for_selector("html[data-theme=light]")
    assert brightness(page, "body", "backgroundColor") > 200
    assert brightness(page, axis, "fill") < 120
    page.click("#theme")
    page.wait_for_selector("html[data-theme=dark]")
    assert brightness(page, "body", "backgroundColor") < 60
    page.reload()
    page.wait_for_selector("html[data-drawn=all]")
    assert page.get_attribute("html", "data-theme") == "dark"
    page.close()


def column(page: Page, number: int) -> list[str]:
    """Return the cells of a column of the profile."""
    cells = page.eval_on_selector_all(
        f"#functions tbody tr td:nth-child({number})", "cells => cells.map((cell) => cell.textContent)"
    )
    return [str(cell) for cell in cells]


def test_tables_sort_by_every_column_both_ways(browser: Browser, path: Path) -> None:
    """cProfile's table: the largest first at the first click, the smallest at the second; names by alphabet."""
    page = view(browser, path).page
    for number in (2, 4, 5):
        button = f"#functions thead th:nth-child({number}) button"
        if page.get_attribute(f"#functions thead th:nth-child({number})", "aria-sort") != "descending":
            page.click(button)
        values = [float(cell) for cell in column(page, number)]
        assert len(set(values)) > 3
        assert values == sorted(values, reverse=True)
        page.click(button)
        assert [float(cell) for cell in column(page, number)] == sorted(values)
    page.click("#functions thead th:nth-child(6) button")
    names = column(page, 6)
    assert names[-1].startswith("/opt/") or names[0].startswith("/opt/")
    page.click("#functions thead th:nth-child(6) button")
    assert column(page, 6) == names[::-1]
    page.close()


def test_profile_can_be_searched(browser: Browser, path: Path) -> None:
    """Only functions that match stay."""
    page = view(browser, path).page
    page.fill("input[type=search]", "AMQP")
    shown = page.eval_on_selector_all("#functions tbody tr", "rows => rows.filter((row) => !row.hidden).length")
    assert shown == 2
    page.close()


def test_page_prints_in_light_colours_and_within_the_paper(browser: Browser, path: Path, tmp_path: Path) -> None:
    """Printing a dark page gives a light one whose charts fit; the screen is as before afterwards."""
    page = view(browser, path, theme="dark").page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.get_attribute("html", "data-theme") == "light"
    widths = page.eval_on_selector_all("#rates svg.main-svg", "all => all.map((one) => one.clientWidth)")
    assert set(widths) == {660}
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.get_attribute("html", "data-theme") == "dark"
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 20_000
    page.close()


def test_names_with_markup_are_text_in_charts_too(browser: Browser, tmp_path: Path) -> None:
    """plotly reads markup in labels, and a page reads it everywhere: here neither does."""
    evil = "<b onclick=alert(1)>%{x}</b><img src=x onerror=alert(2)>"
    made = runs.make(tmp_path / "run", workload={"task": evil})
    (made / "queues.csv").write_text("".join(f'x,{runs.START + second},"{evil}",{second},1\n' for second in range(9)))
    seen = view(browser, report.write(made))
    assert seen.page.text_content("#depths .legendtext") == evil
    assert seen.page.locator("img[src=x]").count() == 0
    assert evil in seen.page.inner_text("main")
    assert seen.complaints == []
    seen.page.close()


def test_comparison_is_drawn_without_complaint_or_network(browser: Browser, path: Path, tmp_path: Path) -> None:
    """The page of ``taskmill compare`` is made of the same parts."""
    other = runs.make(tmp_path / "other", total=12.0)
    made = comparison.write(comparison.compare([path.parent, other]), tmp_path / "compare.html")
    seen = view(browser, made, PHONE)
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [made.as_uri()]
    assert seen.page.locator(".plot .main-svg").count() >= 6
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    seen.page.close()

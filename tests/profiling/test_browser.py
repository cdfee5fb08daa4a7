"""Reports in a real browser: on a phone and on a wide screen, by day and by night."""

from __future__ import annotations

import shutil
import struct
from typing import TYPE_CHECKING, Any

import pytest
from tests.profiling.values import FAILED, HOSTILE, line_of, plain
from tests.support.browser import CHROMIUM, Browser, Page

from penstock import DEVNULL, Result, command, map_lines, tee

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: a report is not looked at"),
]

WIDTHS = (320, 390, 1280)

OUTSIDE = """
[...document.querySelectorAll('body *')].filter(element => {
  const box = element.getBoundingClientRect();
  return (box.left < -0.5 || box.right > innerWidth + 0.5)
    && !element.parentElement.closest('.scroll, svg') && getComputedStyle(element).position !== 'fixed';
}).map(element => element.outerHTML.slice(0, 200))
"""
"""The elements that stand out of the window on the left or right, without being in a box that scrolls."""

CUT = """
[...document.querySelectorAll('svg text')].filter(text => {
  const box = text.getBoundingClientRect(), picture = text.closest('svg').getBoundingClientRect();
  return box.left < picture.left - 1 || box.right > picture.right + 1
    || box.top < picture.top - 1 || box.bottom > picture.bottom + 1;
}).map(text => text.textContent)
"""
"""The texts of pictures that stand out of their picture."""

OVERLAPPING = """
[...document.querySelectorAll('svg.graph')].flatMap(picture => {
  const boxes = [...picture.querySelectorAll('text, .node rect')]
    .map(each => [each, each.getBoundingClientRect()]);
  const upon = (a, b) => a.left < b.right - 1 && b.left < a.right - 1
    && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  return boxes.flatMap(([one, a], place) => boxes.slice(place + 1)
    .filter(([other, b]) => one.parentElement !== other.parentElement && upon(a, b))
    .map(([other]) => one.outerHTML + other.outerHTML));
})
"""
"""Pairs of boxes or texts of the graph that overlap, other than a box and its own name."""

SMALL = """
[...document.querySelectorAll('body *')].filter(element => {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  if (!own || element.closest('title')) return false;
  const picture = element.closest('svg');
  const scale = picture ? picture.getBoundingClientRect().width / picture.viewBox.baseVal.width : 1;
  return parseFloat(getComputedStyle(element).fontSize) * scale < 9;
}).map(element => element.textContent)
"""
"""Texts that are shown smaller than 9 pixels."""


def graph() -> Result:
    """Run a graph that fails: its last stage says why."""
    counted = (command("sort") | command("wc", "-l")).to(DEVNULL)
    packed = (command("gzip", "-c") | map_lines(bytes.upper)).to(DEVNULL)
    parse = command("sh", "-c", "cat >/dev/null; echo 'cannot parse <line> 7' >&2; exit 3", name="parse")
    pipeline = command("seq", "1000") | tee(counted, packed) | parse
    return pipeline.run(stdout=DEVNULL, check=False, profile=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start one browser for all tests of a worker."""
    folder = tmp_path_factory.mktemp("browser")
    browser = Browser(folder)
    yield browser
    browser.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the reports that the tests look at."""
    folder = tmp_path_factory.mktemp("reports")
    results = {
        "graph": graph(),
        "failed": FAILED,
        "hostile": HOSTILE,
        "plain": plain(FAILED),
        "long": line_of(100),
        "short": line_of(2, 0.01, 1),
    }
    for name, result in results.items():
        result.write_report(folder / f"{name}.html")
    return folder


NAMES = ("graph", "failed", "hostile", "plain", "long", "short")


def shown(browser: Browser, path: Path, width: int, **options: Any) -> Page:
    page = browser.page(width, **options)
    page.open(path)
    return page


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_everything_fits_and_can_be_read(browser: Browser, reports: Path, name: str, width: int) -> None:
    page = shown(browser, reports / f"{name}.html", width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(CUT) == []
    assert page.evaluate(OVERLAPPING) == []
    assert page.evaluate(SMALL) == []
    picture = page.screenshot()
    assert picture.startswith(b"\x89PNG")
    assert struct.unpack(">II", picture[16:24]) == (width, 800)


@pytest.mark.parametrize("name", NAMES)
def test_the_browser_has_nothing_to_complain_of_and_asks_for_nothing(
    browser: Browser, reports: Path, name: str
) -> None:
    path = reports / f"{name}.html"
    page = shown(browser, path, 1280)
    assert page.complaints() == []
    assert {url for url in page.requests() if not url.startswith("data:")} == {path.as_uri()}


def test_the_text_is_there(browser: Browser, reports: Path) -> None:
    text = shown(browser, reports / "graph.html", 390).evaluate("document.body.innerText")
    assert "The run failed at stage 7 (parse): exit status 3: cannot parse <line> 7." in text
    for heading in (
        "Graph",
        "Timeline",
        "Processor time",
        "Memory",
        "Throughput",
        "Stages",
        "Edges",
        "Stderr",
    ):
        assert f"\n{heading}\n" in text


def test_a_hostile_name_is_a_text_and_runs_nothing(browser: Browser, reports: Path) -> None:
    page = shown(browser, reports / "hostile.html", 390)
    assert "<script>alert(1)</script>" in page.evaluate("document.body.innerText")
    assert page.evaluate("document.scripts.length") == 0


def test_it_is_dark_where_the_user_wants_that(browser: Browser, reports: Path) -> None:
    colours = [
        shown(browser, reports / "failed.html", 390, dark=dark).evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        for dark in (False, True)
    ]
    assert colours == [["rgb(255, 255, 255)", "rgb(28, 32, 36)"], ["rgb(20, 23, 26)", "rgb(230, 233, 236)"]]


def test_boxes_that_scroll_can_be_reached_by_the_keyboard(browser: Browser, reports: Path) -> None:
    page = shown(browser, reports / "long.html", 390)
    found = page.evaluate(
        "[...document.querySelectorAll('*')]"
        ".filter(each => /auto|scroll/.test(getComputedStyle(each).overflowX)"
        " && each.scrollWidth > each.clientWidth + 1 && each.tabIndex < 0).length"
    )
    assert found == 0

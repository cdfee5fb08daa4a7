"""Reports: everything is there, is escaped and well-formed, and nothing comes from elsewhere."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from tests.profiling.pages import Element, elements_of
from tests.profiling.values import FAILED, HOSTILE, line_of, plain

from penstock import DEVNULL, PipelineError, Result, Secret, StageResult, command, tee
from penstock.profiling.page import page_of
from penstock.profiling.style import COLOURS

if TYPE_CHECKING:
    from pathlib import Path

RESULTS = {
    "failed": FAILED,
    "hostile": HOSTILE,
    "without a profile": plain(FAILED),
    "one stage": line_of(1),
    "long": line_of(100),
    "10 ms": line_of(2, 0.01, 1),
    "an hour": line_of(3, 3600.0),
    "no time": line_of(1, 0.0, 1),
}


def of(elements: list[Element], tag: str) -> list[Element]:
    return [element for element in elements if element.tag == tag]


@pytest.mark.parametrize("name", RESULTS)
def test_the_page_is_well_formed_and_can_be_used_by_everybody(name: str) -> None:
    page = page_of(RESULTS[name])
    elements = elements_of(page)
    assert page.startswith("<!DOCTYPE html>")
    assert [element.attributes["lang"] for element in of(elements, "html")] == ["en"]
    assert "width=device-width" in page
    levels = [int(element.tag[1]) for element in elements if re.fullmatch(r"h\d", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for svg in of(elements, "svg"):
        assert svg.attributes["role"] == "img"
        following = elements[elements.index(svg) + 1]
        assert following.tag == "title"
        assert following.text
    tables = of(elements, "table")
    assert len(of(elements, "caption")) == len(tables) == 2
    assert {element.attributes["scope"] for element in of(elements, "th")} == {"col", "row"}
    for element in elements:
        if element.attributes.get("tabindex"):
            assert element.attributes["role"] == "region"
            assert element.attributes["aria-label"]


@pytest.mark.parametrize("name", RESULTS)
def test_nothing_comes_from_elsewhere_and_nothing_runs(name: str) -> None:
    page = page_of(RESULTS[name])
    elements = elements_of(page)
    known = {
        "html", "head", "meta", "title", "link", "style", "body", "header", "main", "footer", "section",
        "div", "h1", "h2", "h3", "p", "span", "b", "code", "pre", "ul", "ol", "li", "table", "caption",
        "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "svg", "g", "path", "rect", "text",
    }  # fmt: skip
    assert {element.tag for element in elements} <= known
    for element in elements:
        assert not any(attribute.startswith("on") for attribute in element.attributes)
        assert "src" not in element.attributes
        assert "style" not in element.attributes
    assert [element.attributes["href"] for element in elements if "href" in element.attributes] == ["data:,"]
    assert "url(" not in page
    assert "@import" not in page
    (policy,) = [e.attributes["content"] for e in elements if "http-equiv" in e.attributes]
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("name", RESULTS)
def test_no_coordinate_is_outside_of_its_picture(name: str) -> None:
    elements = elements_of(page_of(RESULTS[name]))
    width = height = 0.0
    for element in elements:
        if element.tag == "svg":
            _, _, width, height = map(float, element.attributes["viewbox"].split())
        elif element.tag == "rect":
            x, y, right, bottom = (float(element.attributes[key]) for key in ("x", "y", "width", "height"))
            assert x >= 0
            assert y >= 0
            assert x + right <= width + 0.11
            assert y + bottom <= height + 0.11
        elif element.tag == "path":
            numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", element.attributes["d"])]
            assert all(0 <= number <= max(width, height) for number in numbers)


def test_the_verdict_the_graph_the_figures_and_stderr_are_there() -> None:
    elements = elements_of(page_of(FAILED))
    assert [element.text for element in of(elements, "h2")] == [
        "Graph",
        "Timeline",
        "Processor time",
        "Memory",
        "Throughput",
        "Stages",
        "Edges",
        "Stderr",
    ]
    text = elements[0].text
    assert "The run failed at stage 2 (head): exit status 3: no such file." in text
    assert "Stage 1 (yes) ended with signal: broken pipe, because its reader had enough: no failure." in text
    assert [element.text for element in of(elements, "pre")] == ["one\ntwo\nno such file"]
    assert of(elements, "title")[0].text == "failed: yes | head | upper"
    rows = [element.text for element in of(elements, "tr")]
    assert any(row.startswith("2 headcommandfailed3") for row in rows)
    assert any("head to upper" in row and "4.0 KiB" in row for row in rows)


def test_hostile_names_and_stderr_are_shown_and_not_obeyed() -> None:
    page = page_of(HOSTILE)
    elements = elements_of(page)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e\ud800-\udfff]", page)
    assert "<script" not in page
    (shown,) = of(elements, "pre")
    assert shown.text.startswith("<script>alert(1)</script>\\x1b[31m&\"'\\u202e")
    assert shown.text.endswith("</pre>")


def test_without_a_profile_the_page_says_how_to_get_one() -> None:
    elements = elements_of(page_of(plain(FAILED)))
    assert "Run it with profile=True" in elements[0].text
    assert not [element for element in elements if element.attributes.get("class") == "chart"]


def test_secrets_are_masked() -> None:
    secret = Secret("hunter2")
    result = command("sh", "-c", "exit 1", name=f"login {secret}").run(check=False, profile=True)
    page = page_of(result)
    assert "login ***" in page
    assert "hunter2" not in page
    assert str(secret) not in page


def test_only_the_end_of_a_long_stderr_is_shown() -> None:
    lines = b"".join(b"line %d\n" % number for number in range(1000))
    page = page_of(Result(None, 1.0, (StageResult("a", "command", stderr=lines, elapsed=1.0, id="a"),), ()))
    (shown,) = of(elements_of(page), "pre")
    assert shown.text.splitlines() == [f"line {number}" for number in range(800, 1000)]
    assert "The end of 1000 lines." in page


def test_a_real_graph(tmp_path: Path) -> None:
    branch = (command("sort") | command("wc", "-l")).to(DEVNULL)
    result = (command("seq", "100") | tee(branch) | command("cat")).run(stdout=DEVNULL, profile=True)
    path = tmp_path / "run.html"
    result.write_report(path)
    elements = elements_of(path.read_text(encoding="utf-8"))
    boxes = [element for element in elements if element.attributes.get("class", "").startswith("node")]
    assert len(boxes) == len(result.stages) + 3
    assert "The run succeeded." in elements[0].text


def test_a_run_that_could_not_start(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        (command("true") | command("no such program")).run(profile=True)
    result = caught.value.result
    assert result is not None
    result.write_report(os.fsencode(tmp_path / "run.html"))
    text = elements_of((tmp_path / "run.html").read_text())[0].text
    assert "The run could not start: Stage 2 (no such program)" in text
    assert "never ran" in text


def test_a_result_of_another_process_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "result").write_bytes(pickle.dumps(FAILED))
    code = f"""
import pickle
from pathlib import Path
pickle.loads(Path({str(tmp_path / "result")!r}).read_bytes()).write_report({str(tmp_path / "run.html")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "run.html").read_text() == page_of(FAILED)


# The file.


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text("old")
    path.chmod(0o640)
    with path.open() as old:
        FAILED.write_report(str(path))
        assert old.read() == "old"
    assert path.read_text() == page_of(FAILED)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["run.html"]


def test_a_page_that_cannot_be_written_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.html"
    path.write_text("old")
    written = os.write

    def fail(fd: int, data: bytes) -> int:
        if len(data) > 1000:
            written(fd, bytes(data[:1000]))
            raise OSError(28, "No space left on device")
        return written(fd, data)

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        FAILED.write_report(path)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["run.html"]


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing.*run\.html"):
        FAILED.write_report(tmp_path / "missing" / "run.html")


def test_a_path_is_checked() -> None:
    with pytest.raises(TypeError, match="path must be a path"):
        FAILED.write_report(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="path must not be empty"):
        FAILED.write_trace("")


# The colours.


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", COLOURS)
@pytest.mark.parametrize("back", ["back", "card"])
def test_every_text_and_line_has_enough_contrast(scheme: str, back: str) -> None:
    """Level AA of WCAG 2: 4.5 to 1 for text, 3 to 1 for lines that carry a meaning."""
    colours = COLOURS[scheme]
    for text in ("fore", "soft", "bad", "good", "run", "read", "write"):
        assert contrast(colours[text], colours[back]) >= 4.5, text

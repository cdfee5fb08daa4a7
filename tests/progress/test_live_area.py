"""The live area on a screen: what goes above it stays, in order, and the area is there once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from tests.support.screens import Screen

from penstock.runtime.live_area import LiveArea

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def _area() -> tuple[LiveArea, Screen]:
    return LiveArea(lambda text: b"~" + text), Screen(60, 12)


def test_a_frame_takes_the_place_of_the_one_before() -> None:
    area, screen = _area()
    screen.feed(b"before\r\n")
    for number in (b"1", b"2", b"3"):
        screen.feed(area.draw([b"stage " + number, b"foot " + number]))
    assert screen.rows == ["before", "stage 3", "foot 3"]
    assert screen.cursor == (0, 3)


def test_a_frame_with_fewer_lines_leaves_nothing_behind() -> None:
    area, screen = _area()
    screen.feed(area.draw([b"one", b"two", b"three"]))
    screen.feed(area.draw([b"foot"]))
    assert screen.rows == ["foot"]


def test_text_goes_above_and_colours_end_with_it() -> None:
    area, screen = _area()
    screen.feed(area.draw([b"foot"]))
    screen.feed(area.above(b"\x1b[31mred\n"))
    assert screen.rows == ["red", "foot"]
    screen.feed(area.draw([b"foot", b"more"]))
    assert screen.rows == ["red", "foot", "more"]
    assert screen.colours == {"red"}


def test_a_line_without_an_end_is_shown_with_the_next_frame_and_printed_when_it_ends() -> None:
    area, screen = _area()
    screen.feed(area.draw([b"foot"]))
    screen.feed(area.above(b"half"))
    screen.feed(area.draw([b"foot"]))
    assert screen.rows == ["~half", "foot"]
    screen.feed(area.above(b" a line\nnext"))
    assert screen.rows == ["half a line", "~next", "foot"]
    screen.feed(area.finish([b"the end"]))
    assert screen.rows == ["half a line", "next", "the end"]


def test_of_a_meter_the_last_state_is_shown() -> None:
    """Programs such as curl draw over their own line for hours."""
    area, screen = _area()
    screen.feed(area.draw([b"foot"]))
    for share in range(100):
        screen.feed(area.above(b"\r%3d %%" % share))
    screen.feed(area.draw([b"foot"]))
    assert screen.rows == ["~ 99 %", "foot"]


def test_a_line_that_does_not_end_is_given_out_in_pieces() -> None:
    area, screen = _area()
    for _ in range(10):
        screen.feed(area.above(b"x" * 1000))
    assert "".join(screen.everything).count("x") >= 8000
    screen.feed(area.finish([]))
    assert "".join(screen.everything) == "x" * 10_000


def test_no_text_moves_the_cursor() -> None:
    area, screen = _area()
    screen.feed(area.draw([b"foot"]))
    screen.feed(area.above(b"\x1b[2J\x1b[Hhome \x07\x1b]0;title\x07\n"))
    assert screen.rows == [r"\x1b[2J\x1b[Hhome \x07\x1b]0;title\x07", "foot"]


def test_a_prompt_below_the_area_stays_in_its_place() -> None:
    """A program that writes to /dev/tty writes in the line of the cursor."""
    area, screen = _area()
    screen.feed(area.draw([b"foot 1"]))
    screen.feed(b"Password: ")
    screen.feed(area.draw([b"foot 2"]))
    assert screen.rows == ["foot 2", "Password:"]
    assert screen.cursor == (10, 1)


def test_a_suspended_area_stays_and_a_new_one_begins_below() -> None:
    area, screen = _area()
    screen.feed(area.draw([b"foot 1"]))
    screen.feed(area.suspend() + area.suspend())
    screen.feed(b"Password: \r\n")
    screen.feed(area.above(b"\x1b[1mraw\x1b[0m\n"))
    screen.feed(area.draw([b"foot 2"]))
    assert screen.rows == ["foot 1", "Password:", "raw", "foot 2"]


def test_after_a_stop_the_old_frame_stays_if_text_or_a_frame_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shell has written below it meanwhile (Ctrl-Z, `fg`)."""
    now = 0.0
    monkeypatch.setattr("penstock.runtime.live_area.time", SimpleNamespace(monotonic=lambda: now))
    area, screen = _area()
    steps: list[Callable[[], bytes]] = [
        lambda: area.above(b"text\n"),
        lambda: area.draw([b"foot"]),
        lambda: area.finish([b"foot"]),
    ]
    for step in steps:
        area.note_time()
        screen.feed(area.draw([b"foot"]))
        now += 0.5
        area.note_time()
        screen.feed(area.draw([b"foot"]))
        now += 0.8
        screen.feed(b"$ fg\r\n")
        screen.feed(step())
    assert screen.rows == ["foot", "$ fg", "text", "foot", "$ fg", "foot", "$ fg", "foot"]


def test_a_line_without_an_end_is_given_out_when_the_area_is_suspended() -> None:
    """It may be the question that a program waits to be answered."""
    area, screen = _area()
    screen.feed(area.draw([b"foot"]))
    screen.feed(area.above(b"Continue? "))
    screen.feed(area.suspend())
    assert screen.rows == ["foot", "Continue?"]
    screen.feed(b"y")
    screen.feed(area.draw([b"foot"]))
    assert screen.rows == ["foot", "Continue? y", "foot"]


@given(st.lists(st.one_of(st.text("ab\n", max_size=8), st.integers(1, 9)), max_size=30))
def test_nothing_that_went_above_is_lost_or_shown_twice(steps: list[str | int]) -> None:
    """Steps are texts above the area and heights of frames; the screen has twelve rows."""
    area, screen = _area()
    text = ""
    for step in steps:
        if isinstance(step, str):
            text += step
            screen.feed(area.above(step.encode()))
        else:
            screen.feed(area.draw([b"line %d" % number for number in range(step)]))
    screen.feed(area.finish([b"the end"]))
    lines = text.removesuffix("\n").split("\n") if text else []
    assert screen.everything == [*lines, "the end"]
    assert screen.cursor_is_shown

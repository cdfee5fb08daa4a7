"""The lines of a frame: what they say, and that they fit the terminal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from penstock.core.snapshot import EdgeSnapshot, Snapshot, StageSnapshot
from penstock.progress.live_lines import LiveLines
from penstock.progress.plain_line import plain_line

if TYPE_CHECKING:
    from typing import Any

CAT = StageSnapshot(
    "cat",
    "writing",
    id="0",
    cpu=0.07,
    rss=3 << 20,
    bytes_in=2**30,
    bytes_out=2**30,
    rate_in=1e8,
    rate_out=1e8,
)
SORT = StageSnapshot("sort -n", "running", id="1", cpu=1.0, rss=3 << 29, bytes_in=10**9, rate_in=1e8)
GZIP = StageSnapshot("gzip", "reading", id="2", cpu=0.0, rss=1 << 20)
EDGE = EdgeSnapshot("cat", "sort -n", "os-pipe", fill=65536, capacity=65536, source_id="0", target_id="1")
STAGES = (CAT, SORT, GZIP)


def _snapshot(stages: tuple[StageSnapshot, ...] = STAGES, **facts: Any) -> Snapshot:
    return Snapshot(12.34, stages, (EDGE,), **facts)


def _lines(snapshot: Snapshot, columns: int = 100, rows: int = 24) -> list[str]:
    return _shown(LiveLines().frame(snapshot, columns, rows))


def _shown(lines: list[bytes]) -> list[str]:
    return [re.sub(r"\x1b\[[0-9;]*m", "", line.decode()) for line in lines]


@pytest.fixture(autouse=True)
def _utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stderr", None)  # then it is UTF-8


def test_a_line_a_stage_with_all_that_is_known() -> None:
    snapshot = _snapshot(fraction=0.456, eta=15.0, bottleneck="sort -n", bottleneck_index=1)
    assert _lines(snapshot) == [
        "  stage    state        bytes        rate    cpu  input       rss",
        "  cat      writing    1.0 GiB  95.4 MiB/s     7%          3.0 MiB",
        "▶ sort -n  running    954 MiB  95.4 MiB/s   100%   100%   1.5 GiB",
        "  gzip     reading                            0%          1.0 MiB",
        "12.3s  45%  15.0s left  slowest: sort -n",
    ]


def test_figures_that_are_unknown_take_no_room() -> None:
    assert _lines(_snapshot((StageSnapshot("a", "running"), StageSnapshot("b", "starting")))) == [
        "  stage  state",
        "  a      running",
        "  b      starting",
        "12.3s",
    ]


def test_a_figure_that_was_known_keeps_its_room() -> None:
    """Else the columns would jump whenever a stage ends."""
    lines = LiveLines()
    lines.frame(_snapshot(), 100, 24)
    (head, *_) = _shown(lines.frame(_snapshot((StageSnapshot("a", "running"),)), 100, 24))
    assert head == "  stage  state        bytes        rate    cpu  input       rss"


@pytest.mark.parametrize("columns", range(20, 101))
def test_no_line_is_as_wide_as_the_terminal(columns: int) -> None:
    stages = (*STAGES, StageSnapshot("数" * 40, "running", id="3", cpu=64.0, rate_out=1e9, bytes_out=10**15))
    snapshot = _snapshot(stages, fraction=0.5, eta=1e6, bottleneck="x" * 200, bottleneck_index=3)
    lines = _lines(snapshot, columns)
    assert len(lines) == len(stages) + 2
    assert all(cell_len(line) < columns for line in lines)
    assert all(line[2:4] == stage.name[:2] for line, stage in zip(lines[1:-1], stages, strict=True))


def test_on_the_narrowest_terminal_the_names_and_the_rates_stay() -> None:
    assert _lines(_snapshot(), 20) == [
        "  stage        rate",
        "  cat    95.4 MiB/s",
        "  sort…  95.4 MiB/s",
        "  gzip",
        "12.3s",
    ]


@pytest.mark.parametrize("rows", range(1, 30))
def test_the_lines_leave_room_for_the_cursor_and_an_open_line(rows: int) -> None:
    stages = tuple(StageSnapshot(f"stage{n}", "running") for n in range(10))
    lines = _lines(_snapshot(stages, bottleneck="stage7", bottleneck_index=7), rows=rows)
    assert 1 <= len(lines) <= max(1, rows - 2)
    if rows >= 4:
        assert any(line.startswith("▶ stage7") for line in lines)


def test_the_least_interesting_rows_are_left_out() -> None:
    ended = tuple(StageSnapshot(f"ended{n}", "ended") for n in range(5))
    stages = (
        *ended,
        StageSnapshot("a", "running"),
        StageSnapshot("b", "stopped"),
        StageSnapshot("c", "reading"),
    )
    assert _lines(_snapshot(stages, bottleneck="c", bottleneck_index=7), rows=6) == [
        "  a      running",
        "  b      stopped",
        "▶ c      reading",
        "... 5 more  12.3s  slowest: c",
    ]


def test_the_last_frame_says_how_much_there_was() -> None:
    stages = tuple(stage.__replace__(state="ended") for stage in STAGES)  # type: ignore[attr-defined]
    assert _lines(_snapshot(stages, done=True, bottleneck="cat", bottleneck_index=0)) == [
        "  stage    state        bytes",
        "  cat      ended      1.0 GiB",
        "  sort -n  ended      954 MiB",
        "  gzip     ended",
        "ended after 12.3s",
    ]


def test_names_cannot_move_the_cursor_and_are_plain_text() -> None:
    stage = StageSnapshot("\x1b[2J[red]a\nb[/red]:smile:\x9b", "running", branch="left")
    (_, row, _) = _lines(_snapshot((stage,)))
    assert row == r"  left: \x1b[2J[red]a\nb[/red]:smile:\x9b  running"


def test_without_colours_if_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = _snapshot(bottleneck="sort -n", bottleneck_index=1)
    assert any(b"33m" in line for line in LiveLines().frame(snapshot, 80, 24))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any(re.search(rb"\x1b\[[0-9;]*3[0-9]", line) for line in LiveLines().frame(snapshot, 80, 24))


def test_a_terminal_without_unicode_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr("sys.stderr", Ascii)
    lines = LiveLines().frame(_snapshot(bottleneck="sort -n", bottleneck_index=1), 20, 24)
    assert "> sort~  95.4 MiB/s" in _shown(lines)


def test_an_open_line_shows_its_end() -> None:
    lines = LiveLines()
    lines.frame(_snapshot(), 20, 24)
    assert _shown([lines.open_line(b"\r50 %")]) == ["50 %"]
    assert _shown([lines.open_line(b"a question that is long: \xff\x1b")]) == [r"…hat is long: �\x1b"]


def test_the_plain_line_says_the_same_in_one_line() -> None:
    snapshot = _snapshot(fraction=0.456, eta=75.0, bottleneck="sort -n")
    assert plain_line(snapshot) == (
        "12.3s cat 1.0 GiB 95.4 MiB/s 7% cpu | sort -n 954 MiB 95.4 MiB/s 100% cpu | gzip 0% cpu "
        "(45%, 1m15s left, slowest: sort -n)"
    )
    stages = (CAT.__replace__(state="ended"), StageSnapshot("a\x1b\nb", "stopped", cpu=0.0))  # type: ignore[attr-defined]
    assert plain_line(_snapshot(stages)) == r"12.3s cat 1.0 GiB ended | a\x1b\nb 0% cpu stopped"

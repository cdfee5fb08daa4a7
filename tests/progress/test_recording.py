"""The picture in the docs shows the live view as it is now, whatever its figures were."""

from __future__ import annotations

import re

from tests.progress.recording import FILE, LINE, STAGES, lines_of

from penstock import Snapshot, StageSnapshot
from penstock.core.snapshot import EdgeSnapshot
from penstock.progress.live_lines import LiveLines


def _columns(line: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", line).split()


def test_the_picture_is_current() -> None:
    stages = tuple(
        StageSnapshot(name, "running", cpu=0.5, rss=1, bytes_out=1, rate_out=1.0, id=name) for name in STAGES
    )
    edge = EdgeSnapshot("a", STAGES[-1], "os-pipe", full=0.5, target_id=STAGES[-1])
    head, *_, foot = LiveLines().frame(
        Snapshot(2.0, stages, (edge,), 0.5, 1.0, STAGES[-1], len(STAGES) - 1), 84, 12
    )
    lines = lines_of(FILE.read_text(encoding="utf-8"))
    begins = [place for place, line in enumerate(lines) if line == f"$ penstock run --progress '{LINE}'"]
    assert len(begins) == 2
    feet: list[list[str]] = []
    for begin, end in zip(begins, [begins[1], len(lines)], strict=True):
        shown_head, *rows, shown_foot = lines[begin + 2 : end]  # after what bzip2 says
        assert _columns(shown_head) == _columns(head.decode())
        assert [row[2:].split()[0] for row in rows] == [*STAGES]
        feet.append([re.sub("[0-9.]+", "0", part) for part in shown_foot.split()])
    expected = [re.sub("[0-9.]+", "0", part) for part in _columns(foot.decode())]
    assert feet == [expected, ["ended", "after", "0s"]]

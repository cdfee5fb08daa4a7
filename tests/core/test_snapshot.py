"""Snapshots can be read, printed and sent."""

from __future__ import annotations

import json
import pickle

from penstock.core.snapshot import EdgeSnapshot, Snapshot, StageSnapshot

SNAPSHOT = Snapshot(
    2.5,
    (
        StageSnapshot("cat", "writing", 0.25, 3 << 20, 1_500_000, 1_400_000, 600_000.0, 560_000.0),
        StageSnapshot("<b>", "running", kind="function"),
    ),
    (EdgeSnapshot("cat", "<b>", "os-pipe", fill=4096, capacity=65536),),
    0.5,
    12.4,
    "<b>",
    1,
)


def test_a_snapshot_prints_as_a_small_table() -> None:
    """One line that says how far it is, and one for each stage."""
    head, names, *rows = str(SNAPSHOT).splitlines()
    assert head == "going on (2.5 s); 50% of the input read, 12 s left; slowest: <b>"
    assert names.split() == ["stage", "state", "cpu", "rss", "in", "in/s", "out", "out/s"]
    assert rows[0].split() == [
        "cat",
        "writing",
        "25%",
        "3.0M",
        "1.5",
        "MB",
        "600.0",
        "kB",
        "1.4",
        "MB",
        "560.0",
        "kB",
    ]
    assert rows[1].split() == ["<b>", "running", *"------"]


def test_the_head_leaves_out_figures_that_are_not_known() -> None:
    """Only the time is always known."""
    assert str(Snapshot(1.0, (), (), done=True)).splitlines()[0] == "ended (1.0 s)"
    slow = Snapshot(1.0, (), (), bottleneck="cat", bottleneck_end="stdin")
    assert "slowest: cat, which waits for stdin" in str(slow)


def test_jupyter_shows_the_same_as_html() -> None:
    """Names are escaped."""
    shown = SNAPSHOT._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "slowest" in shown


def test_a_snapshot_can_be_sent_elsewhere() -> None:
    """It is a plain value."""
    assert pickle.loads(pickle.dumps(SNAPSHOT)) == SNAPSHOT
    found = json.loads(json.dumps(SNAPSHOT.to_dict()))
    assert found["stages"][0]["rate_in"] == 600_000.0
    assert found["edges"][0]["capacity"] == 65536
    assert found["bottleneck_index"] == 1

"""Graphs whose branches meet again: those that would deadlock without a spool, and slow ones that need none.

Each ends in time, is right, and keeps no more than it must.
"""

from __future__ import annotations

import hashlib
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    CAPTURE,
    Pipeline,
    Result,
    command,
    concat,
    function,
    map_lines,
    merge,
    reading,
    shared,
    tee,
    transform,
    writing,
)
from penstock.system import features

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock import Event

pytestmark = pytest.mark.slow

COUNT = 700_000
LINES = [b"%07d\n" % number for number in range(COUNT)]
DATA = b"".join(LINES)
"""More than all pipes and windows of a branch hold: 5.6 MB."""
RARE = b"0699999"
"""The last line."""
ENDS_S = 30.0
"""Seconds within which a graph ends that does not hang."""
CAT = command("cat")
VIA = pytest.mark.parametrize("via", ["fd", "fifo"])


def stream() -> Pipeline:
    """Return a new source of the data, for several readers."""
    return shared(Pipeline(CAT, input=DATA))


def run(pipeline: Pipeline, **options: Any) -> Result:
    """Run it, and capture its stdout."""
    return pipeline.run(stdout=CAPTURE, timeout=ENDS_S, env={"LC_ALL": "C"}, **options)


def spooled(result: Result) -> int:
    """Return the most bytes that an edge kept at one time."""
    most = max(edge.spooled for edge in result.edges)
    sys.stdout.write(f"{most / 1e6:.1f} MB were spooled in {result.elapsed:.2f} s\n")
    return most


def slowly(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass on what comes, with pauses."""
    for chunk in chunks:
        time.sleep(0.002)
        yield chunk


def upload(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Read with pauses, and write the number of bytes at the end."""
    size = 0
    for chunk in stdin.chunks():
        time.sleep(0.002)
        size += len(chunk)
    stdout.write(b"%d\n" % size)


@VIA
def test_a_rare_line_compared_with_all(via: Any) -> None:
    """Comm waits for the first line of grep, which comes last."""
    lines = stream()
    rare = reading(lines | command("grep", RARE), via=via)
    result = run(command("comm", "-12", rare, reading(lines | CAT, via=via)))
    assert result.stdout == RARE + b"\n"
    assert 0 < spooled(result) <= len(DATA)


@VIA
def test_one_stream_twice_in_a_row(via: Any) -> None:
    """The second copy waits until the first has ended."""
    lines = stream()
    for pipeline in (concat(lines, lines), command("cat", reading(lines, via=via), reading(lines, via=via))):
        result = run(Pipeline(pipeline))
        assert result.stdout == DATA * 2
        assert 0 < spooled(result) <= len(DATA)


@VIA
def test_two_sources_crossed_into_two_joins(via: Any) -> None:
    """One join holds up what the other one waits for."""
    one, two = stream(), shared(Pipeline(CAT, input=DATA[: len(DATA) // 2]))
    joins = [
        command("comm", "-12", *(reading(each, via=via) for each in pair))
        for pair in ((one, two), (two, one))
    ]
    result = run(command("cat", *(reading(join, via=via) for join in joins)))
    assert result.stdout == DATA[: len(DATA) // 2] * 2
    assert spooled(result) <= len(DATA)


@VIA
def test_a_slow_filter_is_waited_for(via: Any) -> None:
    """It is no reason to keep anything."""
    lines = stream()
    result = run(
        command("comm", "-12", reading(lines | transform(slowly), via=via), reading(lines | CAT, via=via))
    )
    assert result.stdout == DATA
    assert spooled(result) == 0


@VIA
def test_sorted_lines_beside_the_lines_themselves(via: Any) -> None:
    """Sort writes nothing before it has read everything."""
    lines = stream()
    result = run(
        command("paste", reading(lines | command("sort", "-r"), via=via), reading(lines | CAT, via=via))
    )
    assert result.stdout == b"".join(
        last[:-1] + b"\t" + first for last, first in zip(reversed(LINES), LINES, strict=True)
    )
    assert 0 < spooled(result) <= len(DATA)


@VIA
def test_the_first_line_beside_all(via: Any) -> None:
    """The reader that leaves early leaves nothing to wait for."""
    lines = stream()
    result = run(
        command("paste", reading(lines | command("head", "-1"), via=via), reading(lines | CAT, via=via))
    )
    assert result.stdout == LINES[0][:-1] + b"\t" + LINES[0] + b"".join(b"\t" + line for line in LINES[1:])
    assert spooled(result) == 0


def test_a_checksum_and_a_slow_upload_of_one_stream() -> None:
    """The upload writes when it has ended, so the concat of both holds nothing up."""
    lines = stream()
    result = run(concat(lines | command("sha256sum"), lines | function(upload)))
    digest = hashlib.sha256(DATA).hexdigest()
    assert result.stdout == f"{digest}  -\n{len(DATA)}\n".encode()
    assert spooled(result) == 0


def test_ten_branches() -> None:
    """They do not meet, so the slowest sets the pace."""
    branches = [Pipeline(command("sha256sum"), name=f"branch-{number}") for number in range(9)]
    slow = Pipeline(function(upload), name="slow")
    result = run(Pipeline(CAT, tee(*branches, slow), command("wc", "-c"), input=DATA))
    assert int(result.stdout or b"") == int(result.output("slow")) == len(DATA)
    digests = {result.output(f"branch-{number}") for number in range(9)}
    assert digests == {f"{hashlib.sha256(DATA).hexdigest()}  -\n".encode()}
    assert spooled(result) == 0


def test_a_slow_reader_below_a_merge_is_waited_for() -> None:
    """A merge waits for none of its inputs, though one is full and the other one empty."""
    lines = stream()
    result = run(merge(lines | command("grep", RARE), lines | CAT) | function(upload))
    assert int(result.stdout or b"") == len(DATA) + len(LINES[0])
    assert spooled(result) == 0


@VIA
def test_a_program_whose_branches_meet_its_own_input(via: Any) -> None:
    """Each of the joins waits for a sorted copy, and the program waits for the joins."""
    lines = stream()
    reverse = command("sort", "-r")
    branches = [Pipeline(command("paste", "-", reading(lines | reverse)), CAT, name=name) for name in "ab"]
    program = command("tee", *(writing(branch, via=via) for branch in branches))
    result = run(lines | program | command("paste", "-", reading(lines | reverse, via=via)))
    digests = {
        hashlib.sha256(data or b"").digest()
        for data in (result.stdout, *(data for _, data in result.outputs))
    }
    assert (len(result.outputs), len(digests)) == (2, 1)
    assert (result.stdout or b"").endswith(b"\t" + LINES[0])
    assert 0 < spooled(result) <= len(DATA)


def test_a_spool_is_told_once_for_each_reader() -> None:
    """An event names the stage that does not read yet."""
    lines = stream()
    events: list[Event] = []
    run(concat(lines, lines), on_event=events.append)
    found = [(event.stage, event.context["to"]) for event in events if event.kind == "spooling"]
    assert found == [("shared cat", "concat")]


def test_diamonds_in_a_row() -> None:
    """Each spools for itself."""
    lines = stream()
    for _ in range(3):
        parts = reading(lines | command("sort", "-r")), reading(lines | CAT)
        lines = shared(command("paste", "-d", "", *parts) | map_lines(lambda line: line[-7:]))
    result = run(lines)
    assert result.stdout == DATA
    assert spooled(result) <= len(DATA) * 2


@VIA
def test_without_a_look_at_pipes_no_graph_hangs(via: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More is kept then, also for readers that are only slow."""
    monkeypatch.setattr(features, "PROCFS", False)
    lines = stream()
    rare = reading(lines | command("grep", RARE), via=via)
    assert run(command("comm", "-12", rare, reading(lines | CAT, via=via))).stdout == RARE + b"\n"
    result = run(command("cat", reading(lines, via=via), reading(lines, via=via)) | CAT)
    assert result.stdout == DATA * 2
    assert spooled(result) <= len(DATA)

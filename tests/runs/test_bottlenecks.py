"""`snapshot().bottleneck` names the stage that is known to be slow, in nearly every look."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.isolation import stage_functions
from tests.support.waiting import until

from penstock import (
    DEVNULL,
    PIPE,
    EdgeSnapshot,
    Pipeline,
    PipelineError,
    Run,
    Snapshot,
    command,
    function,
    map_lines,
    merge,
    source,
    tee,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.fixtures import SetTiming

SPAN = 0.5
LOOKS = 100
RIGHT = 95
LINE = b"x" * 999 + b"\n"
PAUSE = 0.01
"""Seconds that a slow stage takes for a page.

The others take microseconds, but they get little time if the machine is busy.
"""

SLOW_COPY = f"""
import os, time
while data := os.read(0, 4096):
    time.sleep({PAUSE})
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest):]
"""
SLOW_START = f"""
import os, time
while True:
    time.sleep({PAUSE})
    os.write(1, {LINE!r})
"""


class Lines:
    """An endless iterable of lines, with a pause before each."""

    def __init__(self, pause: float = 0.0) -> None:
        self._pause = pause

    def __iter__(self) -> Iterator[bytes]:
        while True:
            if self._pause:
                time.sleep(self._pause)
            yield LINE


def copying(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass all chunks on."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


def copying_slowly(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass all chunks on, with pauses."""
    while chunk := stdin.read1(4096):
        time.sleep(PAUSE)
        stdout.write(chunk)


def same(line: bytes) -> bytes:
    """Change nothing."""
    return line


def same_slowly(line: bytes) -> bytes:
    """Change nothing, with pauses."""
    time.sleep(PAUSE / 10)
    return line


class SlowSink:
    """An object that takes its time for each chunk, which may be a large one."""

    def write(self, data: bytes) -> int:
        """Take all of it."""
        time.sleep(10 * PAUSE)
        return len(data)


class Kind:
    """A sort of stages, fast and slow ones."""

    def __init__(
        self, first: Pipeline, slow_first: Pipeline, fast: Callable[[str], Pipeline], slow: Pipeline
    ) -> None:
        self.first = first
        self.slow_first = slow_first
        self.fast = fast
        self.slow = slow


def _isolated(fn: Callable[..., None], name: str) -> Pipeline:
    return function(fn, name=name, isolate="process")


KINDS = {
    "commands": Kind(
        command("yes", name="first"),
        command(sys.executable, "-c", SLOW_START, name="slow"),
        lambda name: command("cat", name=name),
        command(sys.executable, "-c", SLOW_COPY, name="slow"),
    ),
    "functions": Kind(
        source(Lines(), name="first"),
        source(Lines(PAUSE), name="slow"),
        lambda name: function(copying, name=name),
        function(copying_slowly, name="slow"),
    ),
    "lines": Kind(
        source(Lines(), name="first"),
        source(Lines(PAUSE), name="slow"),
        lambda name: map_lines(same, name=name),
        map_lines(same_slowly, name="slow"),
    ),
    "isolated": Kind(
        _isolated(stage_functions.write_for_ever, "first"),
        _isolated(stage_functions.write_slowly, "slow"),
        lambda name: _isolated(stage_functions.copy, name),
        _isolated(stage_functions.copy_slowly, "slow"),
    ),
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@pytest.fixture(autouse=True)
def _short_span(set_timing: SetTiming) -> None:
    """Judge by half a second, so that a start is soon forgotten."""
    set_timing(look_span_s=SPAN)


def look(
    pipeline: Pipeline, settled: Callable[[Run], Callable[[], bool]] | None = None, **options: Any
) -> Counter[tuple[str | None, str | None]]:
    """Return how often each stage was named, and which end with it, once the whole line is at work."""
    run = pipeline.start(**options)
    try:
        until((settled or _Settled)(run))
        found: Counter[tuple[str | None, str | None]] = Counter()
        for _ in range(LOOKS):
            snapshot = run.snapshot()
            found[snapshot.bottleneck, snapshot.bottleneck_end] += 1
            if snapshot.bottleneck is not None:
                assert snapshot.bottleneck_index is not None
                assert snapshot.stages[snapshot.bottleneck_index].name == snapshot.bottleneck
        return found
    finally:
        end(run)


def end(run: Run) -> None:
    """Cancel a run, and wait for it."""
    run.cancel()
    for file in (run.stdin, run.stdout):
        if file is not None:
            file.close()
    with contextlib.suppress(PipelineError):  # a reader that leaves is not a failure
        run.wait()


class _Settled:
    """Whether each edge between two stages was mostly full, or mostly empty, all through the span."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._since = 0.0
        self._before: list[bool] = []

    def __call__(self) -> bool:
        snapshot = self._run.snapshot()
        edges = _inner_edges(snapshot)
        now = [edge.full > edge.empty for edge in edges]
        if now != self._before or any(edge.full == edge.empty for edge in edges):
            self._before, self._since = now, snapshot.elapsed
        return snapshot.elapsed - self._since > 2 * SPAN


def _inner_edges(snapshot: Snapshot) -> list[EdgeSnapshot]:
    """Return those between two stages."""
    return [edge for edge in snapshot.edges if edge.source_id.isdecimal() and edge.target_id.isdecimal()]


@kinds
def test_a_slow_first_stage_is_named(kind: Kind) -> None:
    """All others wait for bytes."""
    found = look(kind.slow_first | kind.fast("second") | kind.fast("third"), stdout=DEVNULL)
    assert found["slow", None] >= RIGHT, found


@kinds
def test_a_slow_middle_stage_is_named(kind: Kind) -> None:
    """The one before it waits for room, the one after it for bytes."""
    found = look(kind.first | kind.slow | kind.fast("third"), stdout=DEVNULL)
    assert found["slow", None] >= RIGHT, found


@kinds
def test_a_slow_last_stage_is_named(kind: Kind) -> None:
    """All others wait for room."""
    found = look(kind.first | kind.fast("second") | kind.slow, stdout=DEVNULL)
    assert found["slow", None] >= RIGHT, found


@kinds
def test_a_slow_source_is_named_with_the_first_stage(kind: Kind) -> None:
    """The first stage waits for stdin."""
    found = look(kind.fast("first") | kind.fast("second"), stdin=Lines(PAUSE), stdout=DEVNULL)
    assert found["first", "stdin"] >= RIGHT, found


@kinds
def test_a_slow_sink_is_named_with_the_last_stage(kind: Kind) -> None:
    """The last stage waits for whoever takes its output."""
    found = look(kind.first | kind.fast("second") | kind.fast("third"), stdout=SlowSink())
    assert found["third", "stdout"] >= RIGHT, found


@kinds
def test_a_caller_who_does_not_read_is_named_as_a_slow_sink(kind: Kind) -> None:
    """The pipe of `run.stdout` is full."""
    found = look(kind.first | kind.fast("second"), stdout=PIPE)
    assert found["second", "stdout"] >= RIGHT, found


@pytest.mark.parametrize("fast", ["commands", "functions"])
@pytest.mark.parametrize("slow", ["commands", "functions", "isolated"])
def test_a_slow_stage_among_stages_of_another_kind_is_named(fast: str, slow: str) -> None:
    """Each kind of edge tells who waits."""
    one, other = KINDS[fast], KINDS[slow]
    found = look(one.first | one.fast("second") | other.slow | one.fast("last"), stdout=DEVNULL)
    assert found["slow", None] >= RIGHT, found


def test_of_two_equally_slow_stages_either_is_named() -> None:
    """And no other one."""
    slow = KINDS["commands"].slow
    line = command("yes") | slow | command("cat") | slow | command("cat", name="last")
    # The edge between them may be full at times.
    found = look(line, lambda run: lambda: run.snapshot().elapsed > 4 * SPAN, stdout=DEVNULL)
    assert found["slow", None] >= RIGHT, found


def test_a_busy_stage_is_named_as_one_that_sleeps_is() -> None:
    """It uses a processor."""
    burning = command("sh", "-c", "while read -r line; do echo $line; done", name="slow")
    found = look(command("yes") | command("cat") | burning | command("cat", name="last"), stdout=DEVNULL)
    assert found["slow", None] >= RIGHT, found


def test_a_program_within_a_shell_counts_for_the_shell() -> None:
    """The pipe within the stage is not an edge of the pipeline."""
    inner = command("sh", "-c", f"cat | '{sys.executable}' -c '{SLOW_COPY}' | cat", name="slow")
    found = look(command("yes") | inner | command("cat"), stdout=DEVNULL)
    assert found["slow", None] >= RIGHT, found


def test_the_slow_branch_of_a_tee_is_named() -> None:
    """The tee and all before it wait for that one."""
    slow = KINDS["commands"].slow
    found = look(command("yes") | tee(slow.to(DEVNULL)) | command("cat"), stdout=DEVNULL)
    assert found["slow", None] >= RIGHT, found


def test_the_slow_source_of_a_merge_is_named_if_all_wait_for_it() -> None:
    """Of several sources."""
    quiet = command(sys.executable, "-c", SLOW_START, name="slow")
    found = look(merge(quiet, quiet) | command("cat"), stdout=DEVNULL)
    assert found["slow", None] >= RIGHT, found


def test_a_slow_stage_of_a_nested_pipeline_is_named() -> None:
    """Its stages are stages of the run."""
    nested = Pipeline(command("cat"), KINDS["commands"].slow, name="inner", timeout=60)
    found = look(command("yes") | nested | command("cat", name="last"), stdout=DEVNULL)
    assert found["slow", None] >= RIGHT, found

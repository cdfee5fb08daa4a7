"""Deadlines while the output of a run is iterated over: nothing that is on its way is delivered any more."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import until

from penstock import PipelineError, PipelineTimeout, StageContext, command, function, map_lines, transform

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable, Iterator

    from penstock import Pipeline

_SLOW_MACHINE_S = 0.5
"""Seconds after the deadline in which something may still come."""


def endless_lines(_lines: object) -> Iterator[bytes]:
    """Yield short lines, half a million at a time."""
    block = b"y\n" * (1 << 19)
    while True:
        yield block


FAST: dict[str, Pipeline] = {
    "a command": command("yes"),
    "a command that ignores SIGTERM": command("sh", "-c", "trap '' TERM; while :; do yes | head -1000; done"),
    "a function": transform(endless_lines),
    "a command behind a function": transform(endless_lines) | command("cat"),
    "a worker process": map_lines(bytes.upper, isolate="process").replace(stdin=[b"y\n" * (1 << 20)] * 99),
}


class Watch:
    """Counts what comes, and what of it comes after the deadline."""

    def __init__(self) -> None:
        self.seen = 0
        self.late = 0
        self._late_at = time.monotonic() + 0.2 + _SLOW_MACHINE_S

    def count(self) -> None:
        """Count one."""
        self.seen += 1
        self.late += time.monotonic() > self._late_at

    def take(self, iterator: Iterable[Any]) -> None:
        """Count all."""
        for _ in iterator:
            self.count()

    async def atake(self, iterator: AsyncIterable[Any]) -> None:
        """Count all."""
        async for _ in iterator:
            self.count()


@pytest.mark.parametrize("made", FAST)
@pytest.mark.parametrize("method", ["iter_lines", "iter_bytes"])
def test_a_deadline_is_raised_at_the_next_line(made: str, method: str) -> None:
    """Millions of lines may be on their way by then."""
    watch = Watch()
    with pytest.raises(PipelineTimeout):
        watch.take(getattr(FAST[made], method)(timeout=0.2, grace=1))
    assert watch.seen or made == "a worker process"  # which may take so long to start
    assert not watch.late


def print_and_go_on(ctx: StageContext, _stdin: object, stdout: Any) -> None:
    """Write three lines, and end only when the stage is cancelled."""
    stdout.write(b"a\nb\nc\n")
    until(lambda: ctx.cancelled)
    ctx.check()


def test_lines_in_hand_are_dropped_at_the_deadline() -> None:
    """Those of the chunk that the caller is in the middle of."""
    lines = function(print_and_go_on).iter_lines(timeout=0.1)
    assert next(lines) == b"a"
    dropped_at = time.monotonic() + 0.1 + _SLOW_MACHINE_S
    until(lambda: time.monotonic() > dropped_at)
    with pytest.raises(PipelineTimeout):
        next(lines)
    assert list(lines) == []


def test_a_run_that_has_ended_before_its_deadline_delivers_everything() -> None:
    """However slowly the caller takes it."""
    lines = command("seq", "1000").iter_lines(timeout=0.3)
    first = next(lines)
    passed = time.monotonic() + 0.4
    until(lambda: time.monotonic() > passed)
    assert [first, *lines][-1] == b"1000"


def test_a_failure_still_comes_after_the_last_line() -> None:
    """Only a cancellation of the whole run drops lines."""
    watch = Watch()
    with pytest.raises(PipelineError):
        watch.take(command("sh", "-c", "seq 1000; exit 3").iter_lines())
    assert watch.seen == 1000


@pytest.mark.parametrize("method", ["aiter_lines", "aiter_bytes"])
@pytest.mark.parametrize("made", ["a command", "a command that ignores SIGTERM", "a function"])
def test_in_an_event_loop_a_deadline_is_raised_at_the_next_line(made: str, method: str) -> None:
    """As elsewhere."""
    watch = Watch()
    with pytest.raises(PipelineTimeout):
        asyncio.run(watch.atake(getattr(FAST[made], method)(timeout=0.2, grace=1)))
    assert watch.seen
    assert not watch.late

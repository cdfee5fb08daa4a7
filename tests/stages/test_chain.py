"""Neighbouring transforms and line stages run as one chain, and stay stages of their own all the same."""

from __future__ import annotations

import itertools
import threading
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    CAPTURE,
    FinishEarly,
    Pipeline,
    command,
    filter_lines,
    is_closed_pipe,
    map_line_batches,
    map_lines,
    source,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMES = ("first", "second", "third", "fourth")
ENDLESS = source(itertools.repeat(b"x\n"), name="endless")


def chain_of(make: Callable[[str], Callable[[Iterator[bytes]], Iterator[bytes]]]) -> Pipeline:
    """Four transforms, each of what `make` returns for its name."""
    return reduce(or_, [transform(make(name), name=name) for name in NAMES])


def test_all_of_it_runs_in_one_thread() -> None:
    """Whatever the kinds of stages, with a command on either side."""
    seen: list[int] = []

    def look(thing: Any) -> Any:
        seen.append(threading.get_ident())
        return thing

    stages = [transform(look), map_lines(look), filter_lines(look), map_line_batches(look), transform(look)]
    pipeline = reduce(or_, [command("seq", "1000"), *stages, command("cat")])
    assert [edge.kind for edge in pipeline.explain().edges][1:-1] == ["os-pipe", *["fused"] * 4, "os-pipe"]
    assert pipeline.output() == b"".join(b"%d\n" % number for number in range(1, 1001))
    assert len(seen) > 2000
    assert len(set(seen)) == 1
    assert seen[0] != threading.get_ident()


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("error", [ValueError("mine"), FinishEarly()], ids=["an error", "an early end"])
def test_an_exception_of_a_stage_is_its_own_outcome(error: Exception, place: int) -> None:
    """Those before it have a closed pipe, those after it an end of their input."""

    def make(name: str) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
        def work(chunks: Iterator[bytes]) -> Iterator[bytes]:
            yield next(chunks)
            if name == NAMES[place]:
                raise error
            yield from chunks

        return work

    result = (ENDLESS | chain_of(make)).run(stdout=CAPTURE, check=False, timeout=60)
    before, its, after = result.stages[: place + 1], result.stages[place + 1], result.stages[place + 2 :]
    assert result.stdout == b"x\n"
    assert its.name == NAMES[place]
    assert all(stage.error is not None and is_closed_pipe(stage.error) for stage in before)
    assert all(stage.error is None for stage in after)
    if isinstance(error, FinishEarly):
        assert its.error is None
        assert result.ok
    else:
        assert its.error is error
        assert result.error is not None
        assert result.error.stage == NAMES[place]


@pytest.mark.parametrize("early", [False, True], ids=["at the end", "early"])
def test_generators_are_closed_in_order(early: bool) -> None:  # noqa: FBT001 - a parameter of the test's
    """As their inputs end, first to last; where the reader leaves, last to first.

    Not by `yield from`, which hands a close on to where it reads from ahead of its own `finally`.
    """
    closed: list[str] = []

    def make(name: str) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
        def work(chunks: Iterator[bytes]) -> Iterator[bytes]:
            try:
                for chunk in chunks:  # noqa: UP028 - as said above
                    yield chunk
            finally:
                closed.append(name)

        return work

    if early:
        (ENDLESS | chain_of(make) | command("head", "-n", "1")).output(timeout=60)
        assert closed == list(reversed(NAMES))
    else:
        assert chain_of(make).output(input=b"x\n") == b"x\n"
        assert closed == list(NAMES)

"""A fused stage that never asks for its input ends those before it, which have not begun and never will."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from penstock import CAPTURE, command, map_lines, source, transform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UPPER = map_lines(bytes.upper)


def deaf(_chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read nothing."""
    yield b"said"


def failing(_chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Fail before anything was read."""
    raise ValueError("at once")
    yield b""


SAYS: dict[str, Callable[[Any], Any]] = {"a generator": deaf, "a list": lambda _chunks: [b"said"]}
FAILS: dict[str, Callable[[Any], Any]] = {
    "a generator": failing,
    "at the call": lambda _chunks: 1 / 0,
    "no iterable": lambda _chunks: None,
}


@pytest.mark.parametrize("before", [UPPER, UPPER | UPPER, transform(deaf), source(itertools.repeat(b"x"))])
@pytest.mark.parametrize("says", SAYS.values(), ids=SAYS)
def test_a_stage_that_reads_nothing(before: Any, says: Callable[[Any], Any]) -> None:
    """The run ends, those before it with a closed pipe, which is forgiven."""
    result = (before | transform(says)).run(stdout=CAPTURE, timeout=20)
    assert result.stdout == b"said"
    assert all(isinstance(stage.error, BrokenPipeError) for stage in result.stages[:-1])


@pytest.mark.parametrize("fails", FAILS.values(), ids=FAILS)
def test_a_stage_that_fails_before_it_reads(fails: Callable[[Any], Any]) -> None:
    """It is its error that the run reports, and the run ends."""
    result = (UPPER | transform(fails, name="fails")).run(check=False, timeout=20, input=b"x")
    assert result.error is not None
    assert result.error.stage == "fails"


def test_stages_before_the_chain_end_too() -> None:
    """Its stdin is closed, though no stage of the chain has touched it."""
    result = (command("yes") | UPPER | transform(deaf)).run(stdout=CAPTURE, timeout=20)
    assert result.stdout == b"said"
    assert result.returncodes == (-13, None, None)

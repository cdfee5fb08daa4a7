"""Looks are summed up to shares, judgements and rates over the last 3 seconds."""

from __future__ import annotations

import sys

import pytest

from penstock.core.bottleneck import EMPTY, FULL
from penstock.core.look_history import LookHistory
from penstock.core.progress_estimate import estimate
from penstock.core.timing import timing


def test_an_edge_is_what_it_was_more_often() -> None:
    """Not what the last look happened to see."""
    history = LookHistory(1, 0.0, [])
    for eighth, state in enumerate([FULL, FULL, None, FULL, EMPTY]):
        history.add(eighth / 8, [state], [])
    assert history.judge(0) == FULL
    assert history.shares(0) == pytest.approx((0.6, 0.2))


def test_an_edge_that_was_both_or_neither_is_neither() -> None:
    """Nothing can be said then."""
    history = LookHistory(2, 0.0, [])
    assert history.judge(0) is None
    history.add(0.0, [FULL, None], [])
    history.add(0.1, [EMPTY, None], [])
    assert (history.judge(0), history.judge(1)) == (None, None)


def test_a_burst_of_looks_counts_no_more_than_its_time() -> None:
    """Somebody may ask a thousand times a second, and a little later ten times a second."""
    history = LookHistory(1, 0.0, [])
    for step in range(1000):
        history.add(step / 10500, [EMPTY], [])
    for eighth in range(1, 8):
        history.add(eighth / 8, [FULL], [])
    full, empty = history.shares(0)
    assert full == pytest.approx(7 / 8)
    assert empty == pytest.approx(1 / 8)


def test_looks_longer_ago_than_the_span_do_not_count() -> None:
    """A stage that was slow at first is forgotten."""
    history = LookHistory(1, 0.0, [])
    for tenth in range(30):
        history.add(tenth / 10, [FULL], [])
    assert history.judge(0) == FULL
    for tenth in range(30, 66):
        history.add(tenth / 10, [EMPTY], [])
    assert history.shares(0) == pytest.approx((0.0, 1.0))


def test_the_first_rate_is_that_since_the_start() -> None:
    """There is no other look to compare with."""
    history = LookHistory(0, 10.0, [0])
    assert history.rate(0) is None
    history.add(14.0, [], [400])
    assert history.rate(0) == 100.0


def test_a_rate_is_about_the_span() -> None:
    """Not about the time since the start, nor about the last look alone."""
    history = LookHistory(0, 0.0, [0])
    value = 0
    for tenth in range(1, 100):
        value += 10 if tenth <= 50 else 1
        history.add(tenth / 10, [], [value])
    assert history.rate(0) == pytest.approx(10.0)


def test_a_rate_of_rare_looks_is_that_since_the_look_before() -> None:
    """However long ago that was."""
    history = LookHistory(0, 0.0, [0])
    for minute, value in enumerate([0, 60, 600], start=1):
        history.add(minute * 60.0, [], [value])
    assert history.rate(0) == 9.0


def test_a_counter_that_is_not_known_has_no_rate() -> None:
    """And one that becomes known has one from then on."""
    history = LookHistory(0, 0.0, [None])
    history.add(0.5, [], [None])
    assert history.rate(0) is None
    history.add(1.0, [], [100])
    assert history.rate(0) is None
    history.add(2.0, [], [150])
    assert history.rate(0) == 50.0


def test_a_counter_that_falls_has_rate_0() -> None:
    """A process that left its tree takes its time along."""
    history = LookHistory(0, 0.0, [0])
    history.add(1.0, [], [100])
    history.add(2.0, [], [20])
    history.add(3.9, [], [20])
    history.add(4.1, [], [20])
    assert history.rate(0) == 0.0


def test_looks_in_a_loop_take_no_more_memory() -> None:
    """They are summed up by tenths of a second."""
    history = LookHistory(1, 0.0, [0])
    for step in range(100_000):
        history.add(step / 10_000, [FULL], [step])
    assert len(history._slots) <= 10 * timing.look_span_s + 2
    assert history.rate(0) == pytest.approx(10_000, rel=0.01)
    assert sys.getsizeof(history._slots) < 10_000


@pytest.mark.parametrize(
    ("facts", "answers"),
    [
        ((None, None, None), (None, None)),
        ((10, None, 5.0), (None, None)),
        ((None, 10, 5.0), (None, None)),
        ((0, 100, None), (0.0, None)),
        ((0, 100, 0.0), (0.0, None)),
        ((25, 100, 5.0), (0.25, 15.0)),
        ((100, 100, 5.0), (1.0, 0.0)),
        ((100, 100, None), (1.0, 0.0)),
        ((120, 100, 5.0), (1.0, 0.0)),
        ((0, 0, None), (1.0, 0.0)),
    ],
)
def test_the_part_and_the_time_left_follow_from_position_size_and_pace(
    facts: tuple[int | None, int | None, float | None], answers: tuple[float | None, float | None]
) -> None:
    """Without a pace there is no time."""
    assert estimate(*facts) == answers

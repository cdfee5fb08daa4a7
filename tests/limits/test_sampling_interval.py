"""When to look at memory next: decided without a clock, so tested by simulated programs."""

from __future__ import annotations

import pytest

from penstock.limits.sampling_interval import MAX_CPU_SHARE, MAX_INTERVAL_S, SamplingInterval

MB = 10**6
COST = 10e-6
"""Seconds that one look takes, about what it is."""


def highest_before_seen(limit: int, speed: float, rest: float = 0.0, floor: int = 4 * MB) -> float:
    """Watch a program that rests, then allocates `speed` bytes a second; what it held when it was seen to
    be past the limit.
    """
    pace, now = SamplingInterval(limit, MAX_INTERVAL_S), 0.0
    while True:
        used = floor + max(0.0, now - rest) * speed
        if used > limit:
            return used
        now += pace.after(now, int(used), COST)


@pytest.mark.parametrize("limit", [20 * MB, 50 * MB, 200 * MB, 1000 * MB, 8000 * MB])
@pytest.mark.parametrize("rest", [0.0, 0.013, 1.0, 1.037, 60.001])
@pytest.mark.parametrize("speed", [1e7, 1e8, 1e9, 2e9])
def test_a_program_is_seen_past_its_limit_in_time(limit: int, speed: float, rest: float) -> None:
    """Whether it allocates at once or out of complete rest, there is time left to end it before 1.5 times."""
    assert highest_before_seen(limit, speed, rest) <= 1.3 * limit


def test_growth_that_was_seen_is_expected_to_go_on() -> None:
    """A program that allocates faster than any is expected to, but has begun to, is caught as well."""
    pace = SamplingInterval(1000 * MB, MAX_INTERVAL_S)
    pace.after(0.0, 0)
    assert pace.after(0.01, 100 * MB) <= 1100 * MB / 20e9  # 10 GB/s seen, twice that assumed


def test_a_quiet_program_is_looked_at_seldom() -> None:
    """The pauses grow to the longest that is allowed, with and without a limit."""
    for limit in (None, 2000 * MB):
        pace, now, looks = SamplingInterval(limit, MAX_INTERVAL_S), 0.0, 0
        while now < 10:
            now += pace.after(now, 5 * MB, COST)
            looks += 1
        assert looks < 10 / MAX_INTERVAL_S + 10


def test_an_observed_program_that_moves_is_looked_at_often() -> None:
    """The peak of one that grows and shrinks is found although there is no limit."""
    pace, now, used, looks = SamplingInterval(None, MAX_INTERVAL_S), 0.0, 0, 0
    while now < 1:
        used = 50 * MB if used == 0 else 0
        now += pace.after(now, used, COST)
        looks += 1
    assert looks > 100


@pytest.mark.parametrize("limit", [2 * MB, 20 * MB, 100 * MB])
def test_however_low_the_limits_are_looking_takes_its_share_and_no_more(limit: int) -> None:
    """Fifty quiet programs, each near its limit."""
    pace, now, spent = SamplingInterval(limit, MAX_INTERVAL_S), 0.0, 0.0
    while now < 10:
        now += pace.after(now, limit - 1, 50 * COST)
        spent += 50 * COST
    assert spent / now <= MAX_CPU_SHARE * 1.1


def test_a_chosen_interval_bounds_the_pauses() -> None:
    """From above; a shorter one is kept to, whatever the limit is."""
    pace, now = SamplingInterval(10**12, 0.05), 0.0
    for _ in range(20):
        pause = pace.after(now, 5 * MB, COST)
        assert 0 < pause <= 0.05
        now += pause

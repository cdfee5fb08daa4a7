"""Curves: growth between samples, short intervals, gaps, and the states of a stage."""

from __future__ import annotations

import pytest

from penstock.profiling.charts import area_of, bar, curve_of, nice_top, steps_of
from penstock.profiling.series import levels, phases, rates


@pytest.mark.parametrize(
    ("times", "counts", "end", "expected"),
    [
        ([0, 1, 2], [0, 5, 5], None, [(0, 1, 5), (1, 2, 0)]),
        ([0, 1, 2], [None, 5, 6], None, [(1, 2, 1)]),
        ([0, 1, 2], [0, None, 6], None, [(0, 2, 3)]),
        ([0, 1, 2], [None, None, None], None, []),
        ([0, 1, 2], [9, 5, 6], None, [(0, 1, 0), (1, 2, 1)]),
        ([0, 1, 1.01], [0, 5, 6], None, [(0, 1.01, 6 / 1.01)]),
        ([0, 0.01], [0, 5], None, [(0, 0.01, 500)]),
        ([0, 1, 2, 3], [0, 4, 5, 5], 1.5, [(0, 1, 4), (1, 1.5, 2)]),
        ([0, 1, 2], [0, 4, 4], 1.001, [(0, 1.001, 4 / 1.001)]),
        ([0, 2], [0, 4], 0.0, []),
        ([0.0], [0], None, []),
    ],
)
def test_rates(
    times: list[float],
    counts: list[float | None],
    end: float | None,
    expected: list[tuple[float, float, float]],
) -> None:
    assert rates(times, counts, end) == [pytest.approx(step) for step in expected]


def test_levels_are_interrupted_while_nothing_is_known() -> None:
    assert levels([0, 1, 2, 3, 4], [1, None, None, 2, 3]) == [[(0, 1)], [(3, 2), (4, 3)]]


def test_phases_join_equal_states_and_end_with_the_stage() -> None:
    states = ["starting", "reading", "reading", "running", "ended", "ended"]
    assert phases([0, 1, 2, 3, 4, 5], states, (0.5, 3.5)) == [
        (0.5, 2, "reading"),
        (2, 3.5, "running"),
    ]


def test_a_stage_of_a_moment_has_a_phase() -> None:
    assert phases([0.0, 1.0], ["starting", "ended"], (0.5, 0.5)) == [(0.5, 0.5, "running")]


@pytest.mark.parametrize(
    ("most", "top"),
    [(0.0, 1.0), (0.3, 0.5), (1.0, 1.0), (1.1, 2.0), (9.0, 10.0), (120.0, 200.0), (0.004, 0.005)],
)
def test_the_top_of_a_scale_is_a_round_number(most: float, top: float) -> None:
    assert nice_top(most) == pytest.approx(top)


def test_paths_stay_within_the_chart() -> None:
    assert steps_of([(0, 1, 2), (1, 2, 1)], 2, 2) == "M76 8H185V50H294"
    assert steps_of([(0, 1, 2), (1.5, 2, 9)], 2, 2) == "M76 8H185M239.5 8H294"
    assert area_of([(0, 1, 2), (1, 2, 0)], 2, 2) == "M76 92V8H185V92Z"
    assert curve_of([[(0, 1), (1, 2)], [(2, 0)]], 2, 2) == "M76 50L185 8M294 92h2"


def test_a_bar_of_a_moment_can_be_seen() -> None:
    assert 'x="998" y="0" width="2"' in bar("late", [(1.0, 1.0, "running")], 1.0)
    assert 'width="2"' in bar("no time", [(0.0, 0.0, "running")], 0.0)

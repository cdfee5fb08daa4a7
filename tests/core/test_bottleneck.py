"""The rule that names the slowest stage of a run, by tables."""

from __future__ import annotations

import itertools

import pytest

from penstock.core.bottleneck import EMPTY, FULL, EdgeState, find_bottleneck

STATES = {"F": FULL, "e": EMPTY, ".": None}


def line(states: str, going: str | None = None) -> tuple[int, int | None] | None:
    """Return the stage and the end for a line whose edges have these states, from stdin to stdout."""
    count = len(states) - 1
    ends: list[int | None] = [None, *range(count), None]
    edges = [
        EdgeState(*pair, STATES[state]) for pair, state in zip(itertools.pairwise(ends), states, strict=True)
    ]
    goes = [True] * count if going is None else [each == "x" for each in going]
    found = find_bottleneck(goes, edges)
    return None if found is None else (found.stage, found.end)


def graph(count: int, *edges: tuple[int | None, int | None, str]) -> tuple[int, int | None] | None:
    """Return the stage and the end for a graph of `count` stages, all of which go on."""
    found = find_bottleneck(
        [True] * count, [EdgeState(tail, head, STATES[state]) for tail, head, state in edges]
    )
    return None if found is None else (found.stage, found.end)


@pytest.mark.parametrize(
    ("states", "stage"),
    [
        (".", None),  # no stage at all
        ("..", 0),
        ("....", 0),  # nothing is known: the first
        (".ee.", 0),  # a slow first stage
        (".Fee", 1),  # a slow middle one
        (".FFe", 2),  # a slow last one
        (".FF.", 2),
        ("FFFe", 2),
        ("FeFe", 2),  # of two the last: those before it will have to wait for it
        (".F.e", 1),
        ("Fee.", 0),  # stdin has more than the first stage takes
    ],
)
def test_the_last_stage_with_a_full_input_and_no_full_output_is_named(states: str, stage: int | None) -> None:
    """Otherwise the first one is."""
    assert line(states) == (None if stage is None else (stage, None))


def test_a_slow_source_is_told_with_the_first_stage() -> None:
    """The first stage waits for stdin."""
    assert line("eeee") == (0, 0)


def test_a_slow_reader_of_the_output_is_told_with_the_last_stage() -> None:
    """Everything waits for whoever takes the output."""
    assert line("FFFF") == (2, 3)
    assert line("...F") == (2, 3)


def test_stages_that_have_ended_or_not_begun_are_left_out() -> None:
    """When the first has ended, the next one is the first: a sort that has read everything."""
    assert line("...ee", "-x-x") == (3, None)
    assert line(".e.e", "-xx") == (1, None)
    assert line("FFFF", "---") is None


def test_of_a_tee_the_branch_that_holds_the_others_up_is_named() -> None:
    """0 → tee 1 → 2 slow, 3 fast."""
    assert graph(4, (0, 1, "F"), (1, 2, "F"), (1, 3, "e"), (2, None, "."), (3, None, ".")) == (2, None)


def test_a_join_that_waits_for_one_input_is_not_slow_itself() -> None:
    """0 fast and 1 → 2 slow are read by 3, which is followed by 4: the slow one is at the empty input."""
    edges = [(0, 3, "F"), (1, 2, "."), (2, 3, "e"), (3, 4, "e"), (4, None, ".")]
    assert graph(5, *edges) == (2, None)
    edges[1] = 1, 2, "e"
    assert graph(5, *edges) == (1, None)
    edges[1] = 1, 2, "F"
    assert graph(5, *edges) == (2, None)


def test_without_a_full_edge_the_source_that_is_waited_for_is_named() -> None:
    """A merge of two sources: the first one, or the one behind an empty edge."""
    assert graph(3, (0, 2, "."), (1, 2, "."), (2, None, ".")) == (0, None)
    assert graph(3, (0, 2, "."), (1, 2, "e"), (2, None, ".")) == (1, None)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_for_every_short_line_the_rule_is_that_of_a_naive_statement(count: int) -> None:
    """The last with a full input and no full output; the last if stdout is full; else the first."""
    for states in itertools.product("F.", repeat=count + 1):
        slow = [place for place in range(count) if states[place] == "F" and states[place + 1] != "F"]
        naive = slow[-1] if slow else count - 1 if states[-1] == "F" else 0
        found = line("".join(states))
        assert found is not None
        assert found[0] == naive, states

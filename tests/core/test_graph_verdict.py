"""The verdict over a graph of stages, as a table and as a property."""

from __future__ import annotations

import itertools
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import ClosedPipe, FinishEarly
from penstock.core.verdict import Outcome, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODES = ("report", "forgive")


def outcome(kind: str) -> Outcome:
    """S: success. F: finished early. P: pipe error. E: any other error. Lower case: the same, excluded."""
    errors = {"S": None, "F": FinishEarly(), "P": ClosedPipe(), "E": ValueError("bad input")}
    return Outcome(errors[kind.upper()], excluded=kind.islower())


class Graph(NamedTuple):
    """A graph as a text: for each stage its name, its outcome, and after `>` the names of its consumers."""

    names: list[str]
    kinds: str
    consumers: list[list[int]]

    @classmethod
    def parse(cls, text: str) -> Graph:
        """Read `"tee P > a b; a F; b S"`."""
        stages = [stage.partition(">") for stage in text.split(";")]
        names, kinds = zip(*(left.split() for left, _, _ in stages), strict=True)
        return cls([*names], "".join(kinds), [[*map(names.index, right.split())] for _, _, right in stages])

    def judged(self, mode: str, head: str | None = None) -> tuple[str | None, bool]:
        """Return the name of the stage whose error is reported, and whether the graph finished early."""
        outcomes = [*map(outcome, self.kinds)]
        place = 0 if head is None else self.names.index(head)
        result = verdict(outcomes, pipe_errors=mode, consumers=self.consumers, head=place)
        assert result.error is (None if result.index is None else outcomes[result.index].error)
        return None if result.index is None else self.names[result.index], result.finished_early


# Columns: the graph, the stage that is reported under "report" and under "forgive", and whether the graph
# then counts as finished early (the same in both, unless an error is reported).
TEE = [
    pytest.param("in S > tee; tee S > a b; a S; b S", None, None, False, id="all-succeed"),
    pytest.param(
        "in S > tee; tee S > a b; a F; b S", None, None, False, id="the-split-goes-on-for-the-other"
    ),
    pytest.param("in P > tee; tee P > a b; a F; b F", None, None, True, id="all-branches-left"),
    pytest.param("in P > tee; tee P > a b; a S; b S", "tee", None, False, id="all-branches-had-enough"),
    pytest.param("in P > tee; tee P > a b; a F; b S", None, None, True, id="one-branch-left"),
    pytest.param("in P > tee; tee P > a b; a S; b F", None, None, True, id="the-other-branch-left"),
    pytest.param(
        "in S > tee; tee S > a b; a E; b S", "a", "a", False, id="a-branch-failed-and-the-other-read-on"
    ),
    pytest.param(
        "in P > tee; tee P > a b; a E; b F", "a", "a", False, id="one-branch-failed-and-the-other-left"
    ),
    pytest.param(
        "in P > tee; tee P > a b; a F; b E", "b", "b", False, id="one-branch-left-and-the-other-failed"
    ),
    pytest.param("in S > tee; tee S > a b; a E; b E", "a", "a", False, id="the-first-of-two-failed-branches"),
    pytest.param("in E > tee; tee S > a b; a E; b S", "in", "in", False, id="the-error-above-the-split"),
    pytest.param("in P > tee; tee E > a b; a F; b F", "tee", "tee", False, id="the-split-itself-failed"),
    pytest.param(
        "in P > tee; tee P > a b; a P; b F", "a", "a", False, id="a-pipe-error-at-the-end-of-a-branch"
    ),
    pytest.param("in S > tee; tee S > a b; a P; b P", "b", "b", False, id="the-last-of-two-pipe-errors"),
    pytest.param("in S > tee; tee S > a b; a P; b E", "b", "b", False, id="an-error-beside-a-pipe-error"),
    pytest.param(
        "in S > tee; tee S > a b; a P > c; b S; c S", "a", None, False, id="yes-into-head-in-a-branch"
    ),
    pytest.param(
        "in P > tee; tee P > a b; a P > c; b S; c F", None, None, True, id="a-branch-left-at-its-end"
    ),
    pytest.param(
        "in P > tee; tee P > a b; a S > c; b P; c F", "b", "b", False, id="nobody-forgives-the-other-branch"
    ),
]

UNTIL_MAIN = [
    # The stages of: yes | tee("file", until="main") | head -1
    pytest.param("yes P > tee; tee P > file head; file S; head S", "tee", None, False, id="main-had-enough"),
    pytest.param("yes P > tee; tee P > file head; file S; head F", None, None, True, id="main-left"),
    pytest.param("yes P > tee; tee P > file head; file S; head E", "head", "head", False, id="main-failed"),
    pytest.param(
        "yes P > tee; tee P > file head; file E; head S", "file", "file", False, id="the-file-failed"
    ),
]

DIAMOND = [
    pytest.param("in S > a b; a S > join; b S > join; join S", None, None, False, id="a-diamond-succeeds"),
    pytest.param("in P > a b; a P > join; b P > join; join F", None, None, True, id="the-join-left"),
    pytest.param("in P > a b; a P > join; b P > join; join S", "b", None, False, id="the-join-had-enough"),
    pytest.param("in P > a b; a P > join; b P > join; join E", "join", "join", False, id="the-join-failed"),
    pytest.param(
        "in P > a b; a P > join; b P > join; join P", "join", "join", False, id="the-join-has-a-pipe-error"
    ),
    pytest.param(
        "in P > a b; a S > join; b P > join; join F", None, None, True, id="one-way-read-to-its-end"
    ),
    pytest.param(
        "in P > a b; a S > join; b S > join; join F", "in", None, False, id="both-ways-read-to-their-ends"
    ),
    pytest.param("in P > a b; a E > join; b P > join; join F", "a", "a", False, id="one-way-failed"),
    pytest.param("in P > a join; a P > join; join F", None, None, True, id="a-way-around"),
]

READING = [
    # The stages of: comm reading(left) reading(right)
    pytest.param("left E > comm; right S > comm; comm S", "left", "left", False, id="a-source-failed"),
    pytest.param(
        "left S > comm; right E > comm; comm E", "right", "right", False, id="a-source-and-its-reader-failed"
    ),
    pytest.param(
        "left P > comm; right S > comm; comm S", "left", None, False, id="a-source-was-not-read-to-its-end"
    ),
    pytest.param(
        "left P > comm; right P > comm; comm E", "comm", "comm", False, id="the-reader-of-two-sources-failed"
    ),
    pytest.param(
        "left P > comm; right E > comm; comm F", "right", "right", False, id="the-other-source-failed"
    ),
    pytest.param("left P > a; right P > b; a F; b S", "right", None, True, id="two-graphs-side-by-side"),
    pytest.param("left P > a; right P > b; a F; b E", "b", "b", False, id="a-failure-in-the-graph-beside"),
]

EXCLUDED = [
    pytest.param("tee P > a b; a e; b F", None, None, True, id="an-excluded-error-beside-a-branch-that-left"),
    pytest.param("tee P > a b; a f; b s", "tee", "tee", False, id="excluded-branches-forgive-nothing"),
    pytest.param("tee P > a b; a f; b E", "b", "b", False, id="an-excluded-branch-beside-a-failed-one"),
    pytest.param(
        "in P > tee; tee s > a b; a S; b F", None, None, True, id="an-excluded-success-forgets-nothing"
    ),
    pytest.param(
        "in P > tee; tee e > a b; a E; b F", "a", "a", False, id="an-excluded-split-above-a-failed-branch"
    ),
    pytest.param(
        "in P > tee; tee f > a b; a S; b S", "in", None, False, id="an-excluded-split-above-successes"
    ),
    pytest.param(
        "tee p > a b; a F; b S", None, None, True, id="an-excluded-head-passes-on-that-a-branch-left"
    ),
    pytest.param("tee p > a b; a e; b p", None, None, False, id="all-are-excluded"),
]


@pytest.mark.parametrize(
    ("text", "reported", "forgiven", "finished_early"),
    [*TEE, *UNTIL_MAIN, *DIAMOND, *READING, *EXCLUDED],
)
def test_the_table(
    text: str,
    reported: str | None,
    forgiven: str | None,
    finished_early: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Each graph has the verdict of the table in both modes."""
    graph = Graph.parse(text)
    assert graph.judged("report") == (reported, finished_early and reported is None)
    assert graph.judged("forgive") == (forgiven, finished_early)


@pytest.mark.parametrize(("head", "finished_early"), [("left", False), ("right", True), ("comm", True)])
def test_the_head_decides_whether_the_graph_finished_early(head: str, finished_early: bool) -> None:  # noqa: FBT001
    """A parent that writes into the head asks whether that stage left its input unread."""
    graph = Graph.parse("left S > comm; right P > comm; comm F")
    assert graph.judged("forgive", head) == (None, finished_early)


@pytest.mark.parametrize("head", ["left", "right", "comm"])
def test_a_graph_with_an_error_did_not_finish_early(head: str) -> None:
    """Whichever stage is the head, an error anywhere is the outcome of the whole."""
    graph = Graph.parse("left F > comm; right E > comm; comm F")
    assert graph.judged("forgive", head) == ("right", False)


# --- lines


@pytest.mark.parametrize("mode", MODES)
def test_a_line_given_by_its_consumers_is_judged_as_a_line(mode: str) -> None:
    """All lines of up to five stages get the same verdict, whichever way they are given."""
    for length in range(6):
        line = [[index] for index in range(1, length)] + [[]] * (length > 0)
        for kinds in itertools.product("SFPEe", repeat=length):
            outcomes = [*map(outcome, kinds)]
            wanted = verdict(outcomes, pipe_errors=mode)
            found = verdict(outcomes, pipe_errors=mode, consumers=line)
            assert (found.index, found.finished_early) == (wanted.index, wanted.finished_early), kinds
            assert found.error is wanted.error


# --- the rule as a property


def naive(kinds: str, consumers: Sequence[Sequence[int]], mode: str, head: int) -> tuple[int | None, bool]:
    """State the rule as a recursion from each stage to its consumers."""

    @cache
    def failed(stage: int) -> bool:
        if kinds[stage] in "SFE":
            return kinds[stage] == "E"
        return not forgiven(stage) if kinds[stage] == "P" else any(map(failed, consumers[stage]))

    @cache
    def had_enough(stage: int) -> bool:
        if kinds[stage] in "SFE":
            return kinds[stage] == "F" or (kinds[stage] == "S" and mode == "forgive")
        return forgiven(stage)

    @cache
    def finished_early(stage: int) -> bool:
        if kinds[stage] in "SFE":
            return kinds[stage] == "F"
        return any(map(finished_early, consumers[stage])) and not any(map(failed, consumers[stage]))

    def forgiven(stage: int) -> bool:
        return any(map(had_enough, consumers[stage])) and not any(map(failed, consumers[stage]))

    errors = [stage for stage, kind in enumerate(kinds) if kind == "E"]
    unforgiven = [stage for stage, kind in enumerate(kinds) if kind == "P" and not forgiven(stage)]
    reported = next(iter(errors[:1] + unforgiven[-1:]), None)
    return reported, reported is None and kinds != "" and finished_early(head)


def judged(kinds: str, consumers: Sequence[Sequence[int]], mode: str, head: int) -> tuple[int | None, bool]:
    """Return the verdict's index and whether the graph finished early."""
    result = verdict([*map(outcome, kinds)], pipe_errors=mode, consumers=consumers, head=head)
    return result.index, result.finished_early


def all_graphs(size: int) -> Iterator[list[list[int]]]:
    """Give the consumers of every graph of this size."""
    later = [range(stage + 1, size) for stage in range(size)]
    choices = [
        [[*each] for n in range(len(after) + 1) for each in itertools.combinations(after, n)]
        for after in later
    ]
    yield from map(list, itertools.product(*choices))


@pytest.mark.parametrize("mode", MODES)
def test_every_small_graph_is_judged_as_the_naive_statement_says(mode: str) -> None:
    """All graphs of up to three stages, with any outcomes and any head, get the verdict of the rule."""
    for size in range(4):
        for consumers in all_graphs(size):
            for kinds in map("".join, itertools.product("SFPEe", repeat=size)):
                for head in range(max(size, 1)):
                    case = kinds, consumers, mode, head
                    assert judged(*case) == naive(*case), case


@st.composite
def graphs(draw: st.DrawFn) -> tuple[str, list[list[int]], int]:
    """Draw outcomes, consumers and a head. Pipe errors are frequent, because the rule is about them."""
    kinds = draw(st.text("SFPPPEsfpe", min_size=1, max_size=12))
    size = len(kinds)
    consumers = [
        draw(st.lists(st.integers(stage + 1, size - 1), max_size=3)) if stage < size - 1 else []
        for stage in range(size)
    ]
    return kinds, consumers, draw(st.integers(0, size - 1))


@given(graph=graphs(), mode=st.sampled_from(MODES))
def test_every_graph_is_judged_as_the_naive_statement_says(
    graph: tuple[str, list[list[int]], int], mode: str
) -> None:
    """Random graphs, with two edges between the same stages too, get the verdict that the rule gives."""
    kinds, consumers, head = graph
    assert judged(kinds, consumers, mode, head) == naive(kinds, consumers, mode, head)


# --- refusals


@pytest.mark.parametrize(
    ("count", "consumers", "head", "message"),
    [
        pytest.param(2, [[], [0]], 0, r"^consumers\[1\] must be .* not 0$", id="before-its-producer"),
        pytest.param(2, [[0, 1], []], 0, r"^consumers\[0\] must be .* not 0$", id="itself"),
        pytest.param(2, [[1], [-1]], 0, r"^consumers\[1\] must be .* not -1$", id="a-negative-index"),
        pytest.param(2, [[1, 2], []], 0, r"^consumers\[0\] must be .* not 2$", id="past-the-last"),
        pytest.param(
            2, [[1]], 0, r"^consumers must have one entry .* 2 outcomes, not 1$", id="an-entry-missing"
        ),
        pytest.param(
            0, [[]], 0, r"^consumers must have one entry .* 0 outcomes, not 1$", id="an-entry-too-many"
        ),
        pytest.param(
            2, [[1], []], 2, r"^head must be the index of one of 2 outcomes, not 2$", id="head-past-the-last"
        ),
        pytest.param(2, [[1], []], -1, r"^head must be the index .* not -1$", id="a-negative-head"),
        pytest.param(0, [], 1, r"^head must be the index .* not 1$", id="a-head-without-stages"),
        pytest.param(2, None, 1, r"^head must be 0 without consumers, not 1$", id="a-head-in-a-line"),
    ],
)
def test_an_impossible_graph_is_refused(
    count: int, consumers: list[list[int]] | None, head: int, message: str
) -> None:
    """Nothing is guessed, even if no stage failed."""
    with pytest.raises(ValueError, match=message):
        verdict([Outcome()] * count, consumers=consumers, head=head)


def test_an_unknown_pipe_errors_is_refused_for_a_graph_too() -> None:
    """The option is checked before the graph."""
    with pytest.raises(ValueError, match=r"^pipe_errors must be"):
        verdict([], pipe_errors="ignore", consumers=[[]])

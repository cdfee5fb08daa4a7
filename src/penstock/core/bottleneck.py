"""Which stage the others of a run wait for: a pure rule over the state of the edges.

An edge is full if its writer waits for room, and empty if its reader waits for bytes. A stage that has a full
input and no full output is slower than what comes before it, and not slower than what comes after it. Of
several such stages the last one counts, because the others will have to wait for it.

If no stage is like that, nothing holds up the first stage, so that one is the slowest. There are two more
cases. If the output of the whole pipeline is full, its reader is the slowest, and the last stage stands for
that. A stage with several inputs may wait for one while another is full: then the slowest stage is the one at
the beginning of the empty inputs.

Out of scope: how a look finds out whether an edge is full (`engine.edge_looks`), and the time over which
looks are judged (`core.look_history`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

__all__ = ["EMPTY", "FULL", "Bottleneck", "EdgeState", "find_bottleneck"]

FULL: Final = "full"
EMPTY: Final = "empty"


class EdgeState:
    """One edge: the indices of the stages at its ends, None for an end of the pipeline, and its state.

    `state` is FULL, EMPTY, or None if it is neither or cannot be known.
    """

    __slots__ = ("head", "state", "tail")

    def __init__(self, tail: int | None, head: int | None, state: str | None = None) -> None:
        self.tail = tail
        self.head = head
        self.state = state


class Bottleneck:
    """The index of a stage, and of the edge to or from an end of the pipeline that it waits for itself."""

    __slots__ = ("end", "stage")

    def __init__(self, stage: int, end: int | None = None) -> None:
        self.stage = stage
        self.end = end


def find_bottleneck(going: Sequence[bool], edges: Sequence[EdgeState]) -> Bottleneck | None:
    """Return the stage that the others wait for; None if no stage is going on.

    `going` says which stages have begun and not ended, in the order of the plan: a stage comes after those
    that it reads. The edges of others are left out.

    >>> edges = [EdgeState(None, 0), EdgeState(0, 1, FULL), EdgeState(1, 2, EMPTY), EdgeState(2, None)]
    >>> find_bottleneck([True, True, True], edges).stage
    1
    """
    return _Edges(going, edges).find()


class _Edges:
    """The stages that are going on, with their edges."""

    def __init__(self, going: Sequence[bool], edges: Sequence[EdgeState]) -> None:
        self._edges = edges
        self._order = [index for index, goes in enumerate(going) if goes]
        self._inputs: dict[int, list[int]] = {index: [] for index in self._order}
        self._outputs: dict[int, list[int]] = {index: [] for index in self._order}
        for place, edge in enumerate(edges):
            tail, head = edge.tail, edge.head
            if (tail is None or tail in self._outputs) and (head is None or head in self._inputs):
                if tail is not None:
                    self._outputs[tail].append(place)
                if head is not None:
                    self._inputs[head].append(place)

    def find(self) -> Bottleneck | None:
        if not self._order:
            return None
        for stage in reversed(self._order):
            if self._has(self._inputs[stage], FULL) and not self._has(self._outputs[stage], FULL):
                return self._starved(stage)
        for stage in reversed(self._order):
            for place in self._outputs[stage]:
                if self._edges[place].head is None and self._edges[place].state == FULL:
                    return Bottleneck(stage, place)
        return self._first(self._order[-1])

    def _has(self, places: Sequence[int], state: str) -> bool:
        return any(self._edges[place].state == state for place in places)

    def _starved(self, stage: int) -> Bottleneck:
        """Return the stage at the beginning of the empty inputs of `stage`, itself if it has none."""
        place = self._empty_input(stage)
        while place is not None:
            tail = self._edges[place].tail
            if tail is None:
                return Bottleneck(stage, place)
            stage = tail
            place = self._empty_input(stage)
        return Bottleneck(stage)

    def _first(self, stage: int) -> Bottleneck:
        """Return the first stage before `stage`, of several the one that is waited for."""
        while True:
            place = self._empty_input(stage)
            if place is None:
                place = next((one for one in self._inputs[stage] if self._edges[one].tail is not None), None)
            if place is None:
                return Bottleneck(stage)
            tail = self._edges[place].tail
            if tail is None:
                return Bottleneck(stage, place)
            stage = tail

    def _empty_input(self, stage: int) -> int | None:
        return next((place for place in self._inputs[stage] if self._edges[place].state == EMPTY), None)

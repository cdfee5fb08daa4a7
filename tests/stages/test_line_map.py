"""The line stages from within: what a result meets that another thread passes on."""

from __future__ import annotations

from typing import Any

from penstock.stages.line_map import MapLines, _LineSlice


class _TakenAtOnce(list[Any]):
    """Results that another thread lends, and so takes, just when the stage has seen that there are some."""

    def __bool__(self) -> bool:
        self.clear()
        return True


def test_a_result_may_be_lent_while_the_stage_looks_at_it() -> None:
    """It has gone then, and that is no error of a function that was merely slow."""
    stage = MapLines(lambda line: line, "slow")
    part = _LineSlice(stage, [b"a"])
    part.results = _TakenAtOnce()
    part.make(stage.fn)
    assert not part.reuses_a_buffer

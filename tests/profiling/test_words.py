"""The verdict in words, for each way in which a run can end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.processes import sh

from penstock import (
    DEVNULL,
    ExitError,
    PipelineError,
    Result,
    command,
    function,
    ignore_error,
    is_error,
)
from penstock.profiling.words import outcome_of, sentences_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock import Pipeline


def crash(_ctx: object, _stdin: object, _stdout: object) -> None:
    raise KeyError("lost")


SLEEP = command("sleep", "1000")


def result_of(pipeline: Pipeline, **options: object) -> Result:
    return pipeline.run(stdout=DEVNULL, check=False, grace=0.5, **options)  # type: ignore[arg-type]


def not_started() -> Result:
    with pytest.raises(PipelineError) as caught:
        (SLEEP | command("no such program")).run(grace=0.5)
    assert caught.value.result is not None
    return caught.value.result


def cancelled() -> Result:
    run = (SLEEP | SLEEP).start(stdout=DEVNULL, grace=0.5)
    run.cancel("enough")
    return run.wait(check=False)


CASES: dict[str, tuple[Callable[[], Result], list[str], list[str]]] = {
    "success": (lambda: result_of(command("true")), ["The run succeeded."], ["ok"]),
    "status": (
        lambda: result_of(command("true") | sh("echo gone >&2; exit 3")),
        ["The run failed at stage 2 (sh): exit status 3: gone."],
        ["ok", "failed"],
    ),
    "exception": (
        lambda: result_of(function(crash)),
        ["The run failed at stage 1 (crash): KeyError: 'lost'."],
        ["failed"],
    ),
    "accepted": (
        lambda: result_of(ignore_error(sh("exit 3"), is_error(ExitError))),
        ["The run succeeded.", "Stage 1 (sh) ended with exit status 3, which was accepted."],
        ["ok"],
    ),
    "several": (
        lambda: result_of(sh("exit 3") | sh("exit 4") | sh("exit 4")),
        [
            "The run failed at stage 1 (sh): exit status 3.",
            "Stage 2 (sh) and stage 3 (sh) also failed: exit status 4.",
        ],
        ["failed", "also failed", "also failed"],
    ),
    "deadline": (
        lambda: result_of(SLEEP | SLEEP, timeout=0.1),
        [
            "The deadline ended the run: timed out after 0.1 s.",
            "Stage 1 (sleep) and stage 2 (sleep) were stopped: timed out after 0.1 s.",
        ],
        ["stopped", "stopped"],
    ),
    "cancelled": (
        cancelled,
        ["The run was cancelled: enough.", "Stage 1 (sleep) and stage 2 (sleep) were stopped: enough."],
        ["stopped", "stopped"],
    ),
    "fail fast": (
        lambda: result_of(SLEEP | sh("exit 3"), fail_fast=True),
        ["The run failed at stage 2 (sh): exit status 3.", "Stage 1 (sleep) was stopped: sh failed."],
        ["stopped", "failed"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_in_words(case: str) -> None:
    make, sentences, outcomes = CASES[case]
    result = make()
    assert sentences_of(result) == sentences
    assert [outcome_of(result, index) for index in range(len(result.stages))] == outcomes


def test_a_run_that_could_not_start() -> None:
    result = not_started()
    first, second, *_ = sentences_of(result)
    assert first.startswith("The run could not start: Stage 2 (no such program): ")
    assert second.startswith("Stage 1 (sleep) was stopped: ")
    assert outcome_of(result, 1) == "failed"


def test_many_stages_are_counted() -> None:
    pipeline = SLEEP
    for _ in range(11):
        pipeline = pipeline | SLEEP
    _, stopped = sentences_of(result_of(pipeline, timeout=0.2))
    assert "stage 8 (sleep) and 4 more were stopped" in stopped

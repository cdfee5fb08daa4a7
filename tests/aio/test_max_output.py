"""`max_output` in an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import CAPTURE, CaptureLimitExceeded, PipelineError, command, function

if TYPE_CHECKING:
    from penstock import Pipeline


async def _write(_ctx: object, _stdin: Any, stdout: Any) -> None:
    while True:
        await stdout.send(b"y\n")


async def _run(stage: Pipeline, way: str, max_output: int) -> None:
    if way == "astart":
        async with stage.astart(stdout=CAPTURE, max_output=max_output) as run:
            await run.wait()
    elif way == "arun":
        await stage.arun(stdout=CAPTURE, max_output=max_output)
    else:
        await getattr(stage, way)(max_output=max_output)


@pytest.mark.parametrize("stage", [command("yes"), function(_write)])
@pytest.mark.parametrize("way", ["aoutput", "atext", "arun", "astart"])
async def test_past_the_limit_the_run_fails(stage: Any, way: str) -> None:
    """With the first bytes in its result, whatever kind of stage is the last."""
    with pytest.raises(PipelineError) as caught:
        await _run(stage, way, 1000)
    assert isinstance(caught.value.cause, CaptureLimitExceeded)
    assert caught.value.result is not None
    assert caught.value.result.stdout == b"y\n" * 500


async def test_a_call_that_captures_nothing_refuses_it() -> None:
    """As the sync methods do."""
    with pytest.raises(ValueError, match="max_output"):
        await command("true").arun(max_output=5)
    with pytest.raises(ValueError, match="max_output"):
        command("true").aiter_bytes(max_output=5)
    with pytest.raises(ValueError, match="max_output"):
        command("true").astart(max_output=5)

"""The stderr of commands in runs of an event loop."""

from __future__ import annotations

import pytest

from penstock import DEVNULL, TEE, PipelineError, command

SAYS = command("sh", "-c", "echo out; echo one >&2; printf two >&2; exit 3")


async def test_it_is_shown_and_captured(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PipelineError, match="exit status 3: two") as raised:
        await SAYS.arun(stderr=TEE, stdout=DEVNULL)
    assert raised.value.result is not None
    assert raised.value.result.stderr == b"one\ntwo"
    assert capfd.readouterr().err == "one\ntwo"


async def test_it_is_shown_before_a_step_of_a_started_run_returns(capfd: pytest.CaptureFixture[str]) -> None:
    pipeline = command("sh", "-c", "echo one >&2; printf two >&2")
    async with pipeline.astart(stderr=TEE, stdout=DEVNULL) as run:
        result = await run.wait()
    assert result.stderr == b"one\ntwo"
    assert capfd.readouterr().err == "one\ntwo"

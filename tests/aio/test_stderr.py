"""The stderr of commands in runs of an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock import DEVNULL, NEXT, TEE, PipelineError, command, map_lines

if TYPE_CHECKING:
    from pathlib import Path

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


async def test_it_goes_to_the_next_stage() -> None:
    async def shout(line: bytes) -> bytes:
        return line.upper()

    says = "echo out; echo one >&2"
    both = command("sh", "-c", says, stderr=NEXT) | map_lines(shout)
    assert await both.atext() == "OUT\nONE\n"
    alone = command("sh", "-c", says, stderr=NEXT, stdout=DEVNULL) | map_lines(shout)
    assert [line async for line in alone.aiter_lines()] == [b"ONE"]


async def test_the_last_stage_has_no_next_one() -> None:
    with pytest.raises(ValueError, match="stage 'sh' is the last"):
        await SAYS.arun(stderr=NEXT)


async def test_stdout_and_stderr_may_be_one_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    pipeline = command("sh", "-c", "echo out; echo err >&2; echo out2")
    await pipeline.arun(stdout=path, stderr=tmp_path / "." / "f")
    assert path.read_text() == "out\nerr\nout2\n"
    with pytest.raises(ValueError, match="stdin and stdout are the same file"):
        await pipeline.arun(stdin=path, stdout=path)

"""`profile=True` under an event loop."""

from __future__ import annotations

from penstock import DEVNULL, command, function


async def test_a_result_has_its_profile() -> None:
    result = await (command("true") | command("cat")).arun(profile=True, stdout=DEVNULL)
    assert result.profile is not None
    assert len(result.profile.samples) >= 2


async def test_async_stages_have_spans() -> None:
    async def nothing(_ctx: object, _stdin: object, _stdout: object) -> None:
        pass

    async with function(nothing).astart(profile=True, stdout=DEVNULL) as run:
        pass
    profile = (await run.wait()).profile
    assert profile is not None
    (span,) = profile.spans
    assert span is not None
    assert span[0] <= span[1]

"""`progress=` with a callable, in an event loop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from penstock import DEVNULL, PIPE, command

if TYPE_CHECKING:
    from penstock import Snapshot

CAT = command("cat")


async def test_the_snapshots_come_in_another_thread_and_the_last_one_before_the_method_returns() -> None:
    seen: list[Snapshot] = []
    threads: set[int] = set()

    def call(snapshot: Snapshot) -> None:
        seen.append(snapshot)
        threads.add(threading.get_ident())

    await (command("true") | CAT).arun(progress=call, stdout=DEVNULL)
    assert seen.pop().done
    assert await CAT.aoutput(input=b"a", progress=call) == b"a"
    assert seen.pop().done
    async with CAT.astart(progress=call, stdin=PIPE, stdout=DEVNULL) as run:
        assert run.stdin is not None
        await run.stdin.aclose()
    assert seen.pop().done
    async for _ in command("seq", "3").aiter_lines(progress=call):
        pass
    assert seen.pop().done
    assert threading.get_ident() not in threads

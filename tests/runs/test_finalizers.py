"""What the caller gave to a run is let go of in a thread that may be held up."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from tests.support.waiting import DEADLINE

from penstock import DEVNULL, command

if TYPE_CHECKING:
    from collections.abc import Callable


class Cleaning:
    """An input that, when nobody holds it any more, cleans up by a command."""

    def __init__(self, done: threading.Event) -> None:
        self.done = done

    def read(self, _n: int = -1) -> bytes:
        """Be empty."""
        return b""

    def __del__(self) -> None:
        command("true").start(stdout=DEVNULL).wait(timeout=DEADLINE)
        self.done.set()


def forgotten(done: threading.Event) -> None:
    """Start, and look no further."""
    command("cat").start(stdin=Cleaning(done), stdout=DEVNULL)


def in_a_loop(done: threading.Event) -> None:
    """Where the loop goes on before the supervisor has left the run."""
    asyncio.run(command("cat").aoutput(stdin=Cleaning(done)))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("run", [forgotten, in_a_loop])
def test_a_finalizer_may_wait_for_another_run(run: Callable[[threading.Event], None]) -> None:
    """It does not run on the supervisor, which would wait for itself for ever, and all other runs with it."""
    for _ in range(20):
        done = threading.Event()
        run(done)
        assert done.wait(5)

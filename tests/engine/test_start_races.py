"""What ends a run may come while the run is still being started, in another thread."""

from __future__ import annotations

import select
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.waiting import DEADLINE, until

from penstock import CAPTURE, DEVNULL, Pipeline, PipelineError, StartError, command
from penstock.engine.ports import StdinPort
from penstock.runtime.supervisor import supervisor
from penstock.stages.running_command import RunningCommand
from penstock.system import features
from penstock.system.poller import EpollPoller

if TYPE_CHECKING:
    from collections.abc import Callable

PIPELINE = Pipeline(command("sleep", "60"), command("false"), fail_fast=True)


def _start(**options: Any) -> Any:
    return PIPELINE.start(stdout=CAPTURE, **options).wait()


def _aoutput(**options: Any) -> Any:
    async def call() -> bytes:
        return await PIPELINE.aoutput(**options)

    return anyio.run(call)


@pytest.mark.parametrize("call", [_start, _aoutput])
def test_stages_that_end_before_their_input_and_output_are_looked_after(
    call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict is theirs: nothing is fed to, or captured from, what has been closed meanwhile."""
    closed = threading.Event()
    release, start = StdinPort.release, StdinPort.start

    def tell(self: StdinPort, on_end: Callable[[], None]) -> None:
        release(self, on_end)
        supervisor().post(lambda: supervisor().post(closed.set))  # after what follows the release

    def wait(self: StdinPort) -> None:
        assert closed.wait(DEADLINE)
        start(self)

    monkeypatch.setattr(StdinPort, "release", tell)
    monkeypatch.setattr(StdinPort, "start", wait)
    with pytest.raises(PipelineError, match="false: exit status 1"):
        call(input=b"x" * (1 << 20))


@pytest.mark.skipif(not features.EPOLL, reason="the supervisor polls by epoll where there is one")
def test_stale_event_of_a_reused_fd_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The successor has ended by then: it is not reaped, and its number given back, before it is polled."""
    add = EpollPoller.add

    def add_late(self: EpollPoller, number: int, events: int) -> None:
        watch = supervisor()._watched.get(number)
        if watch is not None:
            select.select([number], [], [], 30)
            watch[0](events)
        add(self, number, events)

    monkeypatch.setattr(EpollPoller, "add", add_late)
    assert command("true").start(stdout=DEVNULL).wait().ok


def test_a_start_that_fails_after_the_deadline_ends_its_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline cancels the run while the child, which has just been spawned, is not known yet."""
    begin_watch = RunningCommand.begin_watch
    children: list[RunningCommand] = []

    def fail_once(child: RunningCommand) -> None:
        children.append(child)
        if len(children) == 1:
            until(lambda: child.ctx.cancelled)
            raise MemoryError("injected")
        begin_watch(child)

    monkeypatch.setattr(RunningCommand, "begin_watch", fail_once)
    deaf = command("sh", "-c", "trap '' TERM; while :; do sleep 60; done")
    with pytest.raises(StartError, match="injected"):
        deaf.start(timeout=0.05, grace=0.1)
    assert children[0].done

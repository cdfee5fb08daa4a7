"""A process that heeds nothing is killed, whatever an interrupt cuts short, or abandoned if that fails."""

from __future__ import annotations

import os
import queue
import random
import signal
import time
from functools import partialmethod
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.isolation import stage_functions
from tests.support.interrupts import Interruption
from tests.support.processes import gone

from penstock import DEVNULL, PIPE, Event, PipelineCancelled, command, function
from penstock.runtime import supervisor
from penstock.system.process import Process, ProcessHandle

if TYPE_CHECKING:
    from collections.abc import Callable

DEAF = command("sh", "-c", "trap '' TERM; sleep 1000 & echo; wait")
LEAVER = command("sh", "-c", "(trap '' TERM; exec sleep 1000) >/dev/null 2>&1 &", on_leftover="kill")
WORKER = function(stage_functions.heed_nothing, isolate="process")
STRIDE = 4
"""Of so many moments each test takes one; which, differs from session to session."""
RUNS: dict[str, Callable[[], object]] = {
    "command": lambda: DEAF.run(stdout=DEVNULL, timeout=0.1, grace=0.05, check=False),
    "leftover": lambda: LEAVER.run(stdout=DEVNULL, grace=0.05, check=False),
    "isolated": lambda: WORKER.run(stdout=DEVNULL, timeout=0.3, grace=0.05, check=False),
}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_an_interrupt_at_any_step_of_the_kill_sequence_ends_the_run(run: Callable[[], object]) -> None:
    """Each step that is cut short is taken again; the leak check looks for what is left."""
    run()  # what is loaded once, is loaded
    first = random.randrange(STRIDE)
    turn, left = first, 0
    while not left:
        turn += STRIDE
        interruption, raised = Interruption(turn, "/stages/kill_sequence.py"), False
        began = time.monotonic()
        try:
            with interruption:
                run()
        except KeyboardInterrupt:
            raised = True
        left = interruption.left
        assert raised or left > 0, f"it was swallowed in {interruption.where}"
        assert time.monotonic() - began < 10.0, f"it took long after one in {interruption.where}"
        assert not supervisor.active_runs, f"a run that has ended is held after one in {interruption.where}"
    assert turn > 2 * STRIDE


@pytest.mark.parametrize("kind", ["command", "isolated"])
def test_a_process_that_outlives_sigkill_is_abandoned_and_reaped_later(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one in an uninterruptible sleep does. The run ends without it, and an event says so."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    stage = DEAF if kind == "command" else WORKER
    run = stage.start(stdout=PIPE, grace=0.05, on_event=events.put)
    assert run.stdout is not None
    pid = _next(events, "start").context["pid"]
    if kind == "command":
        assert run.stdout.readline() == b"\n"
    else:
        _next(events, "message")
    child = psutil.Process(pid).children()[0].pid
    with monkeypatch.context() as patch:
        for held in (Process, ProcessHandle):
            patch.setattr(held, "send_signal", partialmethod(_send_no_sigkill, held.send_signal))
        run.cancel("enough")
        with run.stdout, pytest.raises(PipelineCancelled, match="enough"):
            run.wait(20)
    assert _next(events, "abandoned").message == f"process {pid} has outlived SIGKILL"
    assert not gone(pid, 0.0)
    for left in (child, pid):
        os.kill(left, signal.SIGKILL)
        assert gone(left)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline, "nobody has reaped it"
        time.sleep(0.002)


def _send_no_sigkill(process: Any, send: Callable[..., bool], *signums: int, **options: Any) -> bool:
    return signal.SIGKILL in signums or send(process, *signums, **options)


def _next(events: queue.SimpleQueue[Event], kind: str) -> Event:
    while True:
        event = events.get(timeout=20)
        if event.kind == kind:
            return event

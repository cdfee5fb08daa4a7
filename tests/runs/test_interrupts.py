"""KeyboardInterrupt at any moment of a run: it ends the run, leaves nothing, and is raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.support.interrupts import Interruption

from penstock import CAPTURE, DEVNULL, TEE, command, function
from penstock.runtime import supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


SLEEP = command("sleep", "1000")
TALKS = command("sh", "-c", "echo a >&2; exec sleep 1000")
OPTIONS: dict[str, Any] = {"timeout": 0.05, "grace": 0.2, "check": False}
PROFILED: dict[str, Any] = {**OPTIONS, "profile": True, "timeout": 0.15}
"""Long enough for a sample."""
RUNS: dict[str, Callable[[], object]] = {
    "commands": lambda: (SLEEP | SLEEP).run(stdout=DEVNULL, **OPTIONS),
    "shown": lambda: (TALKS | SLEEP).run(stdout=DEVNULL, stderr=TEE, **OPTIONS),
    "watched": lambda: (SLEEP | SLEEP).run(stdout=DEVNULL, progress=repr, **OPTIONS),
    "profile": lambda: (SLEEP | SLEEP).run(stdout=DEVNULL, **PROFILED),
    "both": lambda: (SLEEP | function(lambda _c, i, _o: i.read()) | SLEEP).run(stdout=CAPTURE, **OPTIONS),
}


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_an_interrupt_at_any_moment_ends_the_run(run: Callable[[], object], first: int) -> None:
    """Some hundred moments spread over start, wait and deadline; the leak check looks for what is left."""
    run()  # what is loaded once, is loaded
    for turn in range(20 + 29 * first, 2000, 89):
        interruption, raised = Interruption(turn), False
        try:
            with interruption:
                run()
        except KeyboardInterrupt:
            raised = True
        assert raised or interruption.left > 0, f"it was swallowed in {interruption.where}"
        assert not supervisor.active_runs, f"a run that has ended is held after one in {interruption.where}"

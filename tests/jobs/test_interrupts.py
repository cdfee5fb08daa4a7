"""A KeyboardInterrupt at each moment of the code of a map in the consumer's thread leaves nothing behind."""

from __future__ import annotations

import gc
import itertools
from typing import TYPE_CHECKING

import pytest
from tests.support.interrupts import Interruption
from tests.support.waiting import until

from penstock import command, item
from penstock.runtime import thread_pool
from penstock.runtime.supervisor import active_runs

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


def iterate() -> None:
    assert all(job.ok for job in command("true", item).map([1, 2, 3], workers=2, collect="bytes"))


def leave_early() -> None:
    jobs = command("sleep", item).map([0, 1000, 1000, 1000], workers=2)
    try:
        next(jobs)
    finally:
        jobs.close()


def is_over() -> bool:
    gc.collect()  # an object that was dropped in the middle of its constructor, for one
    return not active_runs and not thread_pool.has_busy_workers()


@pytest.mark.parametrize("work", [iterate, leave_early])
def test_an_interrupt_at_any_moment_ends_the_map_and_is_raised(work: Callable[[], None]) -> None:
    for turn in itertools.count(1):
        interruption = Interruption(turn, within="/penstock/jobs/")
        raised = False
        try:
            with interruption:
                work()
        except KeyboardInterrupt:
            raised = True
        until(is_over)
        if interruption.left > 0:
            assert turn > 50
            return
        assert raised, interruption.where

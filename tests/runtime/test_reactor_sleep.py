"""A reactor with nothing to watch sleeps on a lock, and wakes for its timers and for other threads."""

from __future__ import annotations

import threading
import time
from functools import partial

from tests.support.waiting import DEADLINE

from penstock.runtime.supervisor import local_reactor


def test_a_sleep_that_is_over_before_it_begins_ends() -> None:
    """A queue of the standard library may wait for ever then, as it did on a busy machine."""
    fired: list[int] = []
    for turn in range(5000):
        reactor = local_reactor()
        reactor.call_at(time.monotonic() + (turn % 50) * 1e-6, partial(fired.append, turn))
        while len(fired) <= turn:
            reactor.run_once()
        reactor.close()
    assert fired == list(range(5000))


def test_a_call_of_another_thread_wakes_it() -> None:
    reactor = local_reactor()
    came: list[int] = []
    for turn in range(200):
        thread = threading.Thread(target=reactor.post, args=(partial(came.append, turn),))
        thread.start()
        over = time.monotonic() + DEADLINE
        while len(came) <= turn:
            assert time.monotonic() < over
            reactor.run_once()
        thread.join()
    reactor.close()

"""The pool of things that wait for their next use."""

from __future__ import annotations

import atexit
import threading
import time
from typing import TYPE_CHECKING

import pytest

from penstock.runtime.idle_pool import IdlePool

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT = 20.0


@pytest.fixture
def closed() -> list[str]:
    """The items that pools have closed."""
    return []


@pytest.fixture
def make(closed: list[str]) -> Callable[[int, float], IdlePool[str]]:
    """Make a pool of texts, which `closed` tells the end of."""
    return lambda limit, timeout: IdlePool(limit, lambda: timeout, close=closed.append, at_exit=closed.extend)


def nothing(_item: str) -> None:
    """Claim an item without a word."""


def test_the_last_one_in_is_the_first_one_out(make: Callable[[int, float], IdlePool[str]]) -> None:
    """And it is claimed before it leaves."""
    pool = make(3, 60)
    for item in ("a", "b", "c"):
        pool.put(item)
    claimed: list[tuple[str, list[str]]] = []
    assert pool.take(lambda item: claimed.append((item, pool.items()))) == "c"
    assert claimed == [("c", ["a", "b", "c"])]
    assert pool.take(nothing, lambda item: item == "a") == "a"
    assert pool.take(nothing, lambda item: item == "a") is None
    assert pool.take_all() == ["b"]
    assert pool.take(nothing) is None


def test_an_interrupted_claim_loses_nothing(make: Callable[[int, float], IdlePool[str]]) -> None:
    """The item stays in the pool."""
    pool = make(3, 60)
    pool.put("a")

    def interrupted(_item: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.take(interrupted)
    assert pool.take_all() == ["a"]


def test_one_too_many_closes_the_one_that_has_waited_longest(
    make: Callable[[int, float], IdlePool[str]], closed: list[str]
) -> None:
    """At once, in the caller's thread."""
    pool = make(2, 60)
    for item in ("a", "b", "c"):
        pool.put(item)
    assert closed == ["a"]
    assert pool.take_all() == ["b", "c"]


def test_the_supervisor_closes_an_item_when_its_time_is_over() -> None:
    """An item with a shorter time does not wait for one with a longer."""
    threads: dict[str, str] = {}

    def close(item: str) -> None:
        threads[item] = threading.current_thread().name

    timeouts = iter([60, 0.05])
    pool: IdlePool[str] = IdlePool(3, lambda: next(timeouts), close=close, at_exit=len)
    pool.put("long")
    pool.put("short")
    deadline = time.monotonic() + PROMPT
    while not threads and time.monotonic() < deadline:
        time.sleep(0.005)
    assert threads == {"short": "penstock-supervisor"}
    assert pool.take_all() == ["long"]


def test_the_end_of_the_interpreter_empties_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hook gets all items at once."""
    hooks: list[Callable[[], object]] = []
    monkeypatch.setattr(atexit, "register", hooks.append)
    ended: list[list[str]] = []
    pool: IdlePool[str] = IdlePool(3, lambda: 60, close=len, at_exit=ended.append)
    pool.put("a")
    pool.put("b")
    (hook,) = hooks
    hook()
    assert ended == [["a", "b"]]
    assert pool.items() == []

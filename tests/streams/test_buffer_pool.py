from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.support.waiting import DEADLINE

from penstock.streams.buffer_pool import BufferPool, buffer_pool

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


def test_a_buffer_that_came_back_is_lent_again() -> None:
    pool = BufferPool(size=10)
    first = pool.borrow()
    pool.give_back(first)
    second = pool.borrow()
    assert second is first
    assert len(second) == 10
    assert (pool.hits, pool.misses) == (1, 1)
    pool.give_back(second)


def test_two_borrowers_never_hold_the_same_buffer() -> None:
    pool = BufferPool(size=1)
    assert pool.borrow() is not pool.borrow()


def test_the_pool_keeps_no_more_than_its_limit() -> None:
    pool = BufferPool(size=1, limit=2)
    for buffer in [pool.borrow() for _ in range(5)]:
        pool.give_back(buffer)
    again = [pool.borrow() for _ in range(5)]
    assert len(again) == 5
    assert (pool.hits, pool.misses) == (2, 8)


@pytest.mark.parametrize("stranger", [bytearray(4), bytearray(5)])
def test_a_strangers_buffer_is_refused(stranger: bytearray) -> None:
    with pytest.raises(ValueError, match="borrowed from this pool"):
        BufferPool(size=4).give_back(stranger)


def test_a_buffer_given_back_twice_is_refused() -> None:
    pool = BufferPool(size=4)
    buffer = pool.borrow()
    pool.give_back(buffer)
    with pytest.raises(ValueError, match="not given back yet"):
        pool.give_back(buffer)
    assert pool.borrow() is not pool.borrow()


def test_a_buffer_that_was_resized_is_refused_and_not_kept() -> None:
    pool = BufferPool(size=4)
    buffer = pool.borrow()
    buffer.append(0)
    with pytest.raises(ValueError, match="4 bytes, not 5"):
        pool.give_back(buffer)
    assert len(pool.borrow()) == 4


def test_a_buffer_of_the_size_before_configure_is_taken_but_not_lent_again() -> None:
    pool = BufferPool(size=4)
    old = pool.borrow()
    pool.configure(size=8)
    pool.give_back(old)
    assert len(pool.borrow()) == 8
    assert pool.size == 8


def test_a_smaller_limit_lets_go_of_idle_buffers() -> None:
    pool = BufferPool(size=4)
    for buffer in [pool.borrow() for _ in range(3)]:
        pool.give_back(buffer)
    pool.configure(limit=1)
    pool.borrow()
    pool.borrow()
    assert pool.hits == 1
    assert pool.limit == 1


@pytest.mark.parametrize(("option", "value"), [("size", 0), ("size", -1), ("limit", -1)])
def test_a_senseless_number_is_a_value_error_that_names_the_option(option: str, value: int) -> None:
    with pytest.raises(ValueError, match=option):
        BufferPool(**{option: value})
    with pytest.raises(ValueError, match=option):
        BufferPool().configure(**{option: value})


def test_a_number_of_another_type_is_a_type_error_that_names_the_option() -> None:
    with pytest.raises(TypeError, match="size"):
        BufferPool(size=True)
    with pytest.raises(TypeError, match="limit"):
        BufferPool(limit="1")  # type: ignore[arg-type]


def test_lend_gives_back_also_after_an_exception() -> None:
    pool = BufferPool(size=4)

    def use_and_fail() -> None:
        with pool.lend():
            raise KeyError

    with pytest.raises(KeyError):
        use_and_fail()
    pool.borrow()
    assert pool.hits == 1


def test_threads_borrow_and_give_back_at_will(threads: ThreadPoolExecutor) -> None:
    pool = BufferPool(size=16, limit=3)

    def use(mark: int) -> None:
        for _ in range(500):
            with pool.lend() as buffer:
                buffer[:] = bytes([mark]) * 16
                assert buffer == bytes([mark]) * 16

    for job in [threads.submit(use, mark) for mark in range(8)]:
        job.result(DEADLINE)
    assert pool.hits + pool.misses == 8 * 500


def test_the_shared_pool_works_in_a_forked_copy_whose_parent_held_the_lock() -> None:
    with buffer_pool._lock:
        child = os.fork()
        if child == 0:
            with buffer_pool.lend() as buffer:
                os._exit(0 if len(buffer) == buffer_pool.size else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

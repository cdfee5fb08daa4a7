"""What holds for the in-memory pipe alone: chunks by reference, the bound, and when the writer is woken."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from tests.support.interrupts import Interruption
from tests.support.waiting import DEADLINE, until_blocked

from penstock.streams import memory_pipe
from penstock.streams.memory_pipe import MemoryPipe
from penstock.system import features

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor

    from penstock.streams.reader import Reader
    from penstock.streams.writer import Writer


KIB = 1024


def test_bytes_cross_by_reference() -> None:
    pipe = MemoryPipe()
    chunk = bytes(100)
    reads: list[Callable[[], bytes]] = [
        pipe.reader.read1,
        lambda: pipe.reader.read(100),
        lambda: next(pipe.reader.chunks()),
    ]
    for read in reads:
        pipe.writer.write(chunk)
        assert read() is chunk


def test_four_mebibytes_fit_and_one_byte_more_waits(
    threads: ThreadPoolExecutor,
) -> None:
    pipe = MemoryPipe()
    chunk = bytes(64 * KIB)
    for _ in range(64):
        pipe.writer.write(chunk)
    writing = threads.submit(pipe.writer.write, b"x")
    until_blocked(pipe.writer)
    assert len(pipe.reader.read(64 * 64 * KIB)) == 64 * 64 * KIB
    assert writing.result(DEADLINE) == 1


def test_the_writer_sleeps_until_the_pipe_is_half_empty(
    threads: ThreadPoolExecutor,
) -> None:
    pipe = MemoryPipe(limit=10)
    for _ in range(10):
        pipe.writer.write(b"x")
    writing = threads.submit(pipe.writer.write, b"y")
    until_blocked(pipe.writer)
    for _ in range(4):
        pipe.reader.read1()
        assert pipe.writer._state.writer_asleep
    pipe.reader.read1()
    assert writing.result(DEADLINE) == 1


def test_bytes_that_the_reader_took_and_did_not_deliver_are_in_flight(
    threads: ThreadPoolExecutor,
) -> None:
    pipe = MemoryPipe(limit=10)
    for _ in range(10):
        pipe.writer.write(b"x")
    assert pipe.reader.read1() == b"x"  # takes the whole queue
    pipe.writer.write(b"y")
    writing = threads.submit(pipe.writer.write, b"z")
    until_blocked(pipe.writer)
    assert pipe.reader.read(5) == b"xxxxx"
    assert writing.result(DEADLINE) == 1
    assert pipe.reader.read(6) == b"xxxxyz"


def test_a_chunk_larger_than_the_bound_passes_an_empty_pipe_whole() -> None:
    pipe = MemoryPipe(limit=10)
    large = bytes(1000)
    assert pipe.writer.write(large) == 1000
    assert pipe.reader.read1() is large


def test_a_chunk_larger_than_the_bound_waits_until_the_pipe_is_empty(
    threads: ThreadPoolExecutor,
) -> None:
    pipe = MemoryPipe(limit=10)
    pipe.writer.write(b"a")
    pipe.writer.write(b"b")
    large = bytes(1000)
    writing = threads.submit(pipe.writer.write, large)
    until_blocked(pipe.writer)
    assert pipe.reader.read1() == b"a"
    assert pipe.writer._state.writer_asleep
    assert pipe.reader.read1() == b"b"
    assert writing.result(DEADLINE) == 1000
    assert pipe.reader.read1() is large


def test_a_chunk_larger_than_half_waits_until_it_fits_and_no_longer(
    threads: ThreadPoolExecutor,
) -> None:
    pipe = MemoryPipe(limit=10)
    for _ in range(10):
        pipe.writer.write(b"x")
    writing = threads.submit(pipe.writer.write, b"y" * 8)
    until_blocked(pipe.writer)
    for _ in range(7):
        pipe.reader.read1()
        assert pipe.writer._state.writer_asleep
    pipe.reader.read1()
    assert writing.result(DEADLINE) == 8


def test_small_chunks_do_not_overtake_a_large_one_that_waits(
    threads: ThreadPoolExecutor,
) -> None:
    pipe = MemoryPipe(limit=10)
    pipe.writer.write(b"first")
    large = threads.submit(pipe.writer.write, b"L" * 20)
    until_blocked(pipe.writer)
    small = threads.submit(pipe.writer.write, b"s")
    assert pipe.reader.read(5) == b"first"
    assert large.result(DEADLINE) == 20
    assert pipe.reader.read(20) == b"L" * 20
    assert small.result(DEADLINE) == 1
    assert pipe.reader.read(1) == b"s"


def test_chunks_are_bounded_in_number_too(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_pipe, "MAX_CHUNKS", 3)
    pipe = MemoryPipe()
    for _ in range(3):
        pipe.writer.write(b"x")
    writing = threads.submit(pipe.writer.write, b"y")
    until_blocked(pipe.writer)
    assert (
        pipe.writer._state.wake_when == memory_pipe.NEVER
    )  # else it would look again and again until the reader comes
    assert pipe.reader.read(4) == b"xxxy"
    assert writing.result(DEADLINE) == 1


@pytest.mark.parametrize("gil", [features.GIL, False])
def test_one_thread_and_then_two_lose_nothing_and_keep_their_order(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, *, gil: bool
) -> None:
    """The first writes without the lock until the second comes; both may be in the middle of a write then."""
    monkeypatch.setattr(features, "GIL", gil)
    pipe = MemoryPipe(limit=8 * KIB)
    count = 1500

    def write(name: bytes) -> None:
        for number in range(count):
            pipe.writer.write(b"%s%07d" % (name, number) * 16)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        first = threads.submit(write, b"a")
        got = [pipe.reader.read(128) for _ in range(count // 3)]
        second = threads.submit(write, b"b")
        got += [pipe.reader.read(128) for _ in range(2 * count - len(got))]
        first.result(DEADLINE)
        second.result(DEADLINE)
    finally:
        sys.setswitchinterval(interval)
    for name in (b"a", b"b"):
        assert [chunk for chunk in got if chunk[:1] == name] == [
            b"%s%07d" % (name, number) * 16 for number in range(count)
        ]
    assert pipe.reader.count == pipe.writer.count == 2 * count * 128


def test_closing_the_reader_drops_what_is_in_flight() -> None:
    pipe = MemoryPipe()
    chunk = Weighty(b"x")
    gone = threading.Event()
    chunk.on_end = gone.set
    pipe.writer._write_chunk(chunk)
    del chunk
    pipe.reader.close()
    assert gone.is_set()


class Weighty(bytes):
    on_end: Callable[[], None]

    def __del__(self) -> None:
        self.on_end()


def test_the_bytes_of_a_subclass_are_copied() -> None:
    pipe = MemoryPipe()
    pipe.writer.write(type("Named", (bytes,), {})(b"x"))
    assert type(pipe.reader.read1()) is bytes


def test_an_exception_of_a_signal_handler_leaves_the_pipe_intact(
    threads: ThreadPoolExecutor,
) -> None:
    """As a KeyboardInterrupt does; twice, so that a flag or a gate left over from the first would show."""
    pipe = MemoryPipe(limit=4)

    armed = threading.Event()

    def tear_away(_signum: int, _frame: object) -> None:
        if armed.is_set():
            armed.clear()
            raise KeyboardInterrupt

    def signal_until_torn_away(end: Reader | Writer) -> None:
        # One that arrives just before the thread enters the kernel does not end the sleep that follows.
        until_blocked(end)
        while armed.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def block_and_be_torn_away(end: Reader | Writer, use: Callable[[], object]) -> None:
        armed.set()
        job = threads.submit(signal_until_torn_away, end)
        with pytest.raises(KeyboardInterrupt):
            use()
        job.result(DEADLINE)

    previous = signal.signal(signal.SIGUSR1, tear_away)
    try:
        for _ in range(2):
            block_and_be_torn_away(pipe.reader, pipe.reader.read1)
            pipe.writer.write(b"full")
            block_and_be_torn_away(pipe.writer, lambda: pipe.writer.write(b"more"))
            assert pipe.reader.read1() == b"full"
    finally:
        signal.signal(signal.SIGUSR1, previous)
    writing = threads.submit(lambda: [pipe.writer.write(b"abc") for _ in range(100)])
    assert pipe.reader.read(300) == b"abc" * 100
    writing.result(DEADLINE)
    reading = threads.submit(pipe.reader.read1)
    until_blocked(pipe.reader)
    pipe.writer.write(b"end")
    assert reading.result(DEADLINE) == b"end"


def test_a_gate_that_is_opened_twice_lets_one_sleeper_through() -> None:
    gate = threading.Lock()
    gate.acquire()
    memory_pipe._open_gate(gate)
    memory_pipe._open_gate(gate)
    assert gate.acquire(blocking=False)
    assert not gate.acquire(blocking=False)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_pipe_that_holds_nothing_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        MemoryPipe(limit=limit)


WAYS_TO_WAKE: dict[str, tuple[bool, Callable[[MemoryPipe], None]]] = {
    "the reader, by an interrupt": (True, lambda pipe: pipe.reader.interrupt(OSError())),
    "the reader, by the writer's end": (True, lambda pipe: pipe.writer.close()),
    "the writer, by an interrupt": (False, lambda pipe: pipe.writer.interrupt(OSError())),
    "the writer, by the reader's end": (False, lambda pipe: pipe.reader.close()),
}


@pytest.mark.parametrize("who", WAYS_TO_WAKE)
def test_an_interrupt_while_a_sleeper_is_woken_does_not_leave_it_asleep(
    who: str,
    threads: ThreadPoolExecutor,
) -> None:
    """Whenever it comes: the run that is cancelled for it then wakes all its sleepers, and this one too."""
    reads, wake = WAYS_TO_WAKE[who]
    turn, left = 0, 0
    while left <= 0:
        turn += 1
        pipe = MemoryPipe(limit=1)
        if reads:
            sleeper: Future[object] = threads.submit(pipe.reader.read)
        else:
            sleeper = threads.submit(pipe.writer.writelines, [b"xx", b"xx"])
        end = pipe.reader if reads else pipe.writer
        until_blocked(end)
        interruption = Interruption(turn)
        with contextlib.suppress(KeyboardInterrupt), interruption:
            wake(pipe)
        left = interruption.left
        end.interrupt(OSError())
        sleeper.exception(DEADLINE)
    assert turn > 3

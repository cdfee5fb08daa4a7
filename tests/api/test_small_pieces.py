"""Many small pieces on their way into a stage: joined while they come fast, passed on if they come slowly."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import write_calls
from tests.support.waiting import DEADLINE, until

from penstock import DEVNULL, Pipeline, PipelineCancelled, command, function, source, transform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import ThreadPoolExecutor

    from penstock import StageContext

MANY = 20_000
PIECES = [b"%d\n" % number for number in range(1000)]
BURST = b"".join(PIECES)


class Seen:
    """A sink; `until` waits for bytes."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        """Take them."""
        self.data += data

    def wait_for(self, data: bytes) -> None:
        """Wait until exactly these have come."""
        until(lambda: len(self.data) >= len(data))
        assert self.data == data


class Reads:
    """An object with `read` that gives the pieces of an iterable."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)

    def read(self, _size: int) -> bytes:
        """Return the next piece."""
        return next(self._pieces, b"")


class ReadsInto(Reads):
    """The same by `readinto`."""

    read = None  # type: ignore[assignment]
    _rest = b""

    def readinto(self, buffer: memoryview) -> int:
        """Put the next piece into the buffer."""
        piece = self._rest or next(self._pieces, b"")
        size = min(len(piece), len(buffer))
        buffer[:size] = piece[:size]
        self._rest = piece[size:]
        return size


def written(pieces: Iterable[bytes]) -> Pipeline:
    """Return a function that writes the pieces."""

    def write(_ctx: StageContext, _stdin: Any, stdout: Any) -> None:
        for piece in pieces:
            stdout.write(piece)

    return function(write)


def yielded(pieces: Iterable[bytes]) -> Pipeline:
    """Return a transform that yields the pieces."""
    return transform(lambda _chunks: iter(pieces))


def copied(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
    """Pass everything on."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


WAYS: dict[str, Callable[[Iterable[bytes], Any], object]] = {
    "iterable": lambda pieces, sink: command("cat").run(stdin=pieces, stdout=sink),
    "iterable to a function": lambda pieces, sink: function(copied).run(stdin=pieces, stdout=sink),
    "iterable, started": lambda pieces, sink: command("cat").start(stdin=pieces, stdout=sink).wait(),
    "read": lambda pieces, sink: command("cat").run(stdin=Reads(pieces), stdout=sink),
    "readinto": lambda pieces, sink: command("cat").run(stdin=ReadsInto(pieces), stdout=sink),
    "source": lambda pieces, sink: (source(pieces) | command("cat")).run(stdout=sink),
    "source to a function": lambda pieces, sink: (source(pieces) | function(copied)).run(stdout=sink),
    "transform": lambda pieces, sink: (yielded(pieces) | command("cat")).run(stdout=sink),
    "function": lambda pieces, sink: (written(pieces) | command("cat")).run(stdout=sink),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@every_way
def test_a_slow_piece_arrives_before_the_next_one_is_made(
    way: Callable[[Iterable[bytes], Any], object],
) -> None:
    seen = Seen()

    def pieces() -> Iterator[bytes]:
        for number in range(1, 100):
            yield b"x"
            seen.wait_for(b"x" * number)

    way(pieces(), seen)


@every_way
def test_a_burst_arrives_whole_before_the_next_one_is_made(
    way: Callable[[Iterable[bytes], Any], object],
) -> None:
    seen = Seen()

    def pieces() -> Iterator[bytes]:
        for number in range(1, 10):
            yield from PIECES
            seen.wait_for(BURST * number)
            for more in (b"slow\n", b"slower\n"):
                yield more
                until(lambda: len(seen.data) >= len(BURST))
            seen.wait_for(BURST * number + b"slow\nslower\n")
            seen.data = seen.data[: -len(b"slow\nslower\n")]

    way(pieces(), seen)


@every_way
def test_pieces_of_all_sizes_keep_their_order(way: Callable[[Iterable[bytes], Any], object]) -> None:
    pieces = [*PIECES, b"x" * 100_000, *PIECES, b"y" * 5000, b"z" * 4097, *PIECES] * 3
    seen = Seen()
    way(iter(pieces), seen)
    assert seen.data == b"".join(pieces)


@pytest.mark.parametrize("name", ["iterable", "read", "source", "transform", "function"])
def test_fast_pieces_share_system_calls(name: str) -> None:
    before = write_calls()
    WAYS[name]((b"0123456789" for _ in range(MANY)), DEVNULL)
    assert write_calls() - before < MANY / 4


@every_way
def test_the_pieces_before_an_error_are_delivered(way: Callable[[Iterable[bytes], Any], object]) -> None:
    seen = Seen()

    def pieces() -> Iterator[bytes]:
        yield from PIECES
        raise ZeroDivisionError("mine")

    with pytest.raises(Exception, match="mine"):
        way(pieces(), seen)
    assert seen.data == BURST


@pytest.mark.parametrize("name", ["iterable", "iterable to a function", "source", "transform"])
def test_a_piece_of_another_type_is_named_after_a_burst(name: str) -> None:
    seen = Seen()
    wrong: Any = [*PIECES, "text"]
    with pytest.raises(Exception, match="str, not bytes"):
        WAYS[name](wrong, seen)
    assert seen.data == BURST


@pytest.mark.parametrize("name", ["iterable", "iterable to a function", "source", "transform", "function"])
def test_a_buffer_that_is_reused_is_copied_in_time(name: str) -> None:
    seen = Seen()
    buffer = bytearray(b"00000\n")

    def pieces() -> Iterator[Any]:
        yield from PIECES
        for number in range(2000):
            buffer[:5] = b"%05d" % number
            yield buffer

    WAYS[name](pieces(), seen)
    assert seen.data == BURST + b"".join(b"%05d\n" % number for number in range(2000))


def test_an_endless_iterable_is_not_read_far_ahead() -> None:
    made = 0

    def pieces() -> Iterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield b"0123456789"

    last = -1

    def stalled() -> bool:
        nonlocal last
        before, last = last, made
        return before == last > 0

    run = command("sleep", "1000").start(stdin=pieces())
    until(stalled)
    assert made * 10 < 1 << 20
    run.cancel()
    with pytest.raises(PipelineCancelled):
        run.wait()


def test_endless_empty_pieces_do_not_keep_a_run_from_its_end() -> None:
    def pieces() -> Iterator[bytes]:
        while True:
            yield b""

    assert command("true").run(stdin=pieces()).ok


def test_a_reader_that_left_ends_an_endless_source() -> None:
    def pieces() -> Iterator[bytes]:
        while True:
            yield b"0123456789\n"

    assert (source(pieces()) | command("head", "-n", "1")).output() == b"0123456789\n"
    assert (written(pieces()) | command("head", "-n", "1")).output() == b"0123456789\n"
    assert command("head", "-n", "1").output(stdin=pieces()) == b"0123456789\n"


def test_a_function_that_reads_has_written_before() -> None:
    """Each answer needs what the function wrote before it read."""

    def ask(_ctx: StageContext, stdin: Any, stdout: Any) -> None:
        for step in range(1, 20):
            for piece in PIECES:
                stdout.write(piece)
            assert stdin.read(1) == b"%d" % (step % 10)

    seen = Seen()
    asked = 0

    def answers() -> Iterator[bytes]:
        nonlocal asked
        for step in range(1, 20):
            seen.wait_for(BURST * step)
            asked += 1
            yield b"%d" % (step % 10)

    (function(ask) | command("cat")).run(stdin=answers(), stdout=seen)
    assert asked == 19


def test_a_function_that_is_busy_or_sleeps_has_written_before() -> None:
    seen = Seen()
    came = threading.Event()

    def work(_ctx: StageContext, _stdin: Any, stdout: Any) -> None:
        for piece in PIECES:
            stdout.write(piece)
        seen.wait_for(BURST)
        came.set()

    (function(work) | command("cat")).run(stdout=seen)
    assert came.wait(DEADLINE)


def test_the_count_of_a_functions_output_is_exact() -> None:
    def write(_ctx: StageContext, _stdin: Any, stdout: Any) -> None:
        for count, piece in enumerate(PIECES):
            assert stdout.count == sum(map(len, PIECES[:count]))
            assert stdout.write(piece) == len(piece)
        stdout.close()
        with pytest.raises(ValueError, match="closed"):
            stdout.write(b"x")

    assert (function(write) | command("cat")).output() == BURST


def test_a_run_within_a_function_writes_after_the_function_has() -> None:
    def nest(_ctx: StageContext, _stdin: Any, stdout: Any) -> None:
        for _ in range(5):
            for piece in PIECES:
                stdout.write(piece)
            command("echo", "nested").run(stdout=stdout)
            source(PIECES).run(stdout=stdout)

    assert (function(nest) | command("cat")).output() == (BURST + b"nested\n" + BURST) * 5


def test_a_function_of_a_worker_process_joins_its_writes_too() -> None:
    pieces = function(write_pieces, isolate="process")
    assert (pieces | command("cat")).output() == BURST * 3


def write_pieces(_ctx: StageContext, _stdin: Any, stdout: Any) -> None:
    """Write the pieces a few times."""
    for piece in PIECES * 3:
        stdout.write(piece)


def test_threads_of_a_function_may_write_at_the_same_time(threads: ThreadPoolExecutor) -> None:
    def write(_ctx: StageContext, _stdin: Any, stdout: Any) -> None:
        def some(name: bytes) -> None:
            for number in range(3000):
                stdout.write(b"%s %d\n" % (name, number))

        for future in [threads.submit(some, name) for name in (b"a", b"b", b"c")]:
            future.result(DEADLINE)

    lines = (function(write) | command("cat")).output().splitlines()
    for name in (b"a", b"b", b"c"):
        assert [line for line in lines if line[:1] == name] == [b"%s %d" % (name, n) for n in range(3000)]


def test_a_cancelled_function_that_writes_fast_ends() -> None:
    def write(_ctx: StageContext, _stdin: Any, stdout: Any) -> None:
        while True:
            stdout.write(b"0123456789")

    for sink in (command("sleep", "1000"), command("cat")):
        run = (function(write) | sink).start(stdout=DEVNULL, grace=DEADLINE)
        run.cancel("enough")
        with pytest.raises(PipelineCancelled):
            run.wait(DEADLINE)

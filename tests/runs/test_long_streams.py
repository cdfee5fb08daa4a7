"""Much has come through a pipe when its producer falls silent: it has arrived, and who waits is woken."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

from penstock import DEVNULL, PIPE, PipelineCancelled, PipelineTimeout, command, function

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    from penstock import Pipeline

MUCH = 8 << 20
SILENT = {
    "itself": command("sh", "-c", f"head -c {MUCH} /dev/zero; exec sleep 1000"),
    "a grandchild has the pipe": command(
        "sh", "-c", f"head -c {MUCH} /dev/zero; sleep 1000 & exec sleep 1000"
    ),
}
silent = pytest.mark.parametrize("producer", SILENT.values(), ids=SILENT)


class Sink:
    """Counts what it is given, and tells when that is so much."""

    def __init__(self, wanted: int = MUCH) -> None:
        self.count = 0
        self.wanted = wanted
        self.full = threading.Event()

    def write(self, data: bytes) -> int:
        self.count += len(data)
        if self.count >= self.wanted:
            self.full.set()
        return len(data)


def _read_into(read_into: Callable[[bytearray], int], size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: read_into(buffer)])


READS: dict[str, Callable[[Any], object]] = {
    "chunks": lambda stdin: next(stdin.chunks(), b""),
    "read": lambda stdin: stdin.read(1024),
    "read1": lambda stdin: stdin.read1(),
    "readinto": lambda stdin: _read_into(stdin.readinto, 1024),
    "readinto1": lambda stdin: _read_into(stdin.readinto1, 70_000),
}


def _into(sink: Sink, read: Callable[[Any], Any]) -> Pipeline:
    def fn(_ctx: object, stdin: Any, _stdout: Any) -> None:
        while data := read(stdin):
            sink.write(data)

    return function(fn)


@silent
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_function_that_waits_for_more_is_cancelled(producer: Pipeline, read: Callable[[Any], Any]) -> None:
    sink = Sink()
    run = (producer | _into(sink, read)).start(stdout=DEVNULL)
    assert sink.full.wait(DEADLINE)
    run.cancel("on purpose")
    result = run.wait(check=False)
    assert isinstance(result.error, PipelineCancelled)
    assert sink.count == MUCH


@silent
def test_a_copy_that_waits_for_more_is_cancelled(producer: Pipeline) -> None:
    sink = Sink()
    run = producer.start(stdout=sink)
    assert sink.full.wait(DEADLINE)
    run.cancel("on purpose")
    assert isinstance(run.wait(check=False).error, PipelineCancelled)
    assert sink.count == MUCH


@pytest.mark.slow
@silent
@pytest.mark.parametrize("to", ["function", "copy"])
def test_a_deadline_passes_while_more_is_waited_for(producer: Pipeline, to: str) -> None:
    sink = Sink()
    pipeline = producer if to == "copy" else producer | _into(sink, READS["chunks"])
    with pytest.raises(PipelineTimeout):
        pipeline.run(stdout=sink if to == "copy" else DEVNULL, timeout=1)


@silent
def test_a_deadline_ends_an_iteration_in_another_thread(
    producer: Pipeline, threads: ThreadPoolExecutor
) -> None:
    sink = Sink()

    def iterate() -> None:
        for chunk in producer.iter_bytes(timeout=1):
            sink.write(chunk)

    assert isinstance(threads.submit(iterate).exception(DEADLINE), PipelineTimeout)


@pytest.mark.parametrize("size", [5000, 65_536, 300_001])
def test_available_bytes_arrive_before_their_producer_goes_on(size: int) -> None:
    """A dialogue: each answer is waited for, whatever its size."""
    producer = command(
        "sh", "-c", f"head -c 100000 /dev/zero; while read line; do head -c {size} /dev/zero; done"
    )
    sink = Sink(100_000)
    with producer.start(stdin=PIPE, stdout=sink) as run:
        assert run.stdin is not None
        for number in range(1, 4):
            assert sink.full.wait(DEADLINE)
            sink.wanted += size
            sink.full.clear()
            run.stdin.write(b"%d\n" % number)
        assert sink.full.wait(DEADLINE)
        run.stdin.close()
        run.wait()
    assert sink.count == 100_000 + 3 * size

"""`function`: its stdin, its stdout, its context, and how it ends. Each over memory and over an OS pipe."""

from __future__ import annotations

import array
import contextvars
import functools
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.isolation import stage_functions
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    DEVNULL,
    Event,
    FinishEarly,
    Pipeline,
    PipelineError,
    StageContext,
    command,
    each_line,
    echo,
    function,
    map_lines,
    scan,
    source,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = b"one\ntwo\r\n\nlast without"
PARTS = [b"on", b"e\ntwo\r", b"\n\nlast", b" without"]


@pytest.fixture(params=["memory", "os-pipe"])
def seen(request: pytest.FixtureRequest) -> Callable[[Callable[[Any], Any]], Any]:
    """Call a function with the stdin that holds DATA, and return what it returned."""

    def look(fn: Callable[[Any], Any]) -> Any:
        found: list[Any] = []

        def body(_ctx: object, stdin: Any, _stdout: object) -> None:
            found.append(fn(stdin))

        first = source(PARTS) if request.param == "memory" else command("printf", "%s", DATA)
        (first | function(body)).run(stdout=DEVNULL)
        return found[0]

    return look


# stdin.


@pytest.mark.parametrize(
    ("n", "pieces"),
    [
        (5, [b"one\nt", b"wo\r\n\n", b"last ", b"witho", b"ut", b"", b""]),
        (1000, [DATA, b"", b""]),
        (-1, [DATA, b"", b""]),
        (None, [DATA, b"", b""]),
    ],
)
def test_read_gives_n_bytes_unless_eof_comes_first(seen: Any, n: int | None, pieces: list[bytes]) -> None:
    """However the chunks were cut; all, where n is negative or None."""
    assert seen(lambda stdin: [stdin.read(n) for _ in pieces]) == pieces


def test_read_without_an_argument_reads_all_and_read_of_0_nothing(seen: Any) -> None:
    """As files do."""
    assert seen(lambda stdin: [stdin.read(0), stdin.read(), stdin.read(0)]) == [b"", DATA, b""]


def test_read1_gives_what_is_there(seen: Any) -> None:
    """At least one byte, at most n."""
    pieces = seen(lambda stdin: list(iter(lambda: stdin.read1(3), b"")))
    assert b"".join(pieces) == DATA
    assert all(0 < len(piece) <= 3 for piece in pieces)
    assert b"".join(seen(lambda stdin: list(iter(stdin.read1, b"")))) == DATA


@pytest.mark.parametrize("method", ["readinto", "readinto1"])
def test_readinto_puts_bytes_into_a_buffer(seen: Any, method: str) -> None:
    """And returns how many; 0 at EOF, and for a buffer of no length."""

    def read(stdin: Any) -> tuple[bytes, int, int]:
        got, buffer = b"", bytearray(4)
        into = getattr(stdin, method)
        none = into(bytearray())
        while size := into(buffer):
            got += buffer[:size]
        return got, none, into(memoryview(buffer))

    assert seen(read) == (DATA, 0, 0)


SLOW_INPUTS: dict[str, Any] = {
    "a command": command("sh", "-c", "printf ab; sleep 0.05; printf cd; sleep 0.05; printf e"),
    "a function": function(lambda _c, _i, out: [out.write(part) for part in (b"ab", b"cd", b"e")]),
    "a source": source([b"ab", b"cd", b"e"]),
    "a worker process": source([b"ab", b"cd", b"e"]) | function(stage_functions.copy, isolate="process"),
}


@pytest.mark.parametrize("made", SLOW_INPUTS)
def test_readinto_fills_the_buffer_unless_eof_comes_first(made: str) -> None:
    """Wherever the bytes come from, and in whatever pieces; `readinto1` takes what is there."""
    found = []

    def read(_ctx: object, stdin: Any, _stdout: object) -> None:
        buffer = bytearray(b"....")
        found.append((stdin.readinto(buffer), bytes(buffer)))
        found.append((stdin.readinto(buffer), bytes(buffer)))
        found.append((stdin.readinto(buffer), bytes(buffer)))

    (SLOW_INPUTS[made] | function(read)).run(stdout=DEVNULL)
    assert found == [(4, b"abcd"), (1, b"ebcd"), (0, b"ebcd")]


def test_readinto1_takes_what_is_there() -> None:
    """It does not wait for a second piece."""

    def read(_ctx: object, stdin: Any, _stdout: object) -> None:
        sizes.extend(stdin.readinto1(bytearray(4)) for _ in range(4))

    sizes: list[int] = []
    (source([b"ab", b"cde", b"f"]) | function(read)).run(stdout=DEVNULL)
    assert sizes == [2, 3, 1, 0]


def test_readinto_takes_any_writable_buffer() -> None:
    """Also one whose elements are no bytes; another one is a TypeError that names the method."""

    def read(_ctx: object, stdin: Any, _stdout: object) -> None:
        numbers = array.array("I", [0, 0])
        found.append((stdin.readinto(numbers), numbers.tobytes()))
        for method in (stdin.readinto, stdin.readinto1):
            with pytest.raises(TypeError, match=f"{method.__name__}.. takes a writable buffer, not 'bytes'"):
                method(b"xxxx")

    found: list[tuple[int, bytes]] = []
    (source([b"abc", b"defgh"]) | function(read)).run(stdout=DEVNULL)
    assert found == [(8, b"abcdefgh")]


def test_readline_and_iteration_keep_the_lf(seen: Any) -> None:
    """As files do; only LF ends a line."""
    lines = [b"one\n", b"two\r\n", b"\n", b"last without"]
    assert seen(list) == lines
    assert seen(lambda stdin: [stdin.readline() for _ in range(5)]) == [*lines, b""]
    assert seen(lambda stdin: [stdin.readline(2), stdin.readline(-1), stdin.readline(100)]) == [
        b"on",
        b"e\n",
        b"two\r\n",
    ]


def test_the_ways_to_read_can_be_mixed(seen: Any) -> None:
    """Each byte comes once, in order."""
    assert seen(lambda stdin: [stdin.read(2), stdin.readline(), next(stdin), b"".join(stdin.chunks())]) == [
        b"on",
        b"e\n",
        b"two\r\n",
        b"\nlast without",
    ]


def test_chunks_cross_memory_by_reference() -> None:
    """The very objects that the other function wrote; none is empty."""
    written = [b"a" * 100, b"", b"b" * 100_000]
    got: list[bytes] = []
    (source(written) | function(lambda _c, stdin, _o: got.extend(stdin.chunks()))).run(stdout=DEVNULL)
    assert [id(chunk) for chunk in got] == [id(chunk) for chunk in written if chunk]


def test_an_input_of_nothing_is_at_eof(seen: Any) -> None:  # noqa: ARG001 - for symmetry with the rest
    """The default stdin is DEVNULL, and empty bytes are an input."""
    results: list[Any] = []

    def body(_ctx: object, stdin: Any, _stdout: object) -> None:
        results.append((stdin.read(), stdin.read1(), stdin.readline(), list(stdin), list(stdin.chunks())))

    function(body).run(stdout=DEVNULL)
    function(body).run(stdout=DEVNULL, input=b"")
    assert results == [(b"", b"", b"", [], [])] * 2


# stdout.


@pytest.fixture(params=["memory", "os-pipe"])
def written(request: pytest.FixtureRequest) -> Callable[[Callable[[Any], object]], bytes]:
    """Call a function with a stdout, and return what arrived at the other end."""

    def look(fn: Callable[[Any], object]) -> bytes:
        stage = function(lambda _ctx, _stdin, stdout: fn(stdout))
        return (stage | command("cat")).output() if request.param == "os-pipe" else stage.output()

    return look


def test_write_takes_every_buffer_and_returns_its_length_in_bytes(written: Any) -> None:
    """All of it is written, however large."""
    big = b"x" * 300_000
    given = [b"a", bytearray(b"bc"), memoryview(b"def"), array.array("H", [0x4141, 0x4242]), b"", big]
    lengths: list[int] = []
    assert written(lambda out: lengths.extend(out.write(data) for data in given)) == b"abcdefAABB" + big
    assert lengths == [1, 2, 3, 4, 0, 300_000]


@pytest.mark.parametrize("wrong", ["text", None, 5, [b"x"]])
def test_write_of_anything_else_is_a_type_error_in_the_function(written: Any, wrong: Any) -> None:
    """It may catch it."""

    def write(out: Any) -> None:
        with pytest.raises(TypeError):
            out.write(wrong)
        out.write(b"went on")

    assert written(write) == b"went on"


def test_writelines_takes_an_iterable_and_flush_needs_no_care(written: Any) -> None:
    """Nothing is put between the lines."""

    def write(out: Any) -> None:
        assert out.writelines(part for part in (b"a\n", b"b")) is None
        out.writelines([])
        assert out.flush() is None

    assert written(write) == b"a\nb"


def test_a_buffer_that_is_changed_after_write_has_been_copied(written: Any) -> None:
    """Nobody else sees the change."""

    def write(out: Any) -> None:
        buffer = bytearray(b"first ")
        out.write(buffer)
        buffer[:] = b"second"
        out.write(memoryview(buffer))
        buffer[:] = b"third "

    assert written(write) == b"first second"


def test_a_stream_that_is_used_after_the_function_returned_is_closed() -> None:
    """ValueError, as with a closed file."""
    kept: list[Any] = []
    function(lambda _ctx, stdin, stdout: kept.extend([stdin, stdout])).run(stdout=CAPTURE)
    with pytest.raises(ValueError, match="closed"):
        kept[0].read()
    with pytest.raises(ValueError, match="closed"):
        kept[1].write(b"late")


def test_the_return_value_of_a_function_does_not_matter() -> None:
    """Not even an exception object, or a false value."""
    for value in (0, False, ValueError("not raised"), b"x"):
        assert function(lambda _c, _i, _o, value=value: value).run(stdout=CAPTURE).stdout == b""  # type: ignore[misc]


# How it ends.


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError("k"), OSError(5, "io"), Exception(), SystemExit(3), KeyboardInterrupt()],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_error_of_a_function_is_the_very_object(error: BaseException, place: int) -> None:
    """Wherever the stage stands; SystemExit and KeyboardInterrupt of a function end no program."""

    def fail(_ctx: object, _stdin: object, _stdout: object) -> None:
        raise error

    stages = [command("cat"), command("cat"), command("cat")]
    stages[place] = function(fail, name="failing")
    with pytest.raises(PipelineError) as caught:
        Pipeline(*stages).run(stdout=DEVNULL)
    assert caught.value.cause is error
    assert caught.value.__cause__ is error
    assert (caught.value.stage, caught.value.index) == ("failing", place)
    assert caught.value.result is not None
    assert caught.value.result.stages[place].error is error


def test_the_traceback_of_an_error_leads_into_the_function() -> None:
    """That is where the user has to look."""

    def here_it_fails(_ctx: object, _stdin: object, _stdout: object) -> None:
        raise ValueError

    error = function(here_it_fails).run(check=False, stdout=DEVNULL).error
    assert error is not None
    names = []
    traceback = error.cause.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert names[-1] == "here_it_fails"


def test_bytes_written_before_an_error_arrive() -> None:
    """At the next stage, and in what was captured."""

    def fail(_ctx: object, _stdin: object, stdout: Any) -> None:
        stdout.write(b"before\n")
        raise ValueError

    for pipeline in (function(fail), function(fail) | command("cat"), function(fail) | map_lines(bytes)):
        result = pipeline.run(check=False, stdout=CAPTURE)
        assert result.stdout == b"before\n"
        assert result.error is not None
        assert result.error.index == 0


class Enough(FinishEarly):
    """A subclass says the same."""


@pytest.mark.parametrize("early", [FinishEarly, FinishEarly("seen enough"), Enough])
@pytest.mark.parametrize("endless", ["yes", "function"])
def test_finish_early_is_a_success_without_reading_the_rest(early: Any, endless: str) -> None:
    """An endless command or function before it ends, and is forgiven."""

    def forever(_ctx: object, _stdin: object, stdout: Any) -> None:
        while True:
            stdout.write(b"y\n" * 1000)

    def first(_ctx: object, stdin: Any, stdout: Any) -> None:
        stdout.write(stdin.readline())
        raise early

    before = command("yes") if endless == "yes" else function(forever)
    result = (before | function(first)).run(stdout=CAPTURE)
    assert result.ok
    assert result.stdout == b"y\n"
    assert result.stages[1].error is None


def test_finish_early_counts_even_if_nothing_is_left_to_read() -> None:
    """And where the stage stands alone."""

    def early(_ctx: object, _stdin: object, stdout: Any) -> None:
        stdout.write(b"x")
        raise FinishEarly

    assert function(early).output() == b"x"


def test_returning_without_reading_everything_is_a_success_too() -> None:
    """The stage before sees a closed pipe, which is forgiven."""
    assert (
        command("yes") | function(lambda _c, stdin, stdout: stdout.write(stdin.read(2)))
    ).output() == b"y\n"


def test_a_function_may_close_its_streams_itself() -> None:
    """Closing is idempotent; stdout closed is EOF for the next stage at once."""
    arrived = threading.Event()

    def first(_ctx: object, stdin: Any, stdout: Any) -> None:
        stdout.write(b"x")
        stdout.close()
        stdout.close()
        stdin.close()
        assert arrived.wait(DEADLINE)

    def second(_ctx: object, stdin: Any, stdout: Any) -> None:
        stdout.write(stdin.read())
        arrived.set()

    assert (function(first) | function(second)).output() == b"x"


# The context, the name, the constructor.


def test_the_context_describes_the_run(tmp_path: Any) -> None:
    """Name, cwd, environ, deadline, cancelled; check() is silent and emit() an event."""
    found: list[Any] = []
    events: list[Event] = []

    def body(ctx: StageContext, _stdin: object, _stdout: object) -> None:
        found.append((ctx.name, ctx.cwd, ctx.environ["PENSTOCK_TEST"], ctx.deadline, ctx.cancelled))
        ctx.check()
        ctx.emit("half way", percent=50)

    before = time.monotonic()
    function(body, name="me").run(
        cwd=tmp_path, env={"PENSTOCK_TEST": "1"}, timeout=60, on_event=events.append, stdout=DEVNULL
    )
    ((name, cwd, variable, deadline, cancelled),) = found
    assert (name, cwd, variable, cancelled) == ("me", str(tmp_path), "1", False)
    assert before + 60 <= deadline <= time.monotonic() + 60
    (event,) = [event for event in events if event.message == "half way"]
    assert (event.stage, dict(event.context)) == ("me", {"percent": 50})


def test_without_options_the_context_has_no_cwd_and_no_deadline() -> None:
    """None says so."""
    found: list[Any] = []
    function(lambda ctx, _i, _o: found.append((ctx.cwd, ctx.deadline))).run(stdout=DEVNULL)
    assert found == [(None, None)]


def test_a_function_runs_in_a_copy_of_the_starters_context() -> None:
    """It sees the caller's variables, and changes none."""
    current = contextvars.ContextVar("current", default="default")
    current.set("the caller's")
    found = []

    def body(_ctx: object, _stdin: object, _stdout: object) -> None:
        found.append(current.get())
        current.set("the function's")

    (function(body) | function(body)).run(stdout=DEVNULL)
    assert found == ["the caller's"] * 2
    assert current.get() == "the caller's"


class Callable_:  # noqa: N801 - any name
    def __call__(self, _ctx: object, _stdin: object, _stdout: object) -> None:
        """Do nothing."""


def test_the_name_is_the_functions_unless_another_is_given() -> None:
    """Of a partial: the function's inside; of another callable: its type's."""

    def body(_ctx: object, _stdin: object, _stdout: object) -> None:
        """Do nothing."""

    assert function(body).name == "body"
    assert function(functools.partial(body)).name == "body"
    assert function(Callable_()).name == "Callable_"
    assert function(body, name="mine").name == "mine"
    assert "body" in repr(function(body))


@pytest.mark.parametrize("make", [function, transform])
@pytest.mark.parametrize("wrong", [None, 5, "fn", b"fn", []])
def test_an_object_that_is_not_callable_is_a_type_error_when_the_stage_is_made(make: Any, wrong: Any) -> None:
    """Naming the constructor."""
    with pytest.raises(TypeError, match=make.__name__):
        make(wrong)


@pytest.mark.parametrize("wrong", [5, b"x", ""])
def test_a_wrong_name_is_a_mistake_when_the_stage_is_made(wrong: Any) -> None:
    """Naming the option."""
    with pytest.raises((TypeError, ValueError), match="name"):
        function(print, name=wrong)


# transform.


def test_a_transform_maps_chunks() -> None:
    """As they come, none empty; what it yields goes on as it is."""
    got: list[bytes] = []

    def halves(chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            got.append(chunk)
            yield chunk[: len(chunk) // 2]
            yield b""

    assert (source([b"abcd", b"", b"ef"]) | transform(halves)).output() == b"abe"
    assert got == [b"abcd", b"ef"]


@pytest.mark.parametrize("returned", [None, b"bytes", "text", bytearray(b"x"), 5])
def test_a_transform_that_returns_no_iterable_of_bytes_is_a_type_error(returned: Any) -> None:
    """Bytes would be iterated as numbers; None is a forgotten yield."""
    result = transform(lambda _chunks: returned, name="mine").run(check=False, stdout=CAPTURE)
    assert result.error is not None
    assert isinstance(result.error.cause, TypeError)
    assert result.error.stage == "mine"


def test_a_transform_that_yields_str_fails_and_keeps_what_came_before() -> None:
    """Nothing is encoded in secret."""
    result = (echo("x") | transform(lambda _chunks: iter([b"a", "b"]))).run(check=False, stdout=CAPTURE)  # type: ignore[arg-type,return-value]
    assert result.error is not None
    assert isinstance(result.error.cause, TypeError)
    assert result.stdout == b"a"


def test_the_generator_of_a_transform_is_closed_when_its_reader_leaves() -> None:
    """Its `finally` has run by the end of the run."""
    closed = []

    def forever(_chunks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            while True:
                yield b"y\n"
        finally:
            closed.append(True)

    assert (transform(forever) | command("head", "-n", "1")).output() == b"y\n"
    assert closed == [True]


@pytest.mark.parametrize(
    "make", [function, each_line, functools.partial(scan, iter)], ids=["function", "each_line", "scan"]
)
def test_a_generator_function_is_refused_when_the_stage_is_made(make: Any) -> None:
    """Nobody would run its body, and the output would be empty without a word."""

    def body(*_: object) -> Any:
        yield b"x"

    with pytest.raises(TypeError, match=r"with yield is for transform\(\)"):
        make(body)

"""Every built-in stage passes the conformance suite, and so does a custom one that keeps the rules; one that
breaks a rule is told which.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import penstock
from penstock import Pipeline, Requirements, Stream, command, function, is_error, map_lines
from penstock.testing import check_stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.slow


BRIEF = 0.1
"""The seconds after which a broken stage counts as hanging here: only the sentences matter."""
LONGER = 0.5
"""The same where the stage must not count as hanging in other steps, which it ends."""


def copy(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass everything on."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


def keep_error(error: BaseException | None) -> BaseException | None:
    """Change nothing."""
    return error


def lines(stdin: Any) -> Iterator[bytes]:
    """Split lines off."""
    return iter(stdin.readline, b"")


BUILT_IN: dict[str, Callable[[], Pipeline]] = {
    "cat": lambda: command("cat"),
    "true": lambda: command("true"),
    "false": lambda: command("false"),
    "yes": lambda: command("yes"),
    "head": lambda: command("head", "-n", "1"),
    "sort": lambda: command("sort"),
    "function": lambda: function(copy),
    "transform": lambda: penstock.transform(lambda chunks: (chunk.upper() for chunk in chunks)),
    "transform_lines": lambda: penstock.transform_lines(sorted),
    "map_lines": lambda: map_lines(bytes.upper),
    "filter_lines": lambda: penstock.filter_lines(bytes.strip),
    "filter_lines, none kept": lambda: penstock.filter_lines(bytes.isdigit),
    "map_line_batches": lambda: penstock.map_line_batches(lambda lines: [line * 2 for line in lines]),
    "each_line": lambda: penstock.each_line(lambda _ctx, line, stdout: stdout.write(line)),
    "scan": lambda: penstock.scan(lines, lambda _ctx, line, stdout: stdout.write(line)),
    "source": lambda: penstock.source([b"chunk" * 1000] * 100),
    "echo": lambda: penstock.echo("hello"),
    "ignore_error of false": lambda: penstock.ignore_error(command("false"), is_error(penstock.ExitError)),
    "ignore_error of cat": lambda: penstock.ignore_error(command("cat"), is_error(Exception)),
    "filter_error": lambda: penstock.filter_error(map_lines(bytes.upper), keep_error),
    "memory_limit": lambda: penstock.memory_limit(command("cat"), "1GB"),
    "memory_observer": lambda: penstock.memory_observer(command("cat") | command("cat")),
    "command first in a pipeline": lambda: Pipeline(command("cat"), map_lines(bytes.upper), env={"A": "b"}),
    "command last in a pipeline": lambda: Pipeline(map_lines(bytes.upper), command("cat"), timeout=60),
    "a flat pipeline": lambda: map_lines(bytes.upper) | command("cat") | function(copy),
    "a pipeline without stages": Pipeline,
}


async def acopy(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass everything on."""
    async for chunk in stdin:
        await stdout.send(chunk)


async def areverse(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each chunk backwards."""
    async for chunk in chunks:
        yield chunk[::-1]


async def alines(each: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Every line as it is."""
    async for line in each:
        yield line


async def upper(line: bytes) -> bytes:
    """A line in upper case."""
    return line.upper()


async def double(batch: list[bytes]) -> list[bytes]:
    """Each line twice."""
    return [line * 2 for line in batch]


async def write(_ctx: object, line: bytes, stdout: Any) -> None:
    """The line without its LF."""
    await stdout.send(line)


class Chunks:
    """An async source that can be run more than once."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"chunk" * 1000


ASYNC: dict[str, Callable[[], Pipeline]] = {
    "async function": lambda: function(acopy),
    "async transform": lambda: penstock.transform(areverse),
    "async transform_lines": lambda: penstock.transform_lines(alines),
    "async map_lines": lambda: map_lines(upper),
    "async map_lines, concurrent": lambda: map_lines(upper, concurrency=4),
    "async filter_lines": lambda: penstock.filter_lines(upper, concurrency=4),
    "async map_line_batches": lambda: penstock.map_line_batches(double, concurrency=2),
    "async each_line": lambda: penstock.each_line(write, concurrency=4),
    "async source": lambda: penstock.source(Chunks()),
}
BUILT_IN.update(ASYNC)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_stage_passes(name: str) -> None:
    """Whatever a constructor makes keeps the contract that custom stages are held to."""
    check_stage(BUILT_IN[name], input=TEXT, expect=LOSSLESS.get(name))


# Custom stages that keep the rules.


class Upper:
    """Works in wait(), on in-memory streams or descriptors alike; the base of the broken ones below."""

    name: Any = "upper"
    requirements: Any = Requirements()

    def start(self, ctx: Any, stdin: Any, stdout: Any, /) -> Any:
        try:
            return self.running(ctx, stdin.reader, stdout.writer)
        except BaseException:
            stdin.close()
            stdout.close()
            raise

    def running(self, ctx: Any, reader: Any, writer: Any) -> Any:
        return RunningUpper(ctx, reader, writer)


class RunningUpper:
    def __init__(self, _ctx: Any, reader: Any, writer: Any) -> None:
        self.reader = reader
        self.writer = writer
        self.killed = False

    def wait(self) -> None:
        try:
            self.work()
        finally:
            self.close()

    def work(self) -> None:
        for chunk in self.reader.chunks():
            self.writer.write(chunk.upper())

    def close(self) -> None:
        self.reader.close()
        self.writer.close()

    def kill(self, reason: BaseException) -> None:
        self.killed = True
        self.reader.interrupt(reason)
        self.writer.interrupt(reason)


class Wrapper:
    """Has a command do the work, and says of its streams what it is told to."""

    def __init__(self, inner: Pipeline, requirements: Requirements) -> None:
        self.name = f"wrapped {inner.name}"
        self.requirements = requirements
        self.inner = inner

    def start(self, ctx: Any, stdin: Any, stdout: Any, /) -> Any:
        return self.inner.start(ctx, stdin, stdout)


class DescriptorCopy:
    """Copies by os.read and os.write on the descriptors that it asks for."""

    name = "descriptor-copy"
    requirements = Requirements(Stream.PREFER_FILE, Stream.PREFER_FILE)

    def start(self, _ctx: Any, stdin: Any, stdout: Any, /) -> RunningDescriptorCopy:
        try:
            return RunningDescriptorCopy(stdin, stdout)
        except BaseException:
            stdin.close()
            stdout.close()
            raise


class RunningDescriptorCopy:
    def __init__(self, stdin: Any, stdout: Any) -> None:
        self.stdin, self.stdout = stdin, stdout
        for fd in (stdin.fd, stdout.fd):
            os.set_blocking(fd, False)
        self.lock = threading.Lock()
        self.reason: BaseException | None = None
        self.woken, self.waker = os.pipe()

    def wait(self) -> None:
        try:
            while data := self.when_ready(self.stdin.fd, select.POLLIN, os.read, 65536):
                while data:
                    data = data[self.when_ready(self.stdout.fd, select.POLLOUT, os.write, data) :]
        finally:
            self.stdin.close()
            self.stdout.close()
            with self.lock:
                os.close(self.woken)
                os.close(self.waker)
                self.waker = -1

    def when_ready(self, fd: int, event: int, call: Callable[..., Any], argument: Any) -> Any:
        poll = select.poll()
        poll.register(fd, event)
        poll.register(self.woken, select.POLLIN)
        while True:
            poll.poll()
            if self.reason is not None:
                raise self.reason
            try:
                return call(fd, argument)
            except BlockingIOError:
                continue

    def kill(self, reason: BaseException) -> None:
        with self.lock:
            if self.reason is None and self.waker >= 0:
                self.reason = reason
                os.write(self.waker, b"x")


class FirstOnly(Upper):
    """Has no stdin, and reads none."""

    name = "first-only"
    requirements = Requirements(stdin=Stream.FORBIDDEN)

    def running(self, ctx: Any, reader: Any, writer: Any) -> RunningUpper:
        class Writing(RunningUpper):
            def work(self) -> None:
                self.writer.write(b"hello")

        return Writing(ctx, reader, writer)


class LastOnly(Upper):
    """Has no stdout, and writes none."""

    name = "last-only"
    requirements = Requirements(stdout=Stream.FORBIDDEN)

    def running(self, ctx: Any, reader: Any, writer: Any) -> RunningUpper:
        class Reading(RunningUpper):
            def work(self) -> None:
                self.reader.read()

        return Reading(ctx, reader, writer)


FILES = Requirements(Stream.PREFER_FILE, Stream.PREFER_FILE)
TEXT = (
    b"A line of text that is as long as many lines of text are.\n" * 4_000
)  # more than the pipes of a trial hold
LOSSLESS = {
    "cat": TEXT,
    "sort": TEXT,
    "function": TEXT,
    "map_lines": TEXT.upper(),
    "transform": TEXT.upper(),
    "ignore_error of cat": TEXT,
    "a flat pipeline": TEXT.upper(),
    "command first in a pipeline": TEXT.upper(),
    "async function": TEXT,
    "async transform_lines": TEXT,
    "async map_lines": TEXT.upper(),
    "async map_lines, concurrent": TEXT.upper(),
    "async filter_lines": TEXT,
    "command last in a pipeline": TEXT.upper(),
    "a pipeline without stages": TEXT,
    "in memory": TEXT.upper(),
    "wraps a command and passes its requirements on": TEXT,
    "wraps a command without passing its requirements on": TEXT,
    "wraps a pipeline": TEXT.upper(),
    "uses the descriptors themselves": TEXT,
}
"""What comes out where every byte counts."""
CUSTOM: dict[str, Callable[[], Any]] = {
    "in memory": Upper,
    "wraps a command and passes its requirements on": lambda: Wrapper(command("cat"), FILES),
    "wraps a command without passing its requirements on": lambda: Wrapper(command("cat"), Requirements()),
    "wraps a command that reads nothing": lambda: Wrapper(command("true"), Requirements()),
    "wraps a command that writes for ever": lambda: Wrapper(command("yes"), Requirements()),
    "wraps a pipeline": lambda: Wrapper(map_lines(bytes.upper) | command("cat"), Requirements()),
    "uses the descriptors themselves": DescriptorCopy,
    "has no stdin": FirstOnly,
    "has no stdout": LastOnly,
}


@pytest.mark.parametrize("name", CUSTOM)
def test_a_custom_stage_that_keeps_the_rules_passes(name: str) -> None:
    """The suite asks nothing that the contract does not."""
    check_stage(CUSTOM[name], input=TEXT, expect=LOSSLESS.get(name))


def test_an_async_stage_that_breaks_a_rule_is_told_which() -> None:
    """It is held to the same rules, on a loop of the suite's own."""

    async def goes_on(_ctx: object, stdin: Any, _stdout: Any) -> None:
        async for _ in stdin:
            pass
        await anyio.sleep_forever()

    async def changes(_ctx: object, stdin: Any, stdout: Any) -> None:
        async for chunk in stdin:
            await stdout.send(chunk.upper())

    said = complaint(lambda: function(goes_on), input=b"", timeout=BRIEF)
    assert f"a run of it between a Python source and a Python sink has not ended within {BRIEF:g} s" in said
    said = complaint(lambda: function(changes), input=b"a", expect=b"a")
    assert "writes b'A', but b'a' was expected" in said


def test_the_output_of_the_stage_is_compared_with_the_expected_one() -> None:
    """`expect` is the whole output for `input`."""
    check_stage(Upper, input=b"a\nb", expect=b"A\nB")
    assert "writes b'A', but b'a' was expected" in complaint(Upper, input=b"a", expect=b"a")


# Custom stages that break one.


def complaint(factory: Callable[[], Any], **options: Any) -> str:
    """What the suite has to say of a broken stage."""
    with pytest.raises(AssertionError) as caught:
        check_stage(factory, **options)
    return str(caught.value)


def broken(base: type[RunningUpper]) -> type[Upper]:
    """A stage whose running stage is `base`."""

    class Broken(Upper):
        def running(self, ctx: Any, reader: Any, writer: Any) -> RunningUpper:
            return base(ctx, reader, writer)

        def __reduce__(self) -> Any:
            raise TypeError("it does not claim to be picklable")

    return Broken


class KeepsStdoutOpen(RunningUpper):
    def close(self) -> None:
        self.reader.close()


class KeepsStdinOpen(RunningUpper):
    def close(self) -> None:
        self.writer.close()


class IgnoresKill(RunningUpper):
    def kill(self, reason: BaseException) -> None:
        pass


class WakesFromReadingOnly(RunningUpper):
    def kill(self, reason: BaseException) -> None:
        self.reader.interrupt(reason)


class KillFailsTheSecondTime(RunningUpper):
    def kill(self, reason: BaseException) -> None:
        if self.killed:
            raise RuntimeError("killed twice")
        super().kill(reason)


class KillFailsAfterTheEnd(RunningUpper):
    def kill(self, reason: BaseException) -> None:
        if self.reader.closed:
            raise ProcessLookupError("it has ended")
        super().kill(reason)


class HidesTheReason(RunningUpper):
    def work(self) -> None:
        with contextlib.suppress(penstock.PenstockError):
            super().work()


class MakesMuchOfAPipeError(RunningUpper):
    def work(self) -> None:
        try:
            super().work()
        except BrokenPipeError:
            raise RuntimeError("nobody reads me") from None


BROKEN: dict[type[RunningUpper], tuple[str, ...]] = {
    KeepsStdoutOpen: (
        "must end, and close its stdout, once its input has ended",
        "it has ended, but never closes its stdout, with memory as stdin",
    ),
    KeepsStdinOpen: ("it has ended, but never closes its stdin, with a descriptor as stdin",),
    IgnoresKill: (
        f"kill() has not woken it within {BRIEF} s from waiting for the first byte of stdin",
        f"kill() has not woken it within {BRIEF} s from reading stdin that never ends",
        f"kill() has not woken it within {BRIEF} s from writing stdout that nobody reads",
    ),
    WakesFromReadingOnly: (f"has not woken it within {BRIEF} s from writing stdout that nobody reads",),
    KillFailsTheSecondTime: ("a second kill() must not raise, but raised RuntimeError('killed twice')",),
    KillFailsAfterTheEnd: ("kill() after the end must not raise, but raised ProcessLookupError",),
    HidesTheReason: ("wait() must raise the reason given to kill(), but the outcome is None",),
    MakesMuchOfAPipeError: ("leaves early, it must end well or with a pipe error",),
}


OPTIONS: dict[type[RunningUpper], dict[str, Any]] = {
    KeepsStdoutOpen: {"timeout": LONGER, "input": b"a little\n"},
    KeepsStdinOpen: {"timeout": LONGER, "input": b"a little\n"},
    IgnoresKill: {"timeout": BRIEF},
    WakesFromReadingOnly: {"timeout": BRIEF},
    HidesTheReason: {"timeout": LONGER},
}
"""Where the suite waits in vain, it is to wait less long; the others do not cost its timeout."""


@pytest.mark.parametrize("running", BROKEN)
def test_a_running_stage_that_breaks_a_rule_is_told_which(running: type[RunningUpper]) -> None:
    """Each way to misbehave while running has its sentence."""
    text = complaint(broken(running), **OPTIONS.get(running, {}))
    assert [sentence for sentence in BROKEN[running] if sentence not in text] == []


def test_all_rules_that_are_broken_are_listed() -> None:
    """The first broken rule does not hide the second."""

    class Unnamed(broken(KeepsStdinOpen)):  # type: ignore[misc]
        name = ""

    text = complaint(Unnamed, timeout=BRIEF)
    assert "its name must be a non-empty str, not ''" in text
    assert "never closes its stdin" in text


@pytest.mark.parametrize("name", ["", None])
def test_a_name_is_a_str_that_is_not_empty(name: object) -> None:
    """Errors and events call a stage by its name."""
    stage = Upper()
    stage.name = name
    assert f"its name must be a non-empty str, not {name!r}" in complaint(lambda: stage)


def test_requirements_are_requirements() -> None:
    """Anything else is told at once, for nothing can be looked at then."""

    class Vague(Upper):
        requirements = None

    assert "its requirements must be a Requirements, not None" in complaint(Vague)


def test_a_stage_has_all_that_the_protocol_names() -> None:
    """What is no stage fails the suite by an AssertionError too."""

    class Bare:
        name = "bare"

        def start(self) -> None: ...

    assert "it is not a Stage: name, requirements or start() is missing" in complaint(Bare)
    assert "cannot be a stage of a pipeline: not a stage or pipeline" in complaint(object)


def test_a_pipeline_with_streams_of_its_own_is_not_a_stage() -> None:
    """A nested pipeline takes its streams from its parent."""
    assert "takes its streams from its parent" in complaint(lambda: Pipeline(command("cat"), input=b"x"))


def test_start_returns_a_running_stage() -> None:
    """None has neither wait() nor kill()."""

    class Forgetful(Upper):
        def start(self, _ctx: Any, stdin: Any, stdout: Any, /) -> None:
            stdin.close()
            stdout.close()

    assert "start() must return a RunningStage, with wait() and kill(), not None" in complaint(Forgetful)


def test_start_returns_at_once() -> None:
    """The work is done after start(), not in it."""

    class Eager(Upper):
        def start(self, _ctx: Any, stdin: Any, stdout: Any, /) -> Any:
            running = RunningUpper(None, stdin.reader, stdout.writer)
            running.work()
            return running

    assert "start() has not returned within 1 s" in complaint(Eager, timeout=BRIEF)


def test_a_stage_can_be_started() -> None:
    """A stage that never starts is told why."""
    assert "it cannot be started: FileNotFoundError" in complaint(lambda: command("no-such-program-anywhere"))


def test_streams_are_closed_where_the_start_fails() -> None:
    """A stage that forgets one of them hangs its neighbour."""

    class Careless(Upper):
        def start(self, ctx: Any, stdin: Any, stdout: Any, /) -> RunningUpper:
            return RunningUpper(ctx, stdin.reader, stdout.writer)

    text = complaint(Careless, timeout=LONGER, input=b"a little\n")
    assert "it never closes its stdout when it cannot run because its stdin was closed before" in text
    assert "it never closes its stdin when it cannot run because its stdout was closed before" in text


def test_wait_must_not_hang() -> None:
    """A stage whose work is done has ended."""
    released = threading.Event()

    class Hangs(RunningUpper):
        def wait(self) -> None:
            super().wait()
            released.wait()

    try:
        assert f"wait() has not ended within {2 * BRIEF:g} s of the end of its input" in complaint(
            broken(Hangs), timeout=2 * BRIEF
        )
    finally:
        released.set()


def test_a_stage_is_reusable_unless_it_says_otherwise() -> None:
    """A stage is a value; one that holds a generator is not."""

    def once() -> Pipeline:
        return penstock.source(chunk for chunk in [b"a", b"b"])

    assert "it is not reusable: the second run of the same stage writes nothing" in complaint(once)
    check_stage(once, reusable=False)


def test_a_stage_may_run_twice_at_once() -> None:
    """What belongs to a run belongs to the running stage."""

    class Exclusive(Upper):
        started = False

        def running(self, ctx: Any, reader: Any, writer: Any) -> RunningUpper:
            if self.started:
                raise RuntimeError("it was started before")
            self.started = True
            return RunningUpper(ctx, reader, writer)

    assert "it is not reusable: one of two runs at the same time fails" in complaint(Exclusive)


def test_nothing_is_left_behind() -> None:
    """Descriptors, threads and children are looked for after each rule."""
    descriptors: list[int] = []
    children: list[subprocess.Popen[bytes]] = []
    threads: list[threading.Thread] = []
    released = threading.Event()

    class LeavesADescriptor(RunningUpper):
        def work(self) -> None:
            descriptors.append(os.open(os.devnull, os.O_RDONLY))
            super().work()

    class LeavesAThread(RunningUpper):
        def work(self) -> None:
            threads.append(threading.Thread(target=released.wait, name="left"))
            threads[-1].start()
            super().work()

    class LeavesAChild(RunningUpper):
        def work(self) -> None:
            children.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
            super().work()

    try:
        assert "it leaves descriptor " in complaint(broken(LeavesADescriptor), timeout=BRIEF)
        assert "it leaves thread 'left' behind" in complaint(broken(LeavesAThread), timeout=BRIEF)
        assert "it leaves child process " in complaint(broken(LeavesAChild), timeout=BRIEF)
    finally:
        released.set()
        for thread in threads:
            thread.join()
        for fd in descriptors:
            os.close(fd)
        for child in children:
            child.communicate()


def test_a_stage_that_can_be_pickled_works_afterwards() -> None:
    """A pickle that cannot be used is worse than none."""

    class Broken(Upper):
        def __reduce__(self) -> Any:
            return int, ("no number",)

    class Different(Upper):
        def __reduce__(self) -> Any:
            return Wrapper, (command("cat"), FILES)

    assert "it can be pickled, but its pickle cannot be loaded: ValueError" in complaint(Broken)
    assert "its copy has another name or other requirements" in complaint(Different)


def test_the_factory_must_be_callable() -> None:
    """A stage in the place of a factory is a mistake of the caller's."""
    with pytest.raises(TypeError, match="takes a function that makes a stage"):
        check_stage(command("cat"))  # type: ignore[arg-type]


def test_it_needs_no_test_runner() -> None:
    """The suite imports nothing but the library and the standard library."""
    script = "import sys, penstock.testing; assert not {'pytest', 'psutil', 'click'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_stage_that_fails_in_a_branch_is_told() -> None:
    """There its stdin is a pipe, though its neighbours are Python stages."""

    class WantsEndsOfOneKind(Upper):
        def running(self, ctx: Any, reader: Any, writer: Any) -> Any:
            if type(reader).__name__ == "FdReader" and type(writer).__name__ != "FdWriter":
                raise RuntimeError("the ends are of two kinds")
            return super().running(ctx, reader, writer)

    with pytest.raises(AssertionError, match=r"in a branch of a graph it fails .*the ends are of two kinds"):
        check_stage(WantsEndsOfOneKind)

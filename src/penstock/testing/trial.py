"""Run a stage for the conformance suite: in whole runs, and in trials of the stage by itself.

A `StageTrial` starts a stage between two narrow pipes, in memory or of the kernel, and holds their other
ends: it plays both neighbours, in threads of its own. The stage gets a real context, which comes from a run
of a stage that does nothing else. Every call that may block runs in a thread that is joined with a timeout.

Out of scope: deciding whether a stage keeps a rule (`conformance`).
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.api.composition import checked_stage
from penstock.api.factories import function, source
from penstock.api.graphs import concat, tee
from penstock.api.pipeline import Pipeline
from penstock.core.constants import DEVNULL
from penstock.core.errors import Cancelled, FinishEarly, PipelineError, StartError
from penstock.core.noop import noop
from penstock.core.requirements import Requirements, Stream
from penstock.isolation.worker_pool import idle_descriptors, idle_pids
from penstock.streams.fd_streams import FdReader, FdWriter
from penstock.streams.memory_pipe import MemoryPipe
from penstock.streams.reader import BytesReader
from penstock.streams.stage_ends import Input, Output
from penstock.streams.writer import NullWriter
from penstock.system import procfs
from penstock.system.fds import pipe
from penstock.system.pipe_capacity import resize
from penstock.system.process import may_have_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from penstock.core.options import Options
    from penstock.testing.loop_thread import LoopThread

__all__ = ["Outcome", "ResourceSnapshot", "StageTrial", "StageUnderTest", "Task", "wait_until"]

_MAX_DRAINED_BYTES = 1 << 20
"""Bytes of output to read; then the reader leaves, because some stages never stop writing."""
_PIECE_SIZE = 4096
_MIN_TIMEOUT_S = 1.0
"""The least timeout in seconds for a step that should end at once, however short `timeout` is, because the
machine may be busy with something else.
"""


def wait_until(true: Callable[[], bool], timeout: float) -> bool:
    """Return whether `true()` becomes true within `timeout` seconds.

    It polls, because most of these conditions notify nobody, and does not wait if the condition holds now.
    """
    deadline = time.monotonic() + timeout
    looks = 0
    while not true():
        if time.monotonic() > deadline:
            return False
        if looks % 16 == 4:
            gc.collect()  # an object in a dead cycle is not a leak; most checks succeed before this is needed
        looks += 1
        threading.Event().wait(0.001)
    return True


class ResourceSnapshot:
    """The descriptors, threads and children of the process at one moment."""

    def __init__(self) -> None:
        self.descriptors: dict[int, str] = {}
        # Idle worker processes and threads stay for a while, by design.
        for fd in set(map(int, os.listdir("/dev/fd"))) - idle_descriptors():  # noqa: PTH208 - we need numbers, not paths
            with contextlib.suppress(OSError):  # the descriptor of the listing is closed by now
                status = os.fstat(fd)
                self.descriptors[fd] = f"descriptor {fd} (device {status.st_dev}, inode {status.st_ino})"
        own = ("penstock-supervisor", "penstock-worker")
        self.threads = {each for each in threading.enumerate() if not each.name.startswith(own)}
        children: set[int] = set()
        if may_have_children():  # looking for them takes milliseconds
            children = {pid for pid, parent in procfs.parents().items() if parent == os.getpid()}
        self.children = children - idle_pids()

    def leaked_since(self, before: ResourceSnapshot) -> list[str]:
        """Return descriptions of the resources that `before` does not have."""
        found = [text for fd, text in self.descriptors.items() if before.descriptors.get(fd) != text]
        found += [f"thread {thread.name!r}" for thread in self.threads - before.threads]
        return found + [f"child process {pid}" for pid in self.children - before.children]


class StageUnderTest:
    """The stage under test, with the parameters of `check_stage` and the outcome of its ordinary run."""

    def __init__(
        self, factory: Callable[[], Any], data: bytes, expect: bytes | None, *, reusable: bool, timeout: float
    ) -> None:
        self.factory = factory
        self.data = data
        self.expect = expect
        self.reusable = reusable
        self.timeout = timeout
        self.step_timeout = max(timeout, _MIN_TIMEOUT_S)
        self.timed_out_checks: set[str] = set()
        """The checks that have timed out once; they are made again, but without waiting."""
        self.stage = checked_stage(factory())
        self.loop: LoopThread | None = None
        """The event loop that runs it, if it is async."""
        self.ordinary: Outcome | None = None
        """The outcome of an undisturbed run; None before that, and if the run hung."""

    def fresh(self) -> Any:
        """Return a stage that never ran."""
        return checked_stage(self.factory())

    def waits_for(self, what: str, true: Callable[[], bool]) -> bool:
        """Return whether `true()` becomes true in time; after a timeout, `what` gets no second wait."""
        if wait_until(true, 0.0 if what in self.timed_out_checks else self.timeout):
            return True
        self.timed_out_checks.add(what)
        return False

    @property
    def ends(self) -> list[tuple[str, str]]:
        """The pairs of stdin and stdout that a run may pass to it: in memory, or descriptors."""
        wants = self.stage.requirements
        fixed = {Stream.FORBIDDEN: "no stream", Stream.PREFER_FILE: "a descriptor"}
        pairs = [
            (fixed.get(wants.stdin, kind), fixed.get(wants.stdout, kind))
            for kind in ("memory", "a descriptor")
        ]
        return list(dict.fromkeys(pairs))

    def run(self, stage: Any, data: bytes, *, branched: bool = False) -> Outcome:
        """Run the stage between a Python source and a Python sink.

        `branched`: in a graph, as a branch of a tee, or as a source that another stage reads.
        """
        wants = stage.requirements
        received: list[bytes] = []
        most = max(_MAX_DRAINED_BYTES, len(self.expect or b"") + 1)

        def collect(_ctx: object, stdin: Any, _stdout: object) -> None:
            size = 0
            for chunk in stdin.chunks():
                received.append(chunk)
                size += len(chunk)
                if size >= most:
                    raise FinishEarly

        parts = [stage]
        if wants.stdout is not Stream.FORBIDDEN:
            parts.append(function(collect))
        if wants.stdin is not Stream.FORBIDDEN:
            parts = [tee(Pipeline(*parts).to(DEVNULL))] if branched else parts
            parts.insert(0, source(list(_pieces(data))))
        elif branched:
            parts = [concat(*parts[:1]), *parts[1:]]
        options: Options = {"stdout": DEVNULL, "stderr": DEVNULL, "grace": min(2.0, self.timeout)}
        if self.loop is not None:
            result = self.loop.run(Pipeline(*parts), options, self.timeout)
            error = None if result is None else result.error
            return Outcome(b"".join(received), error, hangs=result is None)
        try:
            run = Pipeline(*parts).start(**options)
        except StartError as error:
            return Outcome(b"", error)
        try:
            result = run.wait(self.timeout, check=False)
        except TimeoutError:
            run.cancel("the conformance suite has waited long enough")
            with contextlib.suppress(TimeoutError):
                run.wait(self.timeout, check=False)
            return Outcome(b"".join(received), None, hangs=True)
        return Outcome(b"".join(received), result.error)


class Outcome:
    """The outcome of a run."""

    def __init__(self, output: bytes, error: PipelineError | None, *, hangs: bool = False) -> None:
        self.output = output
        self.error = error
        self.hangs = hangs

    def difference(self, other: Outcome) -> str | None:
        """Return a difference that a reusable stage must not show, or None."""
        if self.hangs:
            return "hangs"
        if self.error is not None and other.error is None:
            return f"fails ({self.error})"
        return "writes nothing" if other.output and not self.output else None


class Task(threading.Thread):
    """A call in a thread of its own; `error` is the exception that it raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(name=f"check-stage-{getattr(call, '__name__', 'call')}", daemon=True)
        self._call = call
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Make the call."""
        try:
            self._call()
        except BaseException as error:  # noqa: BLE001 - kept for the suite
            self.error = error

    def ends(self, timeout: float) -> bool:
        """Return whether the call ends within that many seconds."""
        self.join(timeout)
        return not self.is_alive()


class StageTrial:
    """One start of a stage between two narrow pipes; the suite holds their other ends."""

    def __init__(self, case: StageUnderTest, ends: tuple[str, str]) -> None:
        self._case = case
        self.where = f"with {ends[0]} as stdin and {ends[1]} as stdout"
        self.timeout = case.timeout
        self.stage = case.fresh() if case.loop is None else case.fresh().bind_loop(case.loop.loop)
        self.refusal: Exception | None = None
        self.waiter: Task | None = None
        self.running: Any = None
        self._tasks: list[Task] = []
        self._host = _Host(self.stage.name)
        grace = min(2.0, case.timeout / 2)
        self._run = Pipeline(self._host).start(stdout=DEVNULL, stderr=DEVNULL, grace=grace)
        self._make_stdin(ends[0])
        self._make_stdout(ends[1])

    def _make_stdin(self, kind: str) -> None:
        self.writer: Any = None
        self._stdin: Any = None
        if kind == "a descriptor":
            fd, other = pipe()
            resize(fd.fileno(), _PIECE_SIZE, asked_for=True)
            self.writer = FdWriter(other, owned_description=True)
            self.input, self._stdin = Input(fd), fd
        elif kind == "memory":
            memory = MemoryPipe(1)
            self.writer = memory.writer
            self.input, self._stdin = Input(stream=memory.reader), memory.reader
        else:
            self.input = Input(stream=BytesReader())

    def _make_stdout(self, kind: str) -> None:
        self.reader: Any = None
        self._stdout: Any = None
        if kind == "a descriptor":
            other, fd = pipe()
            resize(fd.fileno(), _PIECE_SIZE, asked_for=True)
            self.reader = FdReader(other, owned_description=True)
            self.output, self._stdout = Output(fd), fd
        elif kind == "memory":
            memory = MemoryPipe(1)
            self.reader = memory.reader
            self.output, self._stdout = Output(stream=memory.writer), memory.writer
        else:
            self.output = Output(stream=NullWriter())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close and join everything, as far as a stage that hangs lets us."""
        if self.waiter is not None and self.waiter.is_alive():
            Task(lambda: self.kill(Cancelled("the trial is over"))).join(self.timeout)
        for end in (self.reader, self.writer, self.input, self.output):
            if end is not None:
                end.close()
        for task in (self.waiter, *self._tasks):
            if task is not None:
                task.join(self.timeout)
        self._host.over.set()
        self._run.wait()

    def start(self) -> None:
        """Start the stage, and wait for it in a thread."""
        try:
            running = self.stage.start(self._host.ctx, self.input, self.output)
        except Exception as error:  # noqa: BLE001 - it may refuse with anything
            self.refusal = error
            return
        self.running = running
        self.waiter = Task(lambda: running.wait())  # noqa: PLW0108 - looked up in the thread: it may not be there

    def feed(self, data: bytes, *, close: bool = True) -> Task:
        """Write `data` to its stdin, and EOF if `close`; the stage need not read all of it."""

        def feeding() -> None:
            with contextlib.suppress(BrokenPipeError, ValueError):
                for piece in _pieces(data):
                    self.writer.write(piece)
                if close:
                    self.writer.close()

        return self._task(feeding if self.writer is not None else noop)

    def drain(self, most: int = _MAX_DRAINED_BYTES) -> Task:
        """Read its stdout until EOF, at most `most` bytes; then close it."""

        def draining() -> None:
            left = most
            while left > 0:
                chunk = self.reader.read1(left)
                left = left - len(chunk) if chunk else 0
            self.reader.close()

        return self._task(draining if self.reader is not None else noop)

    def peek(self) -> Task:
        """Read one byte of its stdout, or EOF; then read no more."""
        return self._task((lambda: self.reader.read1(1)) if self.reader is not None else noop)

    def kill(self, reason: BaseException) -> None:
        """Cancel the stage, as a run does."""
        self._host.ctx.cancel(reason)
        if self.running is not None:
            self.running.kill(reason)

    def ends(self) -> bool:
        """Return whether its wait() ends in time; a stage that refused to start has ended."""
        return self.waiter is None or self.waiter.ends(self.timeout)

    @property
    def error(self) -> BaseException | None:
        """The exception that its start() or its wait() raised."""
        return self.refusal if self.waiter is None else self.waiter.error

    def open_streams(self) -> list[str]:
        """Return the names of the streams that it does not close."""
        streams = {"stdin": self._stdin, "stdout": self._stdout}
        return [
            name
            for name, end in streams.items()
            if end is not None and not self._case.waits_for(name, partial(getattr, end, "closed"))
        ]

    def _task(self, call: Callable[[], object]) -> Task:
        task = Task(call)
        self._tasks.append(task)
        return task


class _Host:
    """A stage that waits until it is released; a trial takes its context."""

    requirements = Requirements()

    def __init__(self, name: str) -> None:
        self.name = name
        self.ctx: Any = None
        self.over = threading.Event()

    def start(self, ctx: Any, stdin: Any, stdout: Any, /) -> Self:
        self.ctx = ctx
        stdin.close()
        stdout.close()
        return self

    def wait(self) -> None:
        self.over.wait()

    def kill(self, reason: BaseException) -> None:
        self.over.set()


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[start : start + _PIECE_SIZE] for start in range(0, len(data), _PIECE_SIZE))

"""What the conformance suite does with a stage: whole runs, and trials of the stage by itself.

A `StageTrial` starts a stage between two narrow pipes, in memory or of the kernel, and holds their other
ends: it plays both neighbours, in threads of its own. The context that the stage is given is a real one,
taken from a run of a stage that does nothing else. Whatever may block happens in a thread that is joined with
a timeout. What may not live here: any judgement of what is seen, which is `testing`'s.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.api.factories import function, source
from penstock.api.pipeline import Pipeline, checked_stage
from penstock.core.constants import DEVNULL
from penstock.core.errors import Cancelled, FinishEarly, PipelineError, StartError
from penstock.core.noop import noop
from penstock.core.stage import Requirements, Stream
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
"""Bytes of output that are looked at; then the reader leaves, since some stages never stop writing."""
_PIECE_SIZE = 4096
_MIN_TIMEOUT_S = 1.0
"""Seconds that a step which ought to be over at once has at least, however short a hang was said to be: the
machine may be busy with something else.
"""


def wait_until(true: Callable[[], bool], timeout: float) -> bool:
    """Whether it comes true. What is over by now is not waited for; the rest tells nobody of its end."""
    deadline = time.monotonic() + timeout
    looks = 0
    while not true():
        if time.monotonic() > deadline:
            return False
        if looks % 16 == 4:
            gc.collect()  # what only a dead cycle holds is not kept; but most is over before that is asked
        looks += 1
        threading.Event().wait(0.001)
    return True


class ResourceSnapshot:
    """What the process holds at one moment."""

    def __init__(self) -> None:
        self.descriptors: dict[int, str] = {}
        # Idle workers stay a while, by design: processes are one kind, threads another.
        for fd in set(map(int, os.listdir("/dev/fd"))) - idle_descriptors():  # noqa: PTH208 - numbers are wanted, not paths
            with contextlib.suppress(OSError):  # the listing's own is closed by now
                status = os.fstat(fd)
                self.descriptors[fd] = f"descriptor {fd} (device {status.st_dev}, inode {status.st_ino})"
        own = ("penstock-supervisor", "penstock-worker")
        self.threads = {each for each in threading.enumerate() if not each.name.startswith(own)}
        children: set[int] = set()
        if may_have_children():  # to look for them takes milliseconds
            children = {pid for pid, parent in procfs.parents().items() if parent == os.getpid()}
        self.children = children - idle_pids()

    def leaked_since(self, before: ResourceSnapshot) -> list[str]:
        """What is held now and was not before."""
        found = [text for fd, text in self.descriptors.items() if before.descriptors.get(fd) != text]
        found += [f"thread {thread.name!r}" for thread in self.threads - before.threads]
        return found + [f"child process {pid}" for pid in self.children - before.children]


class StageUnderTest:
    """The stage under test, and what is known of it."""

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
        """What it has been waited for in vain; such a thing is looked at again, and no longer waited for."""
        self.stage = checked_stage(factory())
        self.loop: LoopThread | None = None
        """The event loop that serves it, where it needs one."""
        self.ordinary: Outcome | None = None
        """How it ended when nothing was done to it; None before that, and where it hung."""

    def fresh(self) -> Any:
        """A stage that was never run."""
        return checked_stage(self.factory())

    def waits_for(self, what: str, true: Callable[[], bool]) -> bool:
        """Whether it comes true within the timeout; it has no second one for the same `what`."""
        if wait_until(true, 0.0 if what in self.timed_out_checks else self.timeout):
            return True
        self.timed_out_checks.add(what)
        return False

    @property
    def ends(self) -> list[tuple[str, str]]:
        """The pairs of ends that a run may give to it: in memory, or descriptors."""
        wants = self.stage.requirements
        fixed = {Stream.FORBIDDEN: "no stream", Stream.PREFER_FILE: "a descriptor"}
        pairs = [
            (fixed.get(wants.stdin, kind), fixed.get(wants.stdout, kind))
            for kind in ("memory", "a descriptor")
        ]
        return list(dict.fromkeys(pairs))

    def run(self, stage: Any, data: bytes) -> Outcome:
        """Run it between a Python source and a Python sink."""
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
        if wants.stdin is not Stream.FORBIDDEN:
            parts.insert(0, source(list(_pieces(data))))
        if wants.stdout is not Stream.FORBIDDEN:
            parts.append(function(collect))
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
    """How a run ended."""

    def __init__(self, output: bytes, error: PipelineError | None, *, hangs: bool = False) -> None:
        self.output = output
        self.error = error
        self.hangs = hangs

    def difference(self, other: Outcome) -> str | None:
        """In what the two differ, as far as a stage must do the same each time."""
        if self.hangs:
            return "hangs"
        if self.error is not None and other.error is None:
            return f"fails ({self.error})"
        return "writes nothing" if other.output and not self.output else None


class Task(threading.Thread):
    """A call in a thread of its own; `error` is what it raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(name=f"check-stage-{getattr(call, '__name__', 'call')}", daemon=True)
        self._call = call
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Call it."""
        try:
            self._call()
        except BaseException as error:  # noqa: BLE001 - kept for who asks
            self.error = error

    def ends(self, timeout: float) -> bool:
        """Whether it ends within that many seconds."""
        self.join(timeout)
        return not self.is_alive()


class StageTrial:
    """One start of a stage between two narrow pipes whose other ends are the suite's."""

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
        """Let go of everything, of a stage that hangs too as far as it lets us."""
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
        except Exception as error:  # noqa: BLE001 - whatever it refuses with
            self.refusal = error
            return
        self.running = running
        self.waiter = Task(lambda: running.wait())  # noqa: PLW0108 - looked up in the thread: it may not be there

    def feed(self, data: bytes, *, close: bool = True) -> Task:
        """Give it `data`, and EOF where `close`; that it does not take it all is fine."""

        def feeding() -> None:
            with contextlib.suppress(BrokenPipeError, ValueError):
                for piece in _pieces(data):
                    self.writer.write(piece)
                if close:
                    self.writer.close()

        return self._task(feeding if self.writer is not None else noop)

    def drain(self, most: int = _MAX_DRAINED_BYTES) -> Task:
        """Read what it writes until EOF, at most that many bytes; then close."""

        def draining() -> None:
            left = most
            while left > 0:
                chunk = self.reader.read1(left)
                left = left - len(chunk) if chunk else 0
            self.reader.close()

        return self._task(draining if self.reader is not None else noop)

    def peek(self) -> Task:
        """Read one byte of what it writes, or see EOF; then hold still."""
        return self._task((lambda: self.reader.read1(1)) if self.reader is not None else noop)

    def kill(self, reason: BaseException) -> None:
        """Tell it to end, as a run does."""
        self._host.ctx.cancel(reason)
        if self.running is not None:
            self.running.kill(reason)

    def ends(self) -> bool:
        """Whether its wait() ends in time; one that refused to start has ended."""
        return self.waiter is None or self.waiter.ends(self.timeout)

    @property
    def error(self) -> BaseException | None:
        """What its start or its wait() raised."""
        return self.refusal if self.waiter is None else self.waiter.error

    def open_streams(self) -> list[str]:
        """Which of its streams it does not close."""
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
    """A stage that does nothing until it is let go: what a trial has its context from."""

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

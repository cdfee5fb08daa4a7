"""Random pipelines, options and actions against a simple model of what they promise.

A stage of the model is a function from its whole input to its whole output, and the error that it ends with.
All of them turn a beginning of an input into a beginning of the output, so of a run that was ended in the
middle as much can be told: what came out is the beginning of what would have come.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from penstock import (
    PIPE,
    ExitError,
    FinishEarly,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    command,
    function,
    ignore_error,
    is_error,
    map_lines,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock import Run

pytestmark = pytest.mark.slow


def copy(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass everything on."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


def upper(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass everything on in capitals."""
    return map(bytes.upper, chunks)


def fail(_ctx: object, stdin: Any, _stdout: Any) -> None:
    """Read everything, and fail."""
    stdin.read()
    raise LookupError("on purpose")


def taste(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Take three bytes, and end."""
    stdout.write(stdin.read(3))
    raise FinishEarly


class Kind(NamedTuple):
    make: Callable[[str], Pipeline]
    output: Callable[[bytes], bytes]
    fails: bool = False
    early: bool = False
    """It may end before its input does."""


def same(data: bytes) -> bytes:
    """The output of those who pass everything on."""
    return data


def lines(data: bytes) -> bytes:
    """The output of a line stage: the last line ends in a LF, whether it did or not."""
    return data.upper() if not data or data.endswith(b"\n") else data.upper() + b"\n"


KINDS = {
    "cat": Kind(lambda name: command("cat", name=name), same),
    "tr": Kind(lambda name: command("tr", "a-z", "A-Z", name=name), bytes.upper),
    "copy": Kind(lambda name: function(copy, name=name), same),
    "transform": Kind(
        lambda name: transform(lambda chunks: map(bytes.upper, chunks), name=name), bytes.upper
    ),
    "lines": Kind(lambda name: map_lines(bytes.upper, name=name), lines),
    "nested": Kind(lambda name: Pipeline(command("cat", name=name), name="group"), same),
    "exit": Kind(lambda name: command("sh", "-c", "cat; exit 3", name=name), same, fails=True),
    "fail": Kind(lambda name: function(fail, name=name), lambda _data: b"", fails=True),
    "forgiven": Kind(
        lambda name: ignore_error(function(fail, name=name), is_error(LookupError)), lambda _data: b""
    ),
    "head": Kind(lambda name: command("head", "-c", "3", name=name), lambda data: data[:3], early=True),
    "taste": Kind(lambda name: function(taste, name=name), lambda data: data[:3], early=True),
}


class Going:
    """A run and what is known of it."""

    def __init__(self, kinds: list[str], run: Run, options: dict[str, Any]) -> None:
        self.kinds = [KINDS[kind] for kind in kinds]
        self.run = run
        self.options = options
        self.written = b""
        self.read = b""
        self.killed: list[int] = []
        self.reason: BaseException | None = None
        self.commands = [place for place, kind in enumerate(kinds) if kind in COMMANDS]
        self.children: dict[int, psutil.Process] = {}
        # There are fewer children where its deadline came while it was being started.
        for place, pid in zip(self.commands, run.pids, strict=False):
            with contextlib.suppress(psutil.NoSuchProcess):  # so soon
                self.children[place] = psutil.Process(pid)

    @property
    def whole(self) -> bytes:
        """What comes out where nothing comes in between."""
        data = self.written
        for kind in self.kinds:
            data = kind.output(data)
        return data

    @property
    def steady(self) -> bool:
        """Whether all of its stages go on until their input ends."""
        return not (self.killed or self.reason or any(kind.early for kind in self.kinds))


COMMANDS = {"cat", "tr", "nested", "exit", "head"}


class Machine(RuleBasedStateMachine):
    """Some runs at one time, and what may be done to them."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Going] = []

    def pick(self, number: int) -> Going:
        """One of them."""
        return self.runs[number % len(self.runs)]

    @precondition(lambda self: len(self.runs) < 3)
    @rule(
        kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5),
        fail_fast=st.booleans(),
        timeout=st.sampled_from([None, None, None, 60, 0.01]),
    )
    def start(self, kinds: list[str], fail_fast: bool, timeout: float | None) -> None:  # noqa: FBT001 - an option
        """Start one."""
        stages = [KINDS[kind].make(f"stage {place}") for place, kind in enumerate(kinds)]
        options: dict[str, Any] = {"fail_fast": fail_fast, "timeout": timeout, "grace": 0.5}
        run = Pipeline(*stages).start(stdin=PIPE, stdout=PIPE, **options)
        self.runs.append(Going(kinds, run, options))

    @precondition(lambda self: self.runs)
    @rule(number=st.integers(0, 5), data=st.binary(max_size=300) | st.sampled_from([b"some\nlines\nof text"]))
    def write(self, number: int, data: bytes) -> None:
        """Give one a little, which its first pipe has room for."""
        going = self.pick(number)
        assert going.run.stdin is not None
        if not going.run.stdin.closed:  # it is once the run is known to have ended
            with contextlib.suppress(BrokenPipeError):
                going.run.stdin.write(data)
                going.written += data

    @precondition(lambda self: self.runs)
    @rule(number=st.integers(0, 5))
    def cancel(self, number: int) -> None:
        """End one; the first reason stands."""
        going = self.pick(number)
        reason = KeyError("mine")
        going.run.cancel(reason)
        going.reason = going.reason or reason

    @precondition(lambda self: any(going.steady and going.commands for going in self.runs))
    @rule(number=st.integers(0, 5), victim=st.integers(0, 5))
    def kill(self, number: int, victim: int) -> None:
        """Kill one of the commands of one that goes on until its input ends."""
        steady = [going for going in self.runs if going.steady and going.commands]
        going = steady[number % len(steady)]
        place = going.commands[victim % len(going.commands)]
        with contextlib.suppress(psutil.NoSuchProcess, KeyError):  # where its deadline came first
            going.children[place].kill()
        going.killed.append(place)

    @precondition(lambda self: any(going.steady and going.commands for going in self.runs))
    @rule(number=st.integers(0, 5), place=st.integers(0, 5))
    def stop(self, number: int, place: int) -> None:
        """Have one of the commands stand still, until the run is brought to its end."""
        steady = [going for going in self.runs if going.steady and going.commands]
        going = steady[number % len(steady)]
        with contextlib.suppress(psutil.NoSuchProcess, KeyError):
            going.children[going.commands[place % len(going.commands)]].suspend()

    @precondition(lambda self: self.runs)
    @rule(number=st.integers(0, 5))
    def look(self, number: int) -> None:
        """Wait for one that may go on: that changes nothing."""
        going = self.pick(number)
        assert going.run.stdin is not None
        with contextlib.suppress(TimeoutError, PipelineError):
            going.run.wait(0)
        if going.steady and going.options["timeout"] is None:
            assert not going.run.done()

    @precondition(lambda self: self.runs)
    @rule(number=st.integers(0, 5))
    def end(self, number: int) -> None:
        """Let one come to its end, and look at what it has come to."""
        going = self.pick(number)
        self.runs.remove(going)
        self.finish(going)

    def teardown(self) -> None:
        """Let all come to their ends."""
        while self.runs:
            self.finish(self.runs.pop())

    def finish(self, going: Going) -> None:
        """The bytes and the verdict are the model's."""
        run = going.run
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.close()
        for child in going.children.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.resume()
        with run.stdout:
            data = run.stdout.read()
        result = run.wait(check=False)
        assert run.done()
        # Where the input of a line stage is cut off within a line, that has its LF all the same.
        assert going.whole.startswith((data, data.removesuffix(b"\n")))
        error = result.error
        failing = [place for place, kind in enumerate(going.kinds) if kind.fails]
        late = isinstance(error, PipelineTimeout) and going.options["timeout"] == 0.01
        if going.reason is not None and isinstance(error, PipelineCancelled):
            assert error.cause is going.reason
        elif late:
            pass
        elif going.killed or failing:
            assert isinstance(error, PipelineError)
            blamed = {*failing, *going.killed}
            # The first of them, unless it was ended because of another.
            assert error.index in (blamed if going.options["fail_fast"] else {min(blamed)})
            assert error.stage == f"stage {error.index}"
            if isinstance(error.cause, ExitError):
                assert error.cause.returncode == (-signal.SIGKILL if error.index in going.killed else 3)
            else:
                assert isinstance(error.cause, LookupError)
        else:
            assert error is None or going.reason is not None
            assert data == going.whole or going.reason is not None


def test_runs_are_what_the_model_says() -> None:
    """Whatever is done to them, in whatever order."""
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=15,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            deadline=None,
        ),
    )

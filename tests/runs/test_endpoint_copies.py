"""Copies to and from endpoints that are not simply passed: what ends them, and whose error it is.

What they carry is seen in `test_planner.py`.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    DEVNULL,
    INHERIT,
    PIPE,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    command,
    function,
)
from penstock.engine.stdin_endpoints import stdin_endpoint
from penstock.engine.stdout_choice import stdout_endpoint
from penstock.runtime.dispatcher import Dispatcher
from penstock.runtime.events import EventEmitter
from penstock.runtime.supervisor import supervisor
from penstock.stages.run_services import RunResources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Pair: TypeAlias = tuple[socket.socket, socket.socket]

COMMAND = command("cat")
STAGES = {
    "command": COMMAND,
    "function": function(lambda _ctx, stdin, stdout: stdout.writelines(stdin.chunks()), name="copy"),
}


@pytest.fixture
def sockets() -> Iterator[Callable[[str], Pair]]:
    """Makes connected pairs, closed after the test."""
    with contextlib.ExitStack() as stack:

        def make(kind: str) -> Pair:
            if kind == "tcp":
                with socket.create_server(("127.0.0.1", 0)) as server:
                    one = socket.create_connection(server.getsockname())
                    other = server.accept()[0]
            else:
                one, other = socket.socketpair()
            return stack.enter_context(one), stack.enter_context(other)

        yield make


# What ends a copy between a descriptor and a command.


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_descriptor_that_never_ends_does_not_keep_a_finished_pipeline(
    sockets: Callable[[str], Pair], kind: str
) -> None:
    """The copy is woken; the socket stays open and non-blocking."""
    endless, _other = sockets(kind)
    endless.settimeout(0)
    assert command("true").run(stdin=endless).ok
    assert endless.fileno() >= 0
    assert not os.get_blocking(endless.fileno())


def test_a_descriptor_that_becomes_blocking_in_between_is_still_let_go(
    sockets: Callable[[str], Pair],
) -> None:
    """The copy waits where it can be woken, whatever the flags say meanwhile."""
    one, other = sockets("tcp")
    one.settimeout(0)
    with pytest.raises(PipelineCancelled), COMMAND.start(stdin=one, stdout=PIPE) as run:  # noqa: PT012
        assert run.stdout is not None
        for blocking in (False, True, True):
            os.set_blocking(one.fileno(), blocking)
            other.sendall(b"ab")
            assert run.stdout.read(2) == b"ab"
        run.cancel()
        run.wait(timeout=DEADLINE)


def test_a_first_stage_that_leaves_is_not_an_error_of_the_copy(sockets: Callable[[str], Pair]) -> None:
    """EPIPE while feeding."""
    one, other = sockets("tcp")
    one.settimeout(0)
    other.sendall(b"abcdef" * 1000)
    result = command("head", "-c", "3").run(stdin=one, stdout=CAPTURE, timeout=DEADLINE)
    assert result.stdout == b"abc"


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_peer_that_has_gone_is_an_error_of_stdout(sockets: Callable[[str], Pair], kind: str) -> None:
    """And ends an endless producer."""
    one, other = sockets(kind)
    one.settimeout(0)
    other.close()
    with pytest.raises(PipelineError) as caught:
        command("yes").run(stdout=one, timeout=DEADLINE)
    assert caught.value.stage == "stdout"
    assert isinstance(caught.value.cause, ConnectionError)


def test_a_reset_connection_is_an_error_of_stdin(sockets: Callable[[str], Pair]) -> None:
    """It is not the end of the input."""
    one, other = sockets("tcp")
    one.settimeout(0)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    other.close()
    with pytest.raises(PipelineError) as caught:
        COMMAND.run(stdin=one, stdout=DEVNULL, timeout=DEADLINE)
    assert caught.value.stage == "stdin"
    assert isinstance(caught.value.cause, ConnectionResetError)


def test_a_sink_that_takes_nothing_ends_with_the_deadline(sockets: Callable[[str], Pair]) -> None:
    """The copy is woken out of its wait for room."""
    one, _other = sockets("unix")
    one.settimeout(0)
    with pytest.raises(PipelineTimeout):
        command("yes").run(stdout=one, timeout=0.2, grace=0.2)


# Objects that copy by themselves.


class Failing:
    """A source and a sink that raises when it is asked to copy."""

    def write_to(self, _: Any) -> None:
        raise KeyError("mine")

    def read_from(self, _: Any) -> None:
        raise KeyError("mine")


@pytest.mark.parametrize("stage", ["command", "function"])
@pytest.mark.parametrize("side", ["stdin", "stdout"])
def test_an_error_of_who_copies_by_itself_is_that_of_the_endpoint(stage: str, side: str) -> None:
    """A stage named stdin or stdout."""
    options: dict[str, Any] = {"stdin": DEVNULL, "stdout": DEVNULL, side: Failing()}
    with pytest.raises(PipelineError) as caught:
        STAGES[stage].run(**options)
    assert caught.value.stage == side
    assert isinstance(caught.value.cause, KeyError)


@pytest.mark.parametrize("stage", [command("true"), function(lambda _ctx, _stdin, _stdout: None)])
def test_a_source_that_never_stops_writing_ends_with_the_pipeline(stage: Pipeline) -> None:
    """Its write raises, and that is no error of the run."""
    ended = threading.Event()

    class Endless:
        def write_to(self, destination: Any) -> None:
            try:
                while True:
                    destination.write(bytes(65536))
            finally:
                ended.set()

    source = Endless()
    result = (stage | COMMAND).run(stdin=source, stdout=DEVNULL)
    assert result.ok
    assert result.edges[0].kind == "read-from"


def test_a_sink_that_copies_by_itself_is_woken_by_the_deadline() -> None:
    """Its read raises the reason."""
    seen: list[BaseException] = []
    ended = threading.Event()

    class Sink:
        def read_from(self, source: Any) -> None:
            try:
                source.read()
            except BaseException as error:
                seen.append(error)
                raise
            finally:
                ended.set()

    with pytest.raises(PipelineTimeout):
        command("sleep", "60").run(stdout=Sink(), timeout=0.2, grace=0.2)
    assert ended.wait(DEADLINE)
    assert len(seen) <= 1


def test_a_sink_that_copies_by_itself_is_flushed_when_it_can_be() -> None:
    """As one that is written to."""

    class Sink:
        flushed = False
        found = b""

        def read_from(self, source: Any) -> None:
            self.found = source.read()

        def flush(self) -> None:
            self.flushed = True

    sink = Sink()
    assert COMMAND.run(input=b"x", stdout=sink).edges[-1].kind == "read-from"
    assert sink.flushed
    assert sink.found == b"x"


# Endpoints are part of a plan, so they serve any number of runs.


def _state(endpoint: Any) -> list[Any]:
    names = [name for kind in type(endpoint).__mro__ for name in getattr(kind, "__slots__", ())]
    return [getattr(endpoint, name) for name in names]


@pytest.fixture
def given(tmp_path: Path, sockets: Callable[[str], Pair]) -> Callable[[str], Any]:
    """Makes what may be given as stdin or stdout, by name."""
    path = tmp_path / "file"
    path.touch()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    blocking, nonblocking = sockets("unix")
    nonblocking.settimeout(0)
    values = {
        "DEVNULL": DEVNULL,
        "INHERIT": INHERIT,
        "PIPE": PIPE,
        "CAPTURE": CAPTURE,
        "path": path,
        "FIFO": fifo,
        "descriptor": blocking,
        "non-blocking": nonblocking,
        "object": io.BytesIO(),
        "copier": Failing(),
    }
    return values.__getitem__


@pytest.mark.parametrize("wants_file", [True, False])
@pytest.mark.parametrize(
    "name",
    ["DEVNULL", "INHERIT", "PIPE", "path", "FIFO", "descriptor", "non-blocking", "object", "copier", "input"],
)
def test_a_stdin_endpoint_opens_again_and_keeps_nothing(
    given: Callable[[str], Any], name: str, *, wants_file: bool
) -> None:
    """Two ports have nothing in common, and the endpoint is as it was."""
    endpoint = stdin_endpoint(DEVNULL, b"data") if name == "input" else stdin_endpoint(given(name), None)
    before = _state(endpoint)
    ports = [endpoint.open(supervisor(), None, wants_file=wants_file) for _ in range(2)]
    assert ports[0].input is not ports[1].input
    assert _state(endpoint) == before
    for port in ports:
        port.abandon()


@pytest.mark.parametrize("wants_file", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "DEVNULL",
        "INHERIT",
        "PIPE",
        "CAPTURE",
        "path",
        "FIFO",
        "descriptor",
        "non-blocking",
        "object",
        "copier",
    ],
)
def test_a_stdout_endpoint_opens_again_and_keeps_nothing(
    given: Callable[[str], Any], name: str, *, wants_file: bool
) -> None:
    """As for stdin."""
    endpoint = stdout_endpoint(given(name))
    before = _state(endpoint)
    resources = RunResources([], EventEmitter(None, Dispatcher()))
    ports = [
        endpoint.open_for(resources, supervisor(), None, lambda: None, wants_file=wants_file)
        for _ in range(2)
    ]
    assert ports[0].output is not ports[1].output
    assert _state(endpoint) == before
    for port in ports:
        port.abandon()

"""A program that runs pipelines on order, and says in JSON what came of each; for strace to attach to.

It says "ready", then answers each byte of its stdin by a line: to "?" what is left of all its runs, to "d"
and "!" the outcomes of pipelines: "all" of the bytes came, or the stage and the cause of the error, or what
should never be.
"""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock import (
    CAPTURE,
    DEVNULL,
    ExitError,
    PipelineError,
    PipelineTimeout,
    StartError,
    command,
    function,
)
from penstock.core.timing import timing
from penstock.system import fds

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock import Result

    Outcome = tuple[bytes, PipelineError | None]

DATA = b"".join(b"%d\n" % number for number in range(20_000))


def copy(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass everything on."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


COMMANDS = command("cat", name="c1") | command("cat", name="c2")
MIXED = function(copy, name="f1") | command("cat", name="c1") | function(copy, name="f2")


def of(result: Result) -> Outcome:
    """What was captured, and the error."""
    return result.stdout or b"", result.error


def started() -> Outcome:
    """By the supervisor, out of an object."""
    try:
        return of(MIXED.start(stdin=io.BytesIO(DATA), stdout=CAPTURE).wait(check=False))
    except StartError as error:
        return b"", error


def iterated() -> Outcome:
    """Line by line."""
    lines: list[bytes] = []
    try:
        lines.extend(line + b"\n" for line in COMMANDS.iter_lines(input=DATA))
    except PipelineError as error:
        return b"".join(lines), error
    return b"".join(lines), None


def copied() -> Outcome:
    """From an object into an object."""
    sink = io.BytesIO()
    error = COMMANDS.run(check=False, stdin=io.BytesIO(DATA), stdout=sink).error
    return sink.getvalue(), error


def spliced() -> Outcome:
    """Out of a socket that may not be passed on, and that holds all of it."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(0)
        with theirs:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            theirs.sendall(DATA)
        return of(COMMANDS.run(check=False, stdout=CAPTURE, stdin=ours))


def deadline() -> Outcome:
    """A command that is ended in time; the time that it takes is seen by the one who waits for the line."""
    stage = command("sleep", "60", name="sleeper")
    error = stage.run(check=False, stdout=DEVNULL, timeout=0.01, grace=0.2).error
    return (DATA, None) if isinstance(error, PipelineTimeout) else (b"", error)


CASES: dict[str, Callable[[], Outcome]] = {
    "commands": lambda: of(COMMANDS.run(check=False, stdout=CAPTURE, input=DATA)),
    "mixed": lambda: of(MIXED.run(check=False, stdout=CAPTURE, input=DATA)),
    "started": started,
    "iterated": iterated,
    "copied": copied,
    "spliced": spliced,
}
"""What is run for "!"; a deadline, which looks at all processes of the machine, is run for "d"."""


def told(case: Callable[[], Outcome]) -> str | list[str]:
    """Run a pipeline, and put in words what came of it."""
    try:
        data, error = case()
    except BaseException as raised:  # noqa: BLE001 - nothing but a PipelineError may come: it is told
        return f"raised {raised!r}"
    if error is None:
        return "all" if data == DATA else f"{len(data)} bytes of {len(DATA)}, and no error"
    if not DATA.startswith(data):
        return "other bytes"
    if isinstance(error.cause, ExitError):
        return [error.stage or "", "exit"]
    number = getattr(error.cause, "errno", None)
    return [error.stage or "", repr(error.cause) if number is None else errno.errorcode[number]]


def held() -> dict[int, str]:
    """The descriptors that are open, and what they are."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except FileNotFoundError:  # the one that read the folder
            continue
    return found


def left(before: dict[int, str]) -> list[str]:
    """What is there that was not there before, and does not go away."""
    over = time.monotonic() + 5
    while True:
        found = [target for number, target in held().items() if before.get(number) != target]
        try:
            os.waitpid(-1, os.WNOHANG)
            found.append("a child")
        except ChildProcessError:
            pass
        found += [path.name for path in Path(tempfile.gettempdir()).iterdir()]
        if not found or time.monotonic() > over:
            return found


def again(call: Callable[..., Any]) -> Callable[..., Any]:
    """What no kernel refuses, and what this program says itself, is done until it is done."""

    def insist(*arguments: Any) -> Any:
        while True:
            try:
                return call(*arguments)
            except OSError:
                continue

    return insist


read, write = again(os.read), again(os.write)


def say(text: str) -> None:
    """Write a line."""
    data = text.encode() + b"\n"
    while data:
        data = data[write(1, data) :]


def main() -> None:
    """Run what is asked for, until nothing is."""
    for name in ("wake", "clear"):
        setattr(fds.Waker, name, again(getattr(fds.Waker, name)))
    signal.signal(signal.SIGUSR1, lambda *_: None)
    timing.thread_idle_s = 3600.0  # strace sees only the threads that it finds, so none may end
    for case in [*CASES.values(), deadline] * 2:  # so that what is loaded late is there
        assert told(case) == "all"
    before = held()
    say("ready")
    while order := read(0, 1):
        if order == b"?":
            say(json.dumps(left(before)))
        elif order == b"d":
            say(json.dumps({"deadline": told(deadline)}))
        else:
            say(json.dumps({name: told(case) for name, case in CASES.items()}))


if __name__ == "__main__":
    main()

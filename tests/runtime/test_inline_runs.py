"""A run that no other thread has a part in needs nothing to be woken by; any other is woken at once."""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from penstock import CAPTURE, DEVNULL, STDOUT, Pipeline, command, function, ignore_error, is_sigpipe
from penstock.runtime import reactor
from penstock.system import fds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.fixtures import SetTiming

CAT, TRUE = command("cat"), command("true")
FAILS = command("sh", "-c", "echo no >&2; exit 1")


@pytest.fixture
def wakers(monkeypatch: pytest.MonkeyPatch) -> list[fds.Waker]:
    """Those that reactors make from now on."""
    made: list[fds.Waker] = []

    def make() -> fds.Waker:
        made.append(fds.Waker())
        return made[-1]

    monkeypatch.setattr(reactor, "Waker", make)
    return made


ALONE: dict[str, Callable[[Path], object]] = {
    "a command": lambda _path: TRUE.run(stdout=DEVNULL),
    "captured": lambda _path: (command("echo", "x") | CAT).output(),
    "fed": lambda _path: CAT.output(input=b"x" * 200_000),
    "with paths": lambda path: (CAT | CAT).run(stdin="/etc/passwd", stdout=str(path / "out")),
    "with a deadline": lambda _path: command("sleep", "60").run(timeout=0.01, grace=0.01, check=False),
    "one that fails": lambda _path: FAILS.run(check=False, stderr=CAPTURE),
    "in one another": lambda _path: Pipeline(Pipeline(TRUE, cwd="/"), TRUE).run(
        stderr=STDOUT, stdout=DEVNULL
    ),
}


@pytest.mark.parametrize("kind", ALONE)
def test_nothing_is_made_to_wake_it(kind: str, wakers: list[fds.Waker], tmp_path: Path) -> None:
    """Nor would it be missed: the kernel tells of all that happens."""
    ALONE[kind](tmp_path)
    assert wakers == []


def slow(_ctx: object, stdin: Any, _stdout: Any) -> None:
    """Read all, in another thread."""
    stdin.read()


def passed_on(path: Path) -> None:
    """A non-blocking descriptor for stderr, known by its number: written by a worker."""
    number = os.open(path / "err", os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK)
    try:
        command("sh", "-c", "head -c 4M /dev/zero >&2").run(stderr=number)
    finally:
        os.close(number)


WOKEN: dict[str, Callable[[Path], object]] = {
    "a function": lambda _path: (TRUE | function(slow)).run(),
    "a filter": lambda _path: ignore_error(TRUE, is_sigpipe).run(),
    "into an object": lambda _path: command("echo", "x").run(stdout=io.BytesIO()),
    "from an object": lambda _path: CAT.run(stdin=io.BytesIO(b"x"), stdout=DEVNULL),
    "a handler": lambda _path: TRUE.run(on_event=lambda _event: None),
    "lines of stderr": lambda _path: command("sh", "-c", "seq 300000 >&2").run(stderr=lambda _line: None),
    "a descriptor that a worker writes": passed_on,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WOKEN)
def test_a_run_in_which_another_thread_has_a_part_is_woken(
    kind: str, wakers: list[fds.Waker], tmp_path: Path, set_timing: SetTiming
) -> None:
    """However long it would sleep otherwise."""
    set_timing(max_sleep_s=20.0)
    began = time.monotonic()
    WOKEN[kind](tmp_path)
    assert time.monotonic() - began < 15
    assert wakers

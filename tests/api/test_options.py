"""Mistakes in options: TypeErrors and ValueErrors that name the option, before anything starts.

What the values of each option are is asked in `tests/core/test_options.py`; here, that every door checks.
"""

from __future__ import annotations

import array
import contextlib
import io
import math
import os
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from penstock import CAPTURE, DEVNULL, INHERIT, PIPE, STDOUT, Pipeline, closing, command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


# One method, one door. `input` and `stdout` of the methods that decide about them are asked for below.
DOORS: dict[str, Callable[..., object]] = {
    "constructor": Pipeline,
    "replace": lambda probe, **options: Pipeline(probe).replace(**options),
    "run": lambda probe, **options: Pipeline(probe).run(**options),
    "output": lambda probe, **options: Pipeline(probe).output(**options),
    "text": lambda probe, **options: Pipeline(probe).text(**options),
    "iter_bytes": lambda probe, **options: Pipeline(probe).iter_bytes(**options),
    "iter_lines": lambda probe, **options: Pipeline(probe).iter_lines(**options),
    "start": lambda probe, **options: Pipeline(probe).start(**options),
    "explain": lambda probe, **options: Pipeline(probe).explain(**options),
}
CAPTURING = {"output", "text", "iter_bytes", "iter_lines"}

MISTAKES: list[tuple[str, Any]] = [
    ("name", 5),
    ("name", b"x"),
    ("name", ""),
    ("cwd", 5),
    ("cwd", ""),
    ("cwd", "a\0b"),
    ("cwd", True),
    ("env", "A=1"),
    ("env", [("A", "1")]),
    ("env", {"A": 1}),
    ("env", {"A": b"x"}),
    ("env", {1: "A"}),
    ("env", {"": "x"}),
    ("env", {"A=B": "x"}),
    ("env", {"A\0": "x"}),
    ("env", {"A": "x\0"}),
    ("env", {"A": "\ud800"}),
    ("inherit_env", 0),
    ("inherit_env", None),
    ("stdin", None),
    ("stdin", False),
    ("stdin", b"data"),
    ("stdin", bytearray(b"data")),
    ("stdin", memoryview(b"data")),
    ("stdin", array.array("B", [1])),
    ("stdin", 1.5),
    ("stdin", object()),
    ("stdin", CAPTURE),
    ("stdin", STDOUT),
    ("stdin", -2),
    ("stdin", -17),
    ("stdin", ""),
    ("stdin", "a\0b"),
    ("stdin", closing),
    ("stdout", None),
    ("stdout", True),
    ("stdout", 1.5),
    ("stdout", object()),
    ("stdout", []),
    ("stdout", b"path"),
    ("stdout", STDOUT),
    ("stdout", -99),
    ("stdout", ""),
    ("stdout", "a\0b"),
    ("stderr", None),
    ("stderr", False),
    ("stderr", PIPE),
    ("stderr", -1),
    ("stderr", -42),
    ("stderr", ""),
    ("stderr", 1.5),
    ("input", 5),
    ("input", True),
    ("input", ["x"]),
    ("input", io.BytesIO()),
    ("input", "\ud800"),
    ("on_event", 5),
    ("on_event", "print"),
    ("on_exception", 5),
    ("timeout", "5"),
    ("timeout", True),
    ("timeout", -1),
    ("timeout", -1e-9),
    ("timeout", math.nan),
    ("timeout", -math.inf),
    ("timeout", 10**400),
    ("timeout", timedelta(seconds=-1)),
    ("timeout", [1]),
    ("grace", None),
    ("grace", "2"),
    ("grace", False),
    ("grace", -0.5),
    ("grace", math.nan),
    ("fail_fast", 1),
    ("fail_fast", None),
    ("pipe_errors", "ignore"),
    ("pipe_errors", None),
    ("pipe_errors", True),
    ("pipe_errors", []),
    ("pipe_size", 0),
    ("pipe_size", -1),
    ("pipe_size", True),
    ("pipe_size", 1.5),
    ("pipe_size", "64K"),
]


def ids(value: object) -> str:
    """Tell the cases apart, alike in each session."""
    return type(value).__name__ if " at 0x" in repr(value) else f"{value!r:.20}"


@pytest.mark.parametrize(("option", "value"), MISTAKES, ids=ids)
def test_a_mistake_names_the_option_and_nothing_starts(probe: Any, option: str, value: Any) -> None:
    """At every door, at the call itself: an iterator does not wait for its first `next()`."""
    answers: dict[str, object] = {}
    for door, call in DOORS.items():
        try:
            answers[door] = call(probe, **{option: value})
        except (TypeError, ValueError) as error:
            if option not in str(error):
                answers[door] = error
    assert not answers
    assert probe.starts == 0


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("option", ["time_out", "shell", "capture_output", "universal_newlines", "stages"])
def test_an_unknown_option_is_a_type_error_that_names_it(probe: Any, door: str, option: str) -> None:
    """Also where subprocess has one of that name."""
    with pytest.raises(TypeError, match=option):
        DOORS[door](probe, **{option: 1})
    assert probe.starts == 0


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("data", [b"", b"x", "", "x"])
@pytest.mark.parametrize("stdin", [INHERIT, "/etc/hosts", 0, PIPE, [b"x"], []])
def test_input_together_with_stdin_is_a_value_error(probe: Any, door: str, data: Any, stdin: Any) -> None:
    """An empty input is an input, and an empty list a stdin."""
    with pytest.raises(ValueError, match="stdin"):
        DOORS[door](probe, input=data, stdin=stdin)
    assert probe.starts == 0


@pytest.mark.parametrize("door", ["run", "output", "text", "iter_bytes", "iter_lines"])
def test_pipe_needs_start(probe: Any, door: str) -> None:
    """Whoever waits cannot serve a pipe at the same time; wherever the option comes from."""
    with pytest.raises(ValueError, match="stdin"):
        DOORS[door](probe, stdin=PIPE)
    with pytest.raises(ValueError, match="stdin"):
        DOORS[door](probe, stdin=subprocess.PIPE)
    with pytest.raises((ValueError, TypeError), match="stdout"):
        DOORS[door](probe, stdout=PIPE)
    pipeline = Pipeline(probe, stdin=PIPE)
    with pytest.raises(ValueError, match="stdin"):
        getattr(pipeline, door)()
    assert probe.starts == 0
    with pytest.raises(ValueError, match="stdout"):
        Pipeline(probe, stdout=PIPE).run()
    assert probe.starts == 0


@pytest.mark.parametrize("door", sorted(CAPTURING))
@pytest.mark.parametrize("stdout", [CAPTURE, DEVNULL, PIPE, "/dev/null", 1])
def test_a_method_that_delivers_stdout_takes_no_stdout(probe: Any, door: str, stdout: Any) -> None:
    """It would have nothing to deliver. A pipeline's own stdout is put aside instead."""
    with pytest.raises(TypeError, match="stdout"):
        DOORS[door](probe, stdout=stdout)
    assert probe.starts == 0


def test_methods_that_return_stdout_ignore_the_pipelines_own_stdout(tmp_path: Path) -> None:
    """The file that it names is not even opened."""
    path = tmp_path / "out"
    pipeline = Pipeline(command("cat"), stdout=path, input=b"a\n")
    assert pipeline.output() == b"a\n"
    assert pipeline.text() == "a\n"
    assert list(pipeline.iter_bytes()) == [b"a\n"]
    assert list(pipeline.iter_lines()) == [b"a"]
    assert not path.exists()
    assert Pipeline(command("cat"), stdout=PIPE, input=b"a").output() == b"a"


# Descriptors and files.


@pytest.mark.parametrize("door", [door for door in DOORS if door not in ("constructor", "replace")])
@pytest.mark.parametrize("option", ["stdin", "stdout", "stderr"])
def test_a_number_that_is_not_an_open_descriptor_is_a_value_error(probe: Any, door: str, option: str) -> None:
    """It may be opened between the making of a pipeline and its run, so it is looked at then."""
    if option == "stdout" and door in CAPTURING:
        return  # these take no stdout
    if option == "stderr" and door == "explain":
        return  # a plan is about stdin and stdout
    lowest = os.open("/dev/null", os.O_RDWR)
    os.close(lowest)
    for number in (lowest, 987):
        with pytest.raises(ValueError, match=option):
            began(DOORS[door](probe, **{option: number}))
    assert probe.starts == 0


def began(made: Any) -> None:
    """Take the first step of an iterator, which is when it starts the run; end what a mistake started."""
    if hasattr(made, "close"):
        with contextlib.closing(made):
            next(made, None)


def closed_file() -> io.BytesIO:
    """Return a file object that can do nothing any more."""
    file = io.BytesIO()
    file.close()
    return file


@pytest.mark.parametrize("door", ["run", "start"])
@pytest.mark.parametrize("option", ["stdin", "stdout", "stderr"])
def test_a_closed_file_is_a_value_error(probe: Any, door: str, option: str) -> None:
    """With `closing` too."""
    for value in (closed_file(), closing(closed_file())):
        with pytest.raises(ValueError, match=option):
            DOORS[door](probe, **{option: value})
    assert probe.starts == 0


def test_a_file_of_the_wrong_mode_is_a_value_error(probe: Any, tmp_path: Path) -> None:
    """Binary or text, buffered or raw."""
    path = tmp_path / "file"
    path.touch()
    for mode, kwargs in (("b", {}), ("b", {"buffering": 0}), ("", {"encoding": "utf-8"})):
        options: Any = kwargs
        with path.open("r" + mode, **options) as reading, path.open("a" + mode, **options) as writing:
            with pytest.raises(ValueError, match="stdin"):
                Pipeline(probe).run(stdin=writing)
            with pytest.raises(ValueError, match="stdout"):
                Pipeline(probe).run(stdout=reading)
            with pytest.raises(ValueError, match="stderr"):
                Pipeline(probe).run(stderr=reading)
    assert probe.starts == 0


@pytest.mark.parametrize("wrong", [None, "path", object(), b"x", 1.5])
def test_closing_takes_what_can_be_closed(wrong: Any) -> None:
    """A path is nobody's to close."""
    with pytest.raises(TypeError, match="closing"):
        closing(wrong)


# What is allowed.


@pytest.mark.parametrize(
    "timeout",
    [
        60,
        60.0,
        timedelta(minutes=1),
        timedelta.max,
        None,
        math.inf,
        1e9,
        1e18,
        1e300,
        2**40,
    ],
)
def test_a_deadline_may_be_arbitrarily_far_away(timeout: Any) -> None:
    """No limit of some clock shows through."""
    assert Pipeline(command("true"), timeout=timeout).run().ok
    assert command("true").start(timeout=timeout).wait().ok


@pytest.mark.parametrize("grace", [0, 0.0, timedelta(0), 1e18, math.inf, timedelta.max])
def test_a_grace_time_may_be_arbitrarily_long(grace: Any) -> None:
    """Also where it is asked for."""
    run = command("sleep", "60").start(grace=grace)
    run.cancel()
    assert not run.wait(check=False).ok


@pytest.mark.parametrize("pipe_size", [1, 4096, 4097, 1 << 20, 1 << 40, None])
def test_a_pipe_size_is_a_wish(pipe_size: int | None) -> None:
    """The kernel may refuse it; the run goes on."""
    assert (command("cat") | command("cat")).output(input=b"x", pipe_size=pipe_size) == b"x"

"""Habits from subprocess and from a shell: the error says what to write instead."""

from __future__ import annotations

import contextlib
import inspect
import io
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from penstock import (
    CAPTURE,
    DEVNULL,
    Limits,
    Pipeline,
    Secret,
    StartError,
    closing,
    command,
    map_lines,
    merge,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.hosts import Host

LS = command("ls")
any_command: Any = command
"""To a type checker it takes anything."""
any_merge: Any = merge


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"text": True}, ".text()"),
        ({"universal_newlines": True}, ".text()"),
        ({"encoding": "utf-8"}, ".text(encoding="),
        ({"capture_output": True}, ".output()"),
        ({"shell": True}, 'command("sh", "-c"'),
        ({"ok_codes": (0, 1)}, "belongs to command(): command(..., ok_codes=...)"),
        ({"user": "nobody"}, "belongs to command()"),
        ({"start_new_session": True}, "process_group=True"),
        ({"preexec_fn": print}, "limits"),
        ({"no_such_option": 1}, "the options are name, cwd"),
    ],
)
def test_an_option_of_subprocess_says_what_to_write(option: dict[str, Any], said: str) -> None:
    """For each way to give options: the pipeline, a run, an output, and the async methods."""
    name = next(iter(option))
    for call in (
        LS.run,
        LS.output,
        LS.iter_lines,
        LS.start,
        LS.aoutput,
        LS.aiter_bytes,
        LS.replace,
        Pipeline,
    ):
        with pytest.raises(TypeError) as caught:
            _finish(call(**option))
        assert f"unknown option {name!r}" in str(caught.value)
        assert said in str(caught.value)


def _finish(made: Any) -> None:
    if inspect.iscoroutine(made):
        made.send(None)


def test_check_belongs_to_run() -> None:
    """The other methods always raise."""
    with pytest.raises(TypeError, match=r"only run\(\) takes it"):
        LS.output(check=False)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (
            {"timeout": 5},
            r"'timeout': it belongs to Pipeline\(...\) or to a run, as in command\(...\).run\(timeout=",
        ),
        ({"stdin": DEVNULL}, r"run\(stdin="),
        ({"input": "x"}, r"run\(input="),
        ({"fail_fast": True}, r"run\(fail_fast="),
        ({"shell": True}, r"there is no shell"),
        ({"capture_output": True}, r"output\(\)"),
        ({"text": True}, r"\.text\(\)"),
        ({"no_such_option": 1}, r"no_such_option"),
    ],
)
def test_an_option_that_command_does_not_have_is_shown_its_place(option: dict[str, Any], said: str) -> None:
    """A TypeError, as for any function."""
    with pytest.raises(TypeError, match=said) as caught:
        command("ls", **option)
    assert next(iter(option)) in str(caught.value)


def test_a_type_error_of_an_argument_stays_what_it_is() -> None:
    """Only an unknown option is answered."""
    with pytest.raises(TypeError, match="ok_codes must be an iterable"):
        command("ls", ok_codes=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="program"):
        command()  # type: ignore[call-arg]
    assert inspect.signature(command).parameters["name"].default is None


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("no-such-ls -l", 'command("no-such-ls", "-l")'),
        (b"no-such-ls -l", 'command("no-such-ls", "-l")'),
        ("/no/such/ls -l /tmp", 'command("/no/such/ls", "-l", "/tmp")'),
        ("no-such-ls -a -b -c -d -e", 'command("no-such-ls", "-a", "-b", "-c", ...)'),
        ("no-such-ls | wc -l", 'join commands by |, or write command("sh", "-c", "...")'),
        ("no-such-ls 'a b'", 'command("sh", "-c", "...")'),
        ("~/no-such-program", "expanduser"),
    ],
)
@pytest.mark.parametrize("limits", [None, Limits(nice=1)], ids=["plain", "limits"])
def test_a_line_in_the_place_of_a_program_says_what_to_write(
    program: Any, said: str, limits: Limits | None
) -> None:
    """The error of the start, because a program may have blanks in its name."""
    error = command(program, limits=limits).run(check=False).error
    assert isinstance(error, StartError)
    assert said in str(error)
    assert isinstance(error.cause, FileNotFoundError)
    assert "no such program" in str(error)


def test_a_program_with_blanks_in_its_name_runs(tmp_path: Path) -> None:
    """The hint is for those that do not exist."""
    program = tmp_path / "my program"
    program.write_text("#!/bin/sh\necho ran\n", encoding="utf-8")
    program.chmod(0o755)
    assert command(program).text() == "ran\n"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: any_command(["ls", "-l"]), "write command('ls', '-l')"),
        (lambda: any_command(("ls",)), "write command('ls')"),
        (lambda: any_command(["ls", 5]), r"write command(*args)"),
        (lambda: any_command(["a", "b", "c", "d", "e"]), "write command('a', 'b', 'c', 'd', ...)"),
        (lambda: any_command("ls", ["-l", "x"]), "write each argument by itself: '-l', 'x'"),
        (lambda: any_command("ls", ["-l", Secret("hunter2")]), "by itself: '-l', ***"),
        (lambda: any_command("head", "-n", 5), "write str(5)"),
        (lambda: any_command("diff", LS, LS), "reading(...) makes a file name"),
        (lambda: any_merge("ls"), "write command(...) for a program, or command('cat', path)"),
        (lambda: any_merge([LS, LS]), "write each by itself"),
        (lambda: any_merge(len), "wrap a function in function()"),
    ],
)
def test_an_argument_of_another_type_says_what_to_write(call: Callable[[], object], said: str) -> None:
    """A list is what subprocess takes."""
    with pytest.raises(TypeError) as caught:
        call()
    assert said in str(caught.value)


@pytest.mark.parametrize("option", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("wrap", [contextlib.closing, contextlib.aclosing])
def test_closing_of_contextlib_is_told_from_ours(option: str, wrap: Callable[[Any], Any]) -> None:
    """It has the same name; the message says which one is meant."""
    options: Any = {option: wrap(io.BytesIO())}
    with pytest.raises(TypeError, match=rf"^{option} .*write penstock\.closing"):
        LS.run(**options)
    file = io.BytesIO()
    command("true").run(**{option: closing(file)})  # type: ignore[arg-type]
    assert file.closed


@pytest.mark.parametrize(
    ("name", "said"), [("check_output", "output()"), ("communicate", "output(input=...)"), ("poll", "done()")]
)
def test_a_method_of_subprocess_says_what_to_write(name: str, said: str) -> None:
    """An AttributeError, as for any other name."""
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'") as caught:
        getattr(LS, name)
    assert said in str(caught.value)
    assert caught.value.name == name
    with pytest.raises(AttributeError, match=r"'no_such_name'$"):
        LS.no_such_name  # type: ignore[attr-defined] # noqa: B018
    assert not hasattr(map_lines(bytes.upper), "fileno")


@pytest.mark.parametrize("name", ["run", "check_output", "Popen", "call", "CalledProcessError"])
def test_a_function_of_subprocess_says_what_to_write(name: str) -> None:
    """`penstock.run` is what one tries first."""
    with pytest.raises(AttributeError, match=rf"has no attribute '{name}'; write "):
        getattr(penstock, name)
    assert not hasattr(penstock, name)


def test_the_calls_that_the_hints_name_work() -> None:
    """As they say it."""
    assert command("printf", "x").text() == "x"
    assert command("printf", "x").output() == b"x"
    assert command("printf", "x").run(check=False, stdout=CAPTURE).stdout == b"x"
    assert command("sh", "-c", "exit 3").run(check=False).returncode == 3


def test_the_peak_memory_of_a_command_is_at_least_that_of_the_host_before(host: Host) -> None:
    """Because the kernel counts it in; `StageResult.max_rss` says so."""
    ended = host.run("""
        first = command("true").run().stages[0].max_rss
        block = bytearray(200_000_000)
        block[::4096] = bytes(len(block[::4096]))
        large = command("true").run().stages[0].max_rss
        del block
        say(first < 150_000_000, large > 200_000_000)
        """)
    assert ended.out.startswith("True True"), ended

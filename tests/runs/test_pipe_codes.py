"""Programs that turn EPIPE into an exit status of their own: `pipe_codes`."""

from __future__ import annotations

import pickle
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    DEVNULL,
    ExitError,
    FinishEarly,
    Pipeline,
    PipelineError,
    command,
    function,
    ignore_error,
    is_closed_pipe,
    is_epipe,
    is_pipe_error,
    is_sigpipe,
)

if TYPE_CHECKING:
    from pathlib import Path

HEAD = command("head", "-n", "1")


def turns(code: int, **options: Any) -> Pipeline:
    """Write until there is no reader, and exit with `code`: a program that ignores SIGPIPE."""
    script = f"trap '' PIPE; yes 2>/dev/null; exit {code}"
    return command("sh", "-c", script, name="turns", **options)


def test_a_status_that_says_epipe_is_forgiven_as_sigpipe_is() -> None:
    """Where the next stage has had enough; and the status can still be seen."""
    result = (turns(23, pipe_codes=(23,)) | HEAD).run(stdout=DEVNULL)
    assert result.ok
    assert result.returncodes == (23, 0)
    error = result.stages[0].error
    assert isinstance(error, ExitError)
    assert error.broken_pipe
    assert is_epipe(error)
    assert is_pipe_error(error)
    assert not is_sigpipe(error)
    assert not is_closed_pipe(error)
    assert is_pipe_error(pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize("options", [{}, {"pipe_codes": ()}, {"pipe_codes": (24, 141)}])
def test_any_other_status_is_a_failure(options: dict[str, Any]) -> None:
    """As before."""
    error = (turns(23, **options) | HEAD).run(stdout=DEVNULL, check=False).error
    assert error is not None
    assert (error.stage, error.index) == ("turns", 0)
    assert not is_pipe_error(error)


def test_a_chain_of_such_programs_is_forgiven() -> None:
    """Also one in the middle, whose own reader has had enough."""
    middle = command("sh", "-c", "trap '' PIPE; cat 2>/dev/null; exit 255", pipe_codes=(255,))
    assert (command("yes") | middle | HEAD).run(stdout=DEVNULL).ok
    assert (turns(9, pipe_codes=[9]) | function(leave_early)).run(stdout=DEVNULL).ok


def leave_early(_ctx: object, stdin: Any, _stdout: object) -> None:
    """Read a byte, and end the stage."""
    stdin.read(1)
    raise FinishEarly


def test_it_is_an_error_where_sigpipe_is_one() -> None:
    """In the last stage, above a stage that failed, and with `pipe_errors="report"`."""
    last = command("sh", "-c", "exit 23", pipe_codes=(23,), name="last")
    with pytest.raises(PipelineError, match="last: exit status 23"):
        last.run()
    failing = command("sh", "-c", "head -n 1; exit 5", name="failing")
    error = (turns(23, pipe_codes=(23,)) | failing).run(stdout=DEVNULL, check=False).error
    assert error is not None
    assert error.stage == "failing"
    with pytest.raises(PipelineError, match="turns: exit status 23"):
        (turns(23, pipe_codes=(23,)) | HEAD).run(stdout=DEVNULL, pipe_errors="report")


def test_fail_fast_and_ignore_error_take_it_for_a_pipe_error() -> None:
    """As SIGPIPE."""
    assert (turns(23, pipe_codes=(23,)) | HEAD | command("cat")).run(stdout=DEVNULL, fail_fast=True).ok
    assert ignore_error(command("sh", "-c", "exit 23", pipe_codes=(23,)), is_pipe_error).run().ok


def test_a_status_in_ok_codes_is_a_success() -> None:
    """Whether it is in `pipe_codes` too or not."""
    result = command("sh", "-c", "exit 23", ok_codes=(0, 23), pipe_codes=(23,)).run()
    assert result.stages[0].error is None


@pytest.mark.parametrize("wrong", [23, "23", b"23", [None], [True], ["23"], None])
def test_wrong_codes_are_a_mistake_that_names_the_option(wrong: Any) -> None:
    """When the stage is made."""
    with pytest.raises(TypeError, match="pipe_codes"):
        command("true", pipe_codes=wrong)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_says_it_by_23(tmp_path: Path) -> None:
    """As the docstring of `command` says."""
    (tmp_path / "big").write_bytes(b"y\n" * (1 << 20))
    curl = command("curl", "-s", f"file://{tmp_path}/big", pipe_codes=(23,))
    result = (curl | HEAD).run(stdout=DEVNULL)
    assert result.returncodes == (23, 0)


def test_python_says_it_by_1() -> None:
    """Its BrokenPipeError is not caught."""
    script = "while True: print('y', flush=True)"
    result = (command(sys.executable, "-c", script, pipe_codes=(1, 120)) | HEAD).run(stdout=DEVNULL)
    assert result.returncodes == (1, 0)

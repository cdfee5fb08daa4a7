"""`stderr=NEXT`: the stderr of a command goes to the next stage, with its stdout or alone."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import sh

from penstock import (
    CAPTURE,
    DEVNULL,
    INHERIT,
    NEXT,
    PIPE,
    STDOUT,
    TEE,
    Pipeline,
    PipelineError,
    StartError,
    appending,
    atomic,
    closing,
    command,
    function,
    ignore_error,
    map_lines,
    tee,
    writing,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.hosts import Host

    from penstock import Stage

SAYS = "echo out; echo err >&2"
READERS = {
    "command": command("cat"),
    "function": map_lines(lambda line: line),
    "isolated": map_lines(bytes.strip, isolate="process"),
    "nested": Pipeline(command("cat"), command("cat")),
}


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> Pipeline:
    """The next stage."""
    return READERS[request.param]


def test_both_go_to_the_next_stage(reader: Pipeline) -> None:
    assert (sh(SAYS, stderr=NEXT) | reader).text() == "out\nerr\n"


def test_stderr_goes_alone_if_stdout_goes_elsewhere(reader: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "aside"
    assert (sh(SAYS, stderr=NEXT, stdout=path) | reader).text() == "err\n"
    assert path.read_text() == "out\n"


def test_neither_is_captured() -> None:
    result = (sh(SAYS, stderr=NEXT) | command("cat")).run(stdout=CAPTURE)
    assert [stage.stderr for stage in result.stages] == [b"", b""]
    assert result.stdout == b"out\nerr\n"


@pytest.mark.parametrize("count", [1, 200_000])
def test_every_byte_arrives_and_is_counted(count: int) -> None:
    result = (sh(f"seq {count}; seq {count} >&2", stderr=NEXT) | map_lines(lambda _line: None)).run()
    size = 2 * len("".join(f"{n}\n" for n in range(1, count + 1)))
    assert result.edges[1].bytes == size


def test_the_option_of_a_pipeline_holds_for_all_its_commands_but_the_last() -> None:
    pipeline = sh("echo one >&2") | sh("cat; echo two >&2") | map_lines(bytes.upper)
    assert pipeline.text(stderr=NEXT) == "ONE\nTWO\n"
    nested = Pipeline(sh("echo one >&2"), sh("cat; echo two >&2"), stderr=NEXT)
    assert (nested | command("cat")).text() == "one\ntwo\n"


def test_an_own_option_goes_before_that_of_the_pipeline() -> None:
    pipeline = sh("echo one >&2", stderr=DEVNULL) | sh("cat; echo two >&2", stderr=STDOUT)
    assert pipeline.text(stderr=NEXT) == "two\n"


@pytest.mark.parametrize(
    ("pipeline", "options"),
    [
        (Pipeline(command("last", stderr=NEXT)), {}),
        (command("first") | command("last", stderr=NEXT), {}),
        (command("first") | command("last"), {"stderr": NEXT}),
        (Pipeline(command("last"), stderr=NEXT), {}),
        (command("first") | Pipeline(command("last"), stderr=NEXT), {}),
        (command("first") | ignore_error(command("last", stderr=NEXT), bool), {}),
        (command("first") | Pipeline(command("last"), name="inner"), {"stderr": NEXT}),
        (Pipeline(command("last", stderr=NEXT, stdout=DEVNULL)), {}),
        (tee(command("first") | command("last", stderr=NEXT)) | command("cat"), {}),
        (command("last", writing(command("cat")), stderr=NEXT), {}),
    ],
)
def test_the_last_stage_has_no_next_one(pipeline: Pipeline, options: dict[str, Any]) -> None:
    """By whatever method, before anything starts: these programs do not exist."""
    for method in ("run", "output", "start", "explain"):
        with pytest.raises(ValueError, match="stage 'last' is the last, so there is no next stage"):
            getattr(pipeline, method)(**options)
    with pytest.raises(ValueError, match="stage 'last' is the last"):
        next(pipeline.iter_lines(**options))


def test_a_pipeline_of_functions_takes_the_option() -> None:
    assert map_lines(bytes.upper).text(input="a\n", stderr=NEXT) == "A\n"


def test_explain_and_str_say_so() -> None:
    alone = command("a", stderr=NEXT, stdout="f") | command("b", stderr=STDOUT) | command("c")
    assert [edge.port for edge in alone.explain().edges] == ["main", "stderr", "main+stderr", "main"]
    assert [edge.kind for edge in alone.explain().edges[1:-1]] == ["os-pipe", "os-pipe"]
    shown = str(alone.explain())
    assert "a (stderr) " in shown
    assert "b (stdout, stderr) " in shown
    assert str(alone) == "a 2>&1 > f | b 2>&1 | c"
    assert str(Pipeline(command("a", stderr=STDOUT), stdout="f")) == "a > f 2>&1"


@pytest.mark.parametrize(
    "kind", ["str", "PathLike", "appending", "atomic", "file", "text", "closing", "number"]
)
def test_the_places_for_stdout(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "aside"
    path.write_text("old\n")
    file: Any = None
    if kind in ("file", "closing", "number"):
        file = path.open("wb", buffering=0)
    elif kind == "text":
        file = path.open("w")
        file.write("head\n")
    stdout = {
        "str": str(path),
        "PathLike": path,
        "appending": appending(path),
        "atomic": atomic(path),
        "closing": closing(file or io.BytesIO()),
        "number": file and file.fileno(),
    }.get(kind, file)
    assert (sh(SAYS, stderr=NEXT, stdout=stdout) | command("cat")).text() == "err\n"
    if file is not None:
        assert file.closed == (kind == "closing")
        file.close()
    before = {"appending": "old\n", "text": "head\n"}.get(kind, "")
    assert path.read_text() == f"{before}out\n"


def test_stdout_may_be_our_own(capfd: pytest.CaptureFixture[str]) -> None:
    assert (sh(SAYS, stderr=NEXT, stdout=INHERIT) | command("cat")).text() == "err\n"
    assert capfd.readouterr().out == "out\n"


def test_our_own_stdout_may_be_closed(host: Host) -> None:
    ended = host.run("""
        os.close(1)
        noisy = command("sh", "-c", "echo out; echo err >&2", stderr=NEXT, stdout=INHERIT)
        (noisy | command("cat")).run(stdout=2)
        """)
    assert ended.err == "err\n"


def test_an_atomic_stdout_stays_away_if_the_run_fails(tmp_path: Path) -> None:
    noisy = sh(SAYS, stderr=NEXT, stdout=atomic(tmp_path / "aside"))
    with pytest.raises(PipelineError):
        (noisy | sh("cat; exit 3")).run(stdout=DEVNULL)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_opened_is_a_start_error(tmp_path: Path) -> None:
    pipeline = sh(SAYS, stderr=NEXT, stdout=tmp_path / "missing" / "f") | command("cat")
    with pytest.raises(StartError, match="No such file"):
        pipeline.run(stdout=DEVNULL)


@pytest.mark.parametrize("stderr", [None, CAPTURE, INHERIT, TEE, STDOUT, DEVNULL, "log"])
def test_stdout_of_a_command_needs_it(stderr: Any) -> None:
    with pytest.raises(ValueError, match=r"needs stderr=NEXT.*give the stdout of the last stage to run"):
        command("a", stdout="f", stderr=stderr)


@pytest.mark.parametrize("stdout", [PIPE, CAPTURE, STDOUT, NEXT, TEE])
def test_stdout_of_a_command_is_a_file(stdout: Any) -> None:
    with pytest.raises(ValueError, match=r"stdout (of a command )?cannot be"):
        command("a", stdout=stdout, stderr=NEXT)


@pytest.mark.parametrize("stdout", [True, 1.5, b"path", object(), [], ""])
def test_other_values_are_mistakes_of_the_option(stdout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="stdout"):
        command("a", stdout=stdout, stderr=NEXT)


def test_an_object_without_a_descriptor_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="stdout of 'a' must be a path, or have a blocking descriptor"):
        (command("a", stdout=io.BytesIO(), stderr=NEXT) | command("b")).run()
    reader, writer = os.pipe2(os.O_NONBLOCK)
    with pytest.raises(ValueError, match="blocking descriptor"):
        (command("a", stdout=writer, stderr=NEXT) | command("b")).run()
    os.close(reader)
    os.close(writer)
    with pytest.raises(ValueError, match="not an open descriptor"):
        (command("a", stdout=writer, stderr=NEXT) | command("b")).run()


def test_a_reader_that_has_enough_ends_it_by_sigpipe() -> None:
    pipeline = sh("exec yes >&2", stderr=NEXT, stdout=DEVNULL) | command("head", "-1")
    assert pipeline.text() == "y\n"


def test_a_custom_stage_that_holds_a_command_passes_both_on() -> None:
    class Wrapper:
        name = "wrapper"

        def __init__(self, inner: Stage) -> None:
            self.inner = inner

        def start(self, ctx: Any, stdin: Any, stdout: Any) -> Any:
            return self.inner.start(ctx, stdin, stdout)

    for inner in (sh(SAYS, stderr=NEXT), Pipeline(sh(SAYS), name="inner", stderr=NEXT)):
        assert (Wrapper(inner) | command("cat")).text() == "out\nerr\n"  # type: ignore[operator]


def test_a_pickled_pipeline_keeps_it() -> None:
    pipeline = sh(SAYS, stderr=NEXT, stdout=DEVNULL) | command("cat")
    assert pickle.loads(pickle.dumps(pipeline)).text() == "err\n"


def test_a_function_in_a_worker_process_runs_such_a_pipeline() -> None:
    assert function(_runs, isolate="process").text() == "out\nerr\n"


def _runs(_ctx: Any, _stdin: Any, stdout: Any) -> None:
    stdout.write((sh(SAYS, stderr=NEXT) | command("cat")).output())


@pytest.mark.parametrize("value", [PIPE, CAPTURE, subprocess.PIPE])
def test_a_stdout_that_only_a_run_can_have_is_refused_when_the_stage_is_made(value: Any) -> None:
    """By the constants of subprocess too."""
    with pytest.raises(ValueError, match="stdout of a command cannot be"):
        command("true", stderr=NEXT, stdout=value)


def test_the_line_for_people_says_where_stdout_goes() -> None:
    """Otherwise it would read as if both went to the next stage."""
    lines = [
        str(command("a", stderr=NEXT, stdout=end) | command("b"))
        for end in (atomic("f"), appending("f"), "f", 3)
    ]
    assert lines == ["a 2>&1 > f | b", "a 2>&1 >> f | b", "a 2>&1 > f | b", "a 2>&1 >&3 | b"]

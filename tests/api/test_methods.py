"""The methods that run a pipeline, on pipelines and on stages alone."""

from __future__ import annotations

import gc
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    DEVNULL,
    ExitError,
    Pipeline,
    PipelineError,
    PipelineTimeout,
    Plan,
    Result,
    Run,
    StartError,
    command,
    echo,
    function,
    map_lines,
    source,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock import Event

STAGES = {
    "command": command("cat"),
    "function": function(lambda _ctx, stdin, stdout: stdout.writelines(stdin.chunks())),
    "pipeline": command("cat") | map_lines(bytes) | command("cat"),
    "empty": Pipeline(),
    "options": Pipeline(command("cat"), timeout=60),
}
FAILING = {
    "command": command("sh", "-c", "echo out; exit 3"),
    "pipeline": command("sh", "-c", "echo out; exit 3") | command("cat"),
    "function": command("sh", "-c", "echo out; exit 3") | map_lines(bytes),
}


@pytest.fixture(params=STAGES)
def copy(request: pytest.FixtureRequest) -> Pipeline:
    """What copies its input, line by line or not."""
    return STAGES[request.param]


@pytest.fixture(params=FAILING)
def failing(request: pytest.FixtureRequest) -> Pipeline:
    """What writes a line, and fails with status 3 in its first stage."""
    return FAILING[request.param]


def test_each_method_does_the_same_work(copy: Pipeline) -> None:
    """On a stage alone as on a pipeline."""
    data = b"a\nb\n"
    result = copy.run(input=data, stdout=CAPTURE)
    assert isinstance(result, Result)
    assert (result.ok, result.error, result.stdout) == (True, None, data)
    assert copy.output(input=data) == data
    assert copy.text(input=data) == "a\nb\n"
    assert b"".join(copy.iter_bytes(input=data)) == data
    assert list(copy.iter_lines(input=data)) == [b"a", b"b"]
    assert isinstance(copy.explain(), Plan)
    with copy.start(input=data, stdout=CAPTURE) as run:
        assert isinstance(run, Run)
    assert run.wait().stdout == data


def test_nothing_in_is_nothing_out(copy: Pipeline) -> None:
    """Empty, of the right type, and not None."""
    assert copy.output() == b""
    assert copy.text() == ""
    assert list(copy.iter_bytes()) == []
    assert list(copy.iter_lines()) == []
    assert copy.run(stdout=DEVNULL).stdout is None


def test_a_failure_is_raised_by_each_method(failing: Pipeline) -> None:
    """With what is known of it."""
    for method in (failing.output, failing.text, lambda: failing.run(stdout=DEVNULL)):
        with pytest.raises(PipelineError) as caught:
            method()
        assert isinstance(caught.value.cause, ExitError)
        assert (caught.value.index, caught.value.cause.returncode) == (0, 3)
    result = caught.value.result
    assert result is not None
    assert result.error is caught.value


def test_with_check_false_the_failure_is_returned(failing: Pipeline) -> None:
    """As the first argument or by name; the output stands."""
    result = failing.run(check=False, stdout=CAPTURE)
    assert isinstance(result.error, PipelineError)
    assert not result.ok
    assert result.stdout == b"out\n"
    assert not failing.run(False, stdout=DEVNULL).ok  # noqa: FBT003


def test_with_check_false_a_failed_start_is_returned_too() -> None:
    """From `run`; `start` raises it, since there is no run to return."""
    for pipeline in (command("/no/such"), command("cat") | command("/no/such") | map_lines(bytes)):
        result = pipeline.run(check=False)
        assert isinstance(result.error, StartError)
        assert len(result.stages) == len(pipeline.explain().nodes) - 2
        for method in (
            pipeline.start,
            pipeline.output,
            pipeline.text,
            lambda p=pipeline: list(p.iter_bytes()),
        ):
            with pytest.raises(StartError):
                method()


def test_output_and_text_take_no_check() -> None:
    """They return the data, so they must raise."""
    for method in (STAGES["command"].output, STAGES["command"].iter_bytes):
        with pytest.raises(TypeError, match="check"):
            method(check=False)  # type: ignore[call-arg]


# text.


def test_text_decodes_and_changes_nothing_else() -> None:
    """CR and the last LF stay; nothing is stripped."""
    assert echo("größe\r\n\n", end="").text() == "größe\r\n\n"
    assert echo(b"\xe9", end="").text("latin-1") == "é"
    assert echo(b"\xe9", end="").text(encoding="latin-1") == "é"
    assert echo(b"a\xff", end="").text(errors="replace") == "a\ufffd"
    assert echo(b"a\xff", end="").text("ascii", "ignore") == "a"
    assert source([b"\xc3", b"\xa9"]).text() == "é"


def test_text_that_cannot_be_decoded_is_a_unicode_error() -> None:
    """The run was a success; the data is in the error."""
    with pytest.raises(UnicodeDecodeError) as caught:
        echo(b"a\xff", end="").text()
    assert caught.value.object == b"a\xff"


def test_an_unknown_encoding_is_found_before_anything_starts(probe: Any) -> None:
    """It is no use to run first."""
    with pytest.raises(LookupError, match="utf-9"):
        Pipeline(probe).text("utf-9")
    for wrong in (5, None, b"utf-8"):
        with pytest.raises(TypeError):
            Pipeline(probe).text(wrong)  # type: ignore[arg-type]
    assert probe.starts == 0


def test_a_failure_goes_before_a_decoding_error() -> None:
    """What a failed run has written may well be cut short."""
    with pytest.raises(PipelineError):
        command("sh", "-c", "printf '\\377'; exit 1").text()


# Iterating.


def test_iter_lines_has_the_rules_of_line_stages(copy: Pipeline) -> None:
    """LF only, CR is data, the last line needs none, empty lines are lines."""
    if copy is STAGES["pipeline"]:
        copy = command("cat") | command("cat")
    assert list(copy.iter_lines(input=b"a\r\n\n\x0bb\rc\n\nlast")) == [b"a\r", b"", b"\x0bb\rc", b"", b"last"]


def test_iter_bytes_gives_no_empty_chunk(copy: Pipeline) -> None:
    """And all of the data."""
    data = b"line\n" * 100_000
    chunks = list(copy.iter_bytes(input=data))
    assert all(chunks)
    assert b"".join(chunks) == data


def test_a_failure_is_raised_after_the_last_chunk(failing: Pipeline) -> None:
    """What came before it is delivered."""
    for iterator in (failing.iter_bytes(), failing.iter_lines()):
        got: list[bytes] = []
        with pytest.raises(PipelineError):
            got.extend(iterator)
        assert b"".join(got).strip() == b"out"
        assert list(iterator) == []


@pytest.mark.parametrize("how", ["close", "break"])
def test_leaving_an_iterator_early_ends_the_run_and_is_not_a_failure(how: str) -> None:
    """The producer is gone when `close` returns; an endless one too."""
    for pipeline in (command("yes"), command("yes") | map_lines(bytes), source(forever())):
        iterator = pipeline.iter_lines()
        for line in iterator:
            assert line == b"y"
            if how == "break":
                break
            iterator.close()
        del iterator
        gc.collect()


def forever() -> Iterator[bytes]:
    """Yield without end."""
    while True:
        yield b"y\n"


def test_an_iterator_that_is_closed_before_its_first_step_starts_nothing(probe: Any) -> None:
    """Nor does one that is thrown away."""
    iterator = Pipeline(probe).iter_bytes()
    iterator.close()
    Pipeline(probe).iter_lines()
    assert probe.starts == 0


def test_an_iterator_looks_at_a_descriptor_at_its_first_step() -> None:
    """A pipe that has become non-blocking meanwhile is copied: `cat` would take it for an error."""
    read_end, write_end = os.pipe()
    try:
        chunks = command("cat").iter_bytes(stdin=read_end)
        os.set_blocking(read_end, False)
        os.write(write_end, b"early")
        assert next(chunks) == b"early"
        os.write(write_end, b"late")
    finally:
        os.close(write_end)
        os.close(read_end)
    assert b"".join(chunks) == b"late"


def test_an_iterator_whose_descriptor_was_closed_before_its_first_step_names_stdin() -> None:
    """Its number may be that of a descriptor of the run by then, which is not for the command."""
    read_end, write_end = os.pipe()
    chunks = command("cat").iter_bytes(stdin=read_end)
    os.close(read_end)
    os.close(write_end)
    with pytest.raises(ValueError, match="stdin"):
        next(chunks)


def test_an_iterator_sees_a_fifo_that_was_made_before_its_first_step(tmp_path: Path) -> None:
    """Opening it waits for a writer, so a worker does that, and the timeout counts."""
    path = tmp_path / "fifo"
    chunks = command("cat").iter_bytes(stdin=path, timeout=0.1)
    os.mkfifo(path)
    # Whoever opens the FIFO in this thread is let go on at last.
    writer = threading.Timer(5, lambda: os.close(os.open(path, os.O_RDWR)))
    writer.start()
    try:
        with pytest.raises(PipelineTimeout):
            next(chunks)
        assert writer.is_alive()
    finally:
        writer.cancel()


def test_a_failure_before_the_iterator_was_left_is_not_reported_either() -> None:
    """Who leaves is not interested."""
    for line in command("sh", "-c", "echo a; echo b; exit 3").iter_lines():
        assert line == b"a"
        break


def test_an_iterator_that_is_left_when_all_had_ended_leaves_nothing_open() -> None:
    """What was written and not read goes with it."""
    exited = threading.Semaphore(0)

    def on_event(event: Event) -> None:
        if event.kind == "exit":
            exited.release()

    for _ in range(20):
        lines = command("sh", "-c", "echo a; echo b").iter_lines(on_event=on_event)
        assert next(lines) == b"a"
        assert exited.acquire(timeout=DEADLINE)
        lines.close()


def test_a_deadline_ends_an_iteration() -> None:
    """With what had come before."""
    got: list[bytes] = []
    with pytest.raises(PipelineTimeout):
        got.extend(command("sh", "-c", "echo a; sleep 60").iter_lines(timeout=0.2))
    assert got == [b"a"]


def test_an_exception_thrown_into_the_iterator_comes_out_again() -> None:
    """After the run has ended."""
    iterator = command("yes").iter_bytes()
    next(iterator)
    with pytest.raises(KeyError, match="mine"):
        iterator.throw(KeyError("mine"))


def test_two_iterators_may_be_read_in_turns() -> None:
    """Each is a run of its own."""
    pipeline = command("seq", "3")
    assert list(zip(pipeline.iter_lines(), pipeline.iter_lines(), strict=True)) == [
        (b"1",) * 2,
        (b"2",) * 2,
        (b"3",) * 2,
    ]


# explain.


def test_explain_starts_nothing(probe: Any) -> None:
    """Nor does it open files, or call what computes the environment."""
    calls: list[int] = []
    plan = Pipeline(probe).explain(
        stdin="/no/such/file", stdout="/no/such/folder/file", env={"A": lambda: calls.append(1)}
    )
    assert plan.nodes == ("stdin", "probe", "stdout")
    assert probe.starts == 0
    assert calls == []


@pytest.mark.parametrize("value", ["data", b"data", 0, None])
def test_data_in_the_place_of_check_is_a_type_error(value: Any) -> None:
    """It would be ignored, and the command would get no input."""
    with pytest.raises(TypeError, match="input="):
        command("cat").run(value)

"""`max_output` bounds what a run captures: past it the run is cancelled, and says why."""

from __future__ import annotations

import pickle
import resource
from typing import TYPE_CHECKING, Any

import pytest
from tests.isolation import stage_functions
from tests.support.processes import gone, sh

import penstock
from penstock import (
    CAPTURE,
    DEVNULL,
    CaptureLimitExceeded,
    Pipeline,
    PipelineError,
    command,
    echo,
    function,
    map_lines,
    source,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.processes import Strays

YES = command("yes")


def _write(_ctx: object, _stdin: Any, stdout: Any) -> None:
    while True:
        stdout.write(b"y\n" * 1000)


def _yield(_chunks: Iterator[bytes]) -> Iterator[bytes]:
    while True:
        yield b"y\ny\ny\n"


ENDLESS = [
    pytest.param(YES, id="command"),
    pytest.param(YES | map_lines(bytes), id="line function"),
    pytest.param(transform(_yield) | transform(lambda chunks: chunks), id="fused"),
    pytest.param(function(_write), id="function"),
    pytest.param(function(stage_functions.begin_and_write, isolate="process"), id="isolated"),
    pytest.param(source(b"y\n" for _ in iter(int, 1)), id="source"),
    pytest.param(Pipeline(YES, command("cat"), name="nested", grace=1) | command("cat"), id="nested"),
]


@pytest.mark.parametrize("pipeline", ENDLESS[:-2])
@pytest.mark.parametrize("limit", [1, 4097, "64 KiB", 300_000])
def test_past_the_limit_the_run_fails_with_what_was_captured(pipeline: Pipeline, limit: Any) -> None:
    """Exactly the first `limit` bytes; no stage is to blame."""
    with pytest.raises(PipelineError) as caught:
        pipeline.output(max_output=limit)
    size = 65536 if isinstance(limit, str) else limit
    error = caught.value
    assert isinstance(error.cause, CaptureLimitExceeded)
    assert error.cause.limit == size
    assert (error.stage, error.index) == ("stdout", None)
    assert str(error) == f"stdout: more than {size} bytes of output, the limit of max_output"
    assert error.result is not None
    assert error.result.stdout is not None
    assert len(error.result.stdout) == size
    assert set(error.result.stdout) <= set(b"begunmore\ny")


@pytest.mark.parametrize("pipeline", ENDLESS[-2:])
def test_any_last_stage_is_limited(pipeline: Pipeline) -> None:
    """A source that is consumed once, and a pipeline of nested ones."""
    result = pipeline.run(check=False, stdout=CAPTURE, max_output=1000)
    assert isinstance(result.error, PipelineError)
    assert isinstance(result.error.cause, CaptureLimitExceeded)
    assert result.stdout == b"y\n" * 500


@pytest.mark.parametrize("stage", [command("printf", "1234567890"), echo("123456789")])
@pytest.mark.parametrize("limit", [10, 11, "1kB", None])
def test_output_within_the_limit_is_whole(stage: Pipeline, limit: Any) -> None:
    """As many bytes as the limit are within it."""
    assert len(stage.output(max_output=limit)) == 10


@pytest.mark.parametrize("stage", [command("printf", "1234567890"), echo("123456789")])
def test_one_byte_too_many_fails_a_run_that_has_ended_well(stage: Pipeline) -> None:
    """Its stages have all succeeded, but its output is not whole."""
    with pytest.raises(PipelineError) as caught:
        stage.output(max_output=9)
    assert isinstance(caught.value.cause, CaptureLimitExceeded)


def test_the_way_it_runs_makes_no_difference() -> None:
    """All methods that capture take the option, and the pipeline may have it."""
    ways: list[Callable[[], object]] = [
        lambda: YES.text(max_output=5),
        lambda: YES.run(stdout=CAPTURE, max_output=5),
        lambda: YES.start(stdout=CAPTURE, max_output=5).wait(),
        lambda: Pipeline(YES, max_output=5).output(),
        lambda: Pipeline(YES, max_output=5, stdout=CAPTURE).run(),
        lambda: YES.replace(max_output=1 << 40).output(max_output=5),
    ]
    for way in ways:
        with pytest.raises(PipelineError, match="more than 5 bytes"):
            way()


def test_none_in_a_call_removes_the_limit() -> None:
    """As for the timeout."""
    assert Pipeline(echo("123456"), max_output=5).output(max_output=None) == b"123456\n"


def test_the_commands_are_cancelled(strays: Strays) -> None:
    """With everything that they have started."""
    script = "sleep 1000 & echo $! >>$PIDS; cat /dev/zero"
    with pytest.raises(PipelineError, match="more than 10 bytes"):
        (sh(script, strays) | command("cat")).output(max_output=10)
    assert all(gone(pid) for pid in strays.pids())


def test_a_command_that_traps_the_signal_can_still_write() -> None:
    """What it writes is dropped, so that it is not held up: it ends long before the grace time is over."""
    script = "trap 'head -c 1000000 /dev/zero; exit 0' TERM; echo too much; while :; do sleep 0.01; done"
    with pytest.raises(PipelineError) as caught:
        sh(script).output(max_output=3, grace=60)
    assert caught.value.result is not None
    assert caught.value.result.stdout == b"too"
    assert caught.value.result.elapsed < 30


def test_memory_stays_bounded() -> None:
    """A gigabyte passes, and is not kept."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    script = "trap '' TERM; head -c 1000000000 /dev/zero"
    with pytest.raises(PipelineError, match="more than 1000000 bytes"):
        sh(script).output(max_output="1MB", grace=60)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_an_earlier_failure_is_the_error() -> None:
    """By the rule that the earliest stage is to blame."""
    with pytest.raises(PipelineError) as caught:
        (sh("exit 3") | sh("cat; sleep 0.05; yes")).output(max_output=10)
    assert caught.value.index == 0


@pytest.mark.parametrize("value", [0, -1, "", "much", "0", "1 XB"])
def test_a_limit_that_makes_no_sense_is_a_value_error(value: Any) -> None:
    """Which names the option."""
    with pytest.raises(ValueError, match="max_output"):
        YES.output(max_output=value)


@pytest.mark.parametrize("value", [True, 1.5, b"10", [1]])
def test_a_limit_of_another_type_is_a_type_error(value: Any) -> None:
    """Which names the option."""
    with pytest.raises(TypeError, match="max_output"):
        Pipeline(YES, max_output=value)


def test_a_call_that_captures_nothing_refuses_it(tmp_path: Path) -> None:
    """It would limit nothing, although the caller has just asked for it."""
    for stdout in (DEVNULL, tmp_path / "out", penstock.INHERIT):
        with pytest.raises(ValueError, match="max_output limits what is captured"):
            command("true").run(stdout=stdout, max_output=5)
    with pytest.raises(ValueError, match="max_output"):
        command("true").start(max_output=5)
    with pytest.raises(ValueError, match="max_output"):
        command("true").iter_bytes(max_output=5)
    with pytest.raises(ValueError, match="max_output"):
        command("true").iter_lines(max_output=5)
    assert not (tmp_path / "out").exists()


def test_a_pipeline_may_have_one_and_not_capture(tmp_path: Path) -> None:
    """It is there for the runs that do: the others hold nothing."""
    pipeline = Pipeline(echo("123456"), max_output=3)
    pipeline.run(stdout=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"123456\n"
    assert b"".join(pipeline.iter_bytes()) == b"123456\n"


def test_a_nested_pipeline_cannot_have_one() -> None:
    """Nothing of its output is captured, so the limit would protect nobody."""
    inner = Pipeline(YES, max_output=3)
    with pytest.raises(ValueError, match="max_output"):
        Pipeline(inner, command("cat"))
    assert (Pipeline(echo("x"), max_output=None, grace=1) | command("cat")).output() == b"x\n"


def test_the_error_is_public_and_can_be_pickled() -> None:
    """As all errors can."""
    error = pickle.loads(pickle.dumps(CaptureLimitExceeded(5)))
    assert issubclass(CaptureLimitExceeded, penstock.PenstockError)
    assert (error.limit, str(error)) == (5, "more than 5 bytes of output, the limit of max_output")

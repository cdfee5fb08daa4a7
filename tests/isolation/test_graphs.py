"""A function in a worker process, with more ends than stdin and stdout."""

from __future__ import annotations

import pytest
from tests.isolation.stage_functions import ask_for_more, pair_lines

from penstock import (
    CAPTURE,
    DEVNULL,
    Pipeline,
    PipelineError,
    PipelineTimeout,
    command,
    echo,
    function,
    map_lines,
    reading,
    shared,
)


def paired(left: Pipeline, right: Pipeline) -> Pipeline:
    """Return the stage."""
    return function(
        pair_lines,
        inputs={"left": left, "right": right},
        outputs={"seen": command("wc", "-l")},
        isolate="process",
    )


def test_it_reads_and_writes_by_name() -> None:
    """Its stdin and stdout too; the bytes of each edge are counted."""
    result = (echo("end") | paired(command("seq", "2"), command("seq", "3", "4"))).run(stdout=CAPTURE)
    assert result.stdout == b"1-3\n2-4\nend\n"
    assert int(result.output("wc")) == 2
    counted = {edge.port: edge.bytes for edge in result.edges}
    assert (counted["left"], counted["right"], counted["seen"]) == (4, 4, 4)


def test_the_worker_serves_one_after_the_other() -> None:
    """With more ends, and with two."""
    for _ in range(5):
        assert paired(command("seq", "2"), command("seq", "2")).output(input=b"x") == b"1-1\n2-2\nx"
        assert map_lines(bytes.upper, isolate="process").output(input=b"x\n") == b"X\n"


def test_one_stream_on_two_of_its_ends_does_not_hang() -> None:
    numbers = shared(command("seq", "100000"))
    result = paired(numbers, numbers | command("sort", "-n")).run(stdout=CAPTURE, timeout=30)
    assert result.stdout is not None
    assert result.stdout.splitlines()[-1] == b"100000-100000"


def test_an_input_that_fails_and_a_deadline_end_it() -> None:
    """And a name that it does not have is its own error."""
    silent = function(ask_for_more, inputs={"silent": command("sleep", "1000")}, isolate="process")
    with pytest.raises(PipelineTimeout):
        silent.run(stdout=DEVNULL, timeout=0.3, grace=5)
    with pytest.raises(PipelineError, match="false: exit status 1"):
        function(ask_for_more, inputs={"silent": command("false")}, isolate="process").run(stdout=DEVNULL)
    with pytest.raises(PipelineError, match="has no 'silent' here; it has 'other'"):
        function(ask_for_more, inputs={"other": echo("x")}, isolate="process").run(stdout=DEVNULL)


def test_isolated_stages_stand_behind_names() -> None:
    """Their edges are pipes in any case."""
    upper = map_lines(bytes.upper, isolate="process")
    joined = command("paste", reading(echo("a") | upper), reading(echo("b") | upper))
    assert joined.output() == b"A\tB\n"

"""Traps of graphs, as `docs/gotchas.md` lists them."""

from __future__ import annotations

import io
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import sh
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    Pipeline,
    PipelineError,
    PipelineTimeout,
    SpoolLimitExceeded,
    Stalled,
    StartError,
    command,
    concat,
    echo,
    function,
    map_lines,
    reading,
    shared,
    tee,
    writing,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LINES = command("seq", "300000")
"""Two megabytes: more than pipes and windows hold."""


def test_a_branch_keeps_an_endless_source_going_unless_the_main_output_ends_it() -> None:
    """`head` has had enough, but a file never has."""
    with pytest.raises(PipelineTimeout):
        (command("yes") | tee(DEVNULL) | command("head", "-n", "1")).output(timeout=0.5)
    line = command("yes") | tee(DEVNULL, until="main") | command("head", "-n", "1")
    assert line.output(timeout=DEADLINE) == b"y\n"


def test_a_branch_that_has_had_enough_leaves_the_others_everything() -> None:
    """The copying goes on without it, and the run is a success."""
    result = (LINES | tee(command("head", "-n", "1"), command("wc", "-l"))).run(stdout=DEVNULL)
    assert (result.output("head"), result.output("wc")) == (b"1\n", b"300000\n")


def test_a_failed_source_behind_a_name_fails_the_run() -> None:
    """The program saw a file that ended too soon, and succeeded."""
    half = sh("echo half; exit 3")
    with pytest.raises(PipelineError, match="exit status 3") as caught:
        command("cat", reading(half)).output()
    assert caught.value.result is not None
    assert caught.value.result.stdout == b"half\n"
    assert caught.value.result.stage("cat").returncode == 0


def test_the_run_waits_for_a_branch_behind_a_name() -> None:
    """Its output is complete when the run returns, and its failure counts."""
    slow = sh("cat; sleep 0.2; echo done")
    result = command("tee", writing(slow)).run(input="x\n", stdout=CAPTURE)
    assert result.output("sh") == b"x\ndone\n"
    with pytest.raises(PipelineError, match="exit status 4"):
        command("tee", writing(sh("cat; exit 4"))).run(input="x\n", stdout=DEVNULL)


@pytest.mark.parametrize(
    "join",
    [
        concat,
        lambda left, right: command("cat", reading(left), reading(right)),
        lambda left, right: concat(right, left),
    ],
    ids=["concat", "reading", "other way round"],
)
def test_branches_that_meet_again_do_not_deadlock(join: Callable[[Any, Any], Pipeline]) -> None:
    """Although one is read to its end while the other is full."""
    numbers = shared(LINES)
    result = join(numbers, numbers | command("tac")).run(stdout=CAPTURE, timeout=DEADLINE)
    plain = b"".join(b"%d\n" % number for number in range(1, 300_001))
    assert result.stdout is not None
    assert len(result.stdout) == 2 * len(plain)
    assert plain in result.stdout


def test_the_spool_is_bounded_or_forbidden() -> None:
    """By `spool`: each is an error that says what to do, or who waits."""
    numbers = shared(LINES)
    diamond = concat(numbers, numbers)
    for spool, error in (("256KiB", SpoolLimitExceeded), (0, Stalled)):
        with pytest.raises(PipelineError) as caught:
            diamond.run(stdout=DEVNULL, spool=spool, timeout=DEADLINE)
        assert isinstance(caught.value.cause, error)
    result = diamond.run(stdout=DEVNULL, spool="10MiB", timeout=DEADLINE)
    assert max(edge.spooled for edge in result.edges) > 1_000_000


def test_branches_that_stay_apart_hold_no_more_than_their_windows() -> None:
    """However slow one of them is: it sets the pace."""
    slow = sh("sleep 0.3; cat").to(DEVNULL)
    result = (command("head", "-c", "20M", "/dev/zero") | tee(slow)).run(stdout=DEVNULL, spool=0)
    assert {edge.spooled for edge in result.edges} == {0}


def test_a_pipeline_that_is_written_twice_runs_twice_unless_it_is_shared(tmp_path: Path) -> None:
    """A value says what is to run; `shared` says that it is one node."""
    trace = tmp_path / "trace"
    source = command("sh", "-c", 'echo started >> "$1"; echo x', "-", trace)
    assert command("paste", reading(source), reading(source)).output() == b"x\tx\n"
    assert trace.read_text() == "started\n" * 2
    once = shared(source)
    assert command("paste", reading(once), reading(once)).output() == b"x\tx\n"
    assert trace.read_text() == "started\n" * 3


def test_a_program_that_closes_descriptors_for_its_children_needs_a_fifo() -> None:
    """As `sudo`, `xargs` of some systems, and subprocess of Python do."""
    wrapper = "import subprocess, sys; sys.exit(subprocess.run(['cat', sys.argv[1]]).returncode)"
    words = (sys.executable, "-c", wrapper)
    with pytest.raises(PipelineError, match="exit status 1"):
        command(*words, reading(echo("x"))).output()
    assert command(*words, reading(echo("x"), via="fifo")).output() == b"x\n"


def test_a_name_of_a_pipe_can_be_read_once() -> None:
    """The second reader finds nothing, as at any pipe."""
    twice = command("sh", "-c", 'cat "$1"; cat "$1"', "-", reading(echo("x")))
    assert twice.output() == b"x\n"


def test_a_process_that_keeps_a_name_open_delays_nobody() -> None:
    """Its branch sees the end when the grace time is over, and an event says so."""
    events: list[str] = []
    daemon = command("sh", "-c", 'echo x > "$1"; sleep 3 > "$1" &', "-", writing(command("cat")))
    began = time.monotonic()
    result = daemon.run(grace=0.2, on_event=lambda event: events.append(event.kind))
    assert result.output("cat") == b"x\n"
    assert time.monotonic() - began < 3
    assert "leftover" in events


def test_two_branches_of_one_name_are_told_apart_by_names_of_their_own() -> None:
    """`result.output` refuses to choose."""
    numbers = command("seq", "3")
    first, last = command("head", "-n", "1"), command("tail", "-n", "1")
    result = (numbers | tee(first | command("cat"), last | command("cat"))).run(stdout=DEVNULL)
    with pytest.raises(KeyError, match="2 branches are named 'cat'"):
        result.output("cat")
    branches = [Pipeline(first, command("cat"), name="first"), command("cat", name="all")]
    result = (numbers | tee(*branches)).run(stdout=DEVNULL)
    assert (result.output("first"), result.output("all")) == (b"1\n", b"1\n2\n3\n")


@pytest.mark.parametrize("branch", [PIPE, command("cat").to(PIPE)], ids=["alone", "pipeline"])
def test_a_branch_cannot_end_in_a_pipe_that_nobody_has(branch: Any) -> None:
    """Its bytes would be lost, and more than a pipe holds would hang the run."""
    with pytest.raises(ValueError, match="nobody could read it"):
        tee(branch)


@pytest.mark.parametrize("stdout", [CAPTURE, io.BytesIO(), DEVNULL], ids=["capture", "object", "null"])
def test_a_branch_of_python_stages_may_be_the_last_thing_in_a_graph(stdout: Any) -> None:
    """The main output belongs to the tee then, which needs a descriptor."""
    result = (command("echo", "x") | tee(map_lines(bytes.upper))).run(stdout=stdout)
    assert result.output("upper") == b"X\n"


def test_a_python_source_may_be_the_first_thing_in_a_graph() -> None:
    """The stdin of the run belongs to a command all the same, which needs a descriptor."""
    made = function(lambda _ctx, _stdin, stdout: stdout.write(b"made\n"))
    both = command("cat", "-", reading(made))
    assert both.output(stdin=io.BytesIO(b"given\n")) == b"given\nmade\n"


def test_an_end_inside_a_graph_that_cannot_be_opened_is_a_start_error(tmp_path: Path) -> None:
    """Also the stdin of a source."""
    missing = tmp_path / "missing" / "file"
    for graph in (concat(command("cat").replace(stdin=missing)), echo("x") | tee(missing)):
        with pytest.raises(StartError, match="No such file"):
            graph.run()

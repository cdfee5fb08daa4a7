"""`reading(via="file")`: the program gets a whole file, and starts when it is complete."""

from __future__ import annotations

import contextlib
import random
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.interrupts import Interruption
from tests.support.waiting import DEADLINE, until

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    Event,
    ExitError,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    command,
    echo,
    ignore_error,
    is_error,
    map_lines,
    memory_observer,
    reading,
    shared,
    tee,
)
from penstock.runtime import supervisor

SEEKS = "import sys; f = open(sys.argv[1], 'rb'); f.seek(-2, 2); sys.stdout.buffer.write(f.read())"


def file_of(source: Any, suffix: str = "") -> Any:
    """Return the argument."""
    return reading(source, via="file", suffix=suffix)


def test_the_file_is_complete_and_can_be_sought_in() -> None:
    """It has its suffix, and is for its owner only."""
    show = command(
        "sh", "-c", 'stat -c "%a %s" "$0"; tail -n 1 "$0"; echo "$0"', file_of(command("seq", "9999"), ".txt")
    )
    mode, last, name = show.text().splitlines()
    assert (mode, last) == ("600 48888", "9999")
    assert name.endswith(".txt")
    assert not Path(name).parent.exists()
    assert command("python3", "-c", SEEKS, file_of(echo("hello"))).output() == b"o\n"


def test_it_may_stand_beside_other_names_and_stdin() -> None:
    """All of them are read; those that come first wait for the program to start."""
    read = command("cat", "-", reading(command("seq", "2")), file_of(command("seq", "3")))
    assert (command("seq", "100000") | read | command("wc", "-l")).text() == "100005\n"


def test_a_source_that_fails_starts_no_program(tmp_path: Path) -> None:
    """Its error is that of the run."""
    touch = command("touch", tmp_path / "started", file_of(command("sh", "-c", "echo part; exit 3")))
    with pytest.raises(PipelineError, match="sh: exit status 3") as caught:
        touch.run()
    assert not (tmp_path / "started").exists()
    assert caught.value.result is not None
    assert caught.value.result.stage("touch").pid is None


def test_a_forgiven_failure_does_not_count() -> None:
    """Nor is that of a stage before one that had enough."""
    forgiven = ignore_error(command("sh", "-c", "echo x; exit 3"), is_error(ExitError))
    assert command("cat", file_of(forgiven)).output() == b"x\n"
    cut = Pipeline(command("yes"), map_lines(bytes.upper), command("head", "-n", "2"), cwd="/")
    assert command("cat", file_of(cut)).output() == b"Y\nY\n"


def test_a_nested_pipeline_that_fails_is_a_failure() -> None:
    nested = Pipeline(command("false"), command("cat"), name="inner", cwd="/")
    with pytest.raises(PipelineError, match="false: exit status 1"):
        command("cat", file_of(nested)).run(stdout=DEVNULL)


def test_a_program_that_cannot_be_started_is_named() -> None:
    """When the file is there, and the others have begun."""
    with pytest.raises(PipelineError, match="no such program on PATH: 'no-such-program'"):
        command("no-such-program", file_of(command("seq", "3"))).run()


def test_one_stream_as_a_file_and_as_a_pipe_does_not_hang() -> None:
    """The bytes for the pipe are kept until the program starts."""
    numbers = shared(command("seq", "200000"))
    joined = command("cat", reading(numbers), file_of(numbers | command("tail", "-n", "1")))
    result = joined.run(stdout=CAPTURE, timeout=30)
    assert result.stdout is not None
    assert result.stdout.endswith(b"200000\n200000\n")
    assert max(edge.spooled for edge in result.edges) > 500_000


def test_a_deadline_comes_while_it_waits() -> None:
    with pytest.raises(PipelineTimeout):
        command("cat", file_of(command("sleep", "1000"))).run(timeout=0.1, grace=5)


def test_cancellations_at_any_moment_end_it() -> None:
    """Before its file is complete, in between, and after its start."""
    dice = random.Random(7)
    pipeline = command("cat", file_of(command("seq", "1000"))) | tee(command("wc"))
    kinds = set()
    for _ in range(60):
        run = pipeline.start(stdout=DEVNULL, grace=5)
        timer = threading.Timer(dice.random() * 0.02, run.cancel)
        timer.start()
        kinds.add(type(run.wait(DEADLINE, check=False).error))
        timer.join()
    assert kinds <= {type(None), PipelineCancelled}


def test_a_signal_reaches_the_program_once_it_runs() -> None:
    """And nothing before."""
    started = threading.Event()

    def see(event: Event) -> None:
        if event.kind == "start" and event.stage == "sh" and "pid" in event.context:
            started.set()

    trap = "trap 'echo got; exit 0' USR1; echo ready; while :; do sleep 0.01; done"
    run = command("sh", "-c", trap, file_of(command("cat"))).start(stdout=PIPE, on_event=see)
    run.send_signal(signal.SIGUSR1, "sh")
    assert started.wait(DEADLINE)
    assert run.stdout is not None
    with run.stdout:
        assert run.stdout.readline() == b"ready\n"
        run.send_signal(signal.SIGUSR1, "sh")
        assert run.stdout.read() == b"got\n"
    assert run.wait(DEADLINE).ok


def test_nothing_is_left_of_it() -> None:
    """Neither the folder nor a process, however it ended."""
    for source in (command("seq", "3"), command("false"), command("sleep", "1000")):
        command("cat", file_of(source)).run(check=False, stdout=DEVNULL, timeout=0.3, grace=1)
    until(lambda: not list(Path(tempfile.gettempdir()).glob("penstock-*")))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("within", ["/stages/postponed", "/stages/command", "/stages/running"])
def test_an_interrupt_at_any_moment_leaves_no_process(within: str) -> None:
    """The start comes late, in the thread that drives the run, and its child must be known by then."""
    pipeline = command("cat", file_of(command("seq", "10")))
    for turn in range(1, 400):
        with contextlib.suppress(KeyboardInterrupt), Interruption(turn, within) as interruption:
            pipeline.run(stdout=DEVNULL, check=False, timeout=20, grace=0.5)
        until(lambda: not supervisor.active_runs)
        left = [child for child in psutil.Process().children() if child.name() in ("cat", "seq")]
        assert not left, f"{interruption.where}: {left}"
        if interruption.left > 0:
            break


def test_it_is_started_once_and_watched_from_then_on() -> None:
    """One event says so, with its pid; its memory is measured."""
    events: list[Event] = []
    watched = memory_observer(command("sh", "-c", "sleep 0.1; cat $0", file_of(command("seq", "3"))))
    result = watched.run(stdout=CAPTURE, on_event=events.append)
    starts = [event.context for event in events if event.kind == "start" and event.stage == "sh"]
    assert starts == [{"pid": result.stage("sh").pid}]
    assert result.stage("sh").peak_memory

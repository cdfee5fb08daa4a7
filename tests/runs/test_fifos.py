"""FIFOs named by their paths: to open one waits for its other end, which must not keep anybody else."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

from penstock import (
    DEVNULL,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StartError,
    command,
    echo,
    function,
    map_lines,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATA = b"".join(b"line %d\n" % number for number in range(30_000))
READERS = {"command": command("cat"), "function": map_lines(bytes), "both": command("cat") | map_lines(bytes)}
WRITERS = {
    "command": command("cat"),
    "function": function(lambda _ctx, stdin, stdout: stdout.write(stdin.read()), name="fn"),
}


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("stage", READERS.values(), ids=READERS)
def test_a_fifo_is_read_from_its_first_writer_to_the_end_of_its_last(fifo: Path, stage: Pipeline) -> None:
    with subprocess.Popen(["sh", "-c", 'exec cat > "$0"', fifo], stdin=subprocess.PIPE) as writer:
        feeding = threading.Thread(target=writer.communicate, args=(DATA,))
        feeding.start()
        assert stage.output(stdin=fifo) == DATA
        feeding.join()


@pytest.mark.parametrize("stage", WRITERS.values(), ids=WRITERS)
def test_a_fifo_is_written_once_somebody_reads_it(fifo: Path, stage: Pipeline) -> None:
    run = stage.start(input=DATA, stdout=fifo)
    with fifo.open("rb") as reader:
        assert reader.read() == DATA
    assert run.wait().ok


@pytest.mark.parametrize("order", [("reads", "writes"), ("writes", "reads")], ids="-first".join)
def test_one_program_may_start_both_sides_in_either_order(fifo: Path, order: tuple[str, ...]) -> None:
    start: dict[str, Callable[[], Any]] = {
        "reads": lambda: command("cat").start(stdin=fifo, stdout=fifo.with_name("copy")),
        "writes": lambda: command("cat").start(input=DATA, stdout=fifo),
    }
    for run in [start[side]() for side in order]:
        assert run.wait().ok
    assert fifo.with_name("copy").read_bytes() == DATA


def test_a_reader_gets_eof_if_nothing_is_written(fifo: Path) -> None:
    run = command("true").start(stdout=fifo)
    assert fifo.read_bytes() == b""
    assert run.wait().ok


WAITING: dict[str, Callable[[Path], Any]] = {
    "a command reads": lambda path: (command("cat"), {"stdin": path, "stdout": DEVNULL}),
    "a function reads": lambda path: (map_lines(bytes), {"stdin": path, "stdout": DEVNULL}),
    "a command writes": lambda path: (command("yes"), {"stdout": path}),
    "a command has written": lambda path: (command("echo"), {"stdout": path}),
    "a function writes": lambda path: (echo("x"), {"stdout": path}),
    "both": lambda path: (command("cat"), {"stdin": path, "stdout": path}),
}
NOBODY = [case for case in WAITING if case != "both"]  # the two ends of "both" are each other's


@pytest.mark.parametrize("case", NOBODY)
def test_a_deadline_ends_the_wait_for_the_other_end(case: str, fifo: Path, within: Any) -> None:
    stage, options = WAITING[case](fifo)
    with within(0.1 + 0.1 + 1), pytest.raises(PipelineTimeout):
        stage.run(timeout=0.1, grace=0.1, **options)


@pytest.mark.parametrize("case", WAITING)
def test_start_does_not_wait_and_cancel_ends_it(case: str, fifo: Path) -> None:
    stage, options = WAITING[case](fifo)
    run = stage.start(grace=0.1, **options)
    run.cancel("enough")
    with pytest.raises(PipelineCancelled, match="enough"):
        run.wait(DEADLINE)


def test_a_fifo_that_nobody_needs_is_not_waited_for(fifo: Path) -> None:
    assert command("true").run(stdin=fifo).ok
    assert echo("x").output(stdin=fifo) == b"x\n"


def test_a_reader_that_leaves_is_an_error_of_stdout(fifo: Path) -> None:
    run = command("yes").start(stdout=fifo)
    with fifo.open("rb") as reader:
        assert reader.read(2) == b"y\n"
    with pytest.raises(PipelineError) as raised:
        run.wait(DEADLINE)
    assert isinstance(raised.value.cause, BrokenPipeError)
    assert raised.value.stage == "stdout"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_fifo_that_may_not_be_opened_is_an_error_of_the_start(fifo: Path) -> None:
    fifo.chmod(0)
    with pytest.raises(StartError, match="Permission denied"):
        command("cat").run(stdin=fifo)
    with pytest.raises(StartError, match="Permission denied"):
        command("cat").run(stdout=fifo)


def test_stderr_to_a_fifo_that_nobody_reads_is_an_error_of_the_start(fifo: Path) -> None:
    """It is opened for the children, before any of them."""
    with pytest.raises(StartError, match=r'starting stage "stderr": .*No such device'):
        command("true").run(stderr=fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    command("sh", "-c", "echo x >&2").run(stderr=fifo)
    assert os.read(reader, 10) == b"x\n"
    os.close(reader)


def test_the_plan_says_that_it_is_copied(fifo: Path) -> None:
    plan = command("cat").explain(stdin=fifo, stdout=fifo)
    assert [edge.kind for edge in plan.edges] == ["pooled", "pooled"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_an_interrupt_ends_the_wait(fifo: Path) -> None:
    def ring(_signum: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            command("cat").run(stdin=fifo, stdout=DEVNULL)
    finally:
        signal.signal(signal.SIGALRM, before)

"""`idle_timeout` ends a run that writes nothing for so long; time that the reader takes does not count."""

from __future__ import annotations

import io
import os
import select
import socket
import threading
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.isolation import stage_functions
from tests.support.processes import sh
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    DEVNULL,
    INHERIT,
    PIPE,
    STDOUT,
    Limits,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    Requirements,
    appending,
    atomic,
    command,
    echo,
    function,
    ignore_error,
    is_sigpipe,
    map_lines,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.hosts import Host

IDLE = 0.3
"""Seconds. The commands below write more often than that, or not at all."""
TALKS = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done"
"""Takes longer than `PATIENT`."""
PATIENT = 0.6
TALK = b"1\n2\n3\n4\n5\n6\n7\n8\n"
CAT = command("cat")


def _talk(_ctx: object, _stdin: Any, stdout: Any) -> None:
    for number in range(1, 9):
        stdout.write(b"%d\n" % number)
        time.sleep(0.1)


def _fall_silent(ctx: Any, _stdin: Any, stdout: Any) -> None:
    stdout.write(b"begun\n")
    while not ctx.cancelled:
        stdout.write(b"")
        time.sleep(0.01)


def _generate(chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield b"begun\n"
    yield from chunks


SILENT = [
    pytest.param(sh("echo begun; exec sleep 1000"), id="command"),
    pytest.param(sh("echo begun; exec sleep 1000") | map_lines(bytes), id="line function"),
    pytest.param(sh("sleep 1000") | transform(_generate) | map_lines(bytes), id="fused"),
    pytest.param(function(_fall_silent), id="function"),
    pytest.param(function(stage_functions.begin_and_linger, isolate="process"), id="isolated"),
    pytest.param(sh("echo begun; exec sleep 1000") | Pipeline(CAT, CAT, name="nested", grace=1), id="nested"),
]
TALKING = [
    pytest.param(sh(TALKS), id="command"),
    pytest.param(sh(TALKS) | map_lines(bytes), id="line function"),
    pytest.param(function(_talk), id="function"),
    pytest.param(function(stage_functions.talk, isolate="process"), id="isolated"),
]


class Sinks:
    """Every kind of stdout that takes bytes, and what came out at its end."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "out"
        self.bytes = b""

    def run(self, pipeline: Pipeline, kind: str, **options: Any) -> PipelineError | None:
        """Run it into that kind of stdout; return the error."""
        error: PipelineError | None = None
        if kind == "capture":
            result = pipeline.run(check=False, stdout=CAPTURE, **options)
            error, self.bytes = result.error, result.stdout or b""
        elif kind == "iterator":
            try:
                for chunk in pipeline.iter_bytes(**options):
                    self.bytes += chunk
            except PipelineError as raised:
                error = raised
        elif kind == "pipe":
            run = pipeline.start(stdout=PIPE, **options)
            assert run.stdout is not None
            with run.stdout:
                self.bytes = run.stdout.read()
            error = run.wait(DEADLINE, check=False).error
        else:
            error = self._run_into(pipeline, kind, options)
        return error

    def _run_into(self, pipeline: Pipeline, kind: str, options: dict[str, Any]) -> PipelineError | None:
        out, ours = io.BytesIO(), socket.socketpair()
        self.path.write_bytes(b"")
        with self.path.open("r+b") as file:
            sinks = {
                "devnull": DEVNULL,
                "path": self.path,
                "appending": appending(self.path),
                "atomic": atomic(self.path),
                "file": file,
                "number": file.fileno(),
                "object": out,
                "socket": ours[0],
            }
            error = pipeline.run(check=False, stdout=sinks[kind], **options).error
        ours[0].close()
        with ours[1]:
            received = ours[1].recv(1000)
        self.bytes = out.getvalue() or received or self.path.read_bytes()
        return error


ALL_KINDS = [
    "capture", "iterator", "pipe", "devnull", "path", "appending", "atomic", "file", "number", "object",
    "socket",
]  # fmt: skip


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("pipeline", SILENT)
def test_a_run_that_falls_silent_ends(pipeline: Pipeline, kind: str, tmp_path: Path, within: Any) -> None:
    """In time, and with all bytes delivered that came before."""
    sinks = Sinks(tmp_path)
    function(stage_functions.pid, isolate="process").output()  # a worker process that is idle now
    with within(DEADLINE) as clock:
        error = sinks.run(pipeline, kind, idle_timeout=IDLE, grace=0.5)
    assert isinstance(error, PipelineTimeout)
    assert str(error) == "no output for 0.3 s"
    assert error.result is not None
    assert IDLE <= error.result.elapsed < IDLE + 0.35 + clock.late  # 0.1 s, and the start
    assert sinks.bytes == (b"" if kind in ("devnull", "atomic") else b"begun\n")


@pytest.mark.parametrize("kind", ["capture", "iterator", "pipe", "devnull", "path", "object"])
@pytest.mark.parametrize("pipeline", TALKING)
def test_a_run_that_goes_on_writing_succeeds(pipeline: Pipeline, kind: str, tmp_path: Path) -> None:
    """However long it takes."""
    sinks = Sinks(tmp_path)
    function(stage_functions.pid, isolate="process").output()  # as above
    assert sinks.run(pipeline, kind, idle_timeout=PATIENT) is None
    assert sinks.bytes == (b"" if kind == "devnull" else TALK)


def test_the_inherited_stdout_is_relayed(capfd: pytest.CaptureFixture[str]) -> None:
    """The default of `run`."""
    sh(TALKS).run(idle_timeout=PATIENT)
    with pytest.raises(PipelineTimeout):
        sh("echo begun; exec sleep 1000").run(idle_timeout=IDLE)
    with pytest.raises(PipelineTimeout):
        function(_fall_silent).run(idle_timeout=IDLE)
    assert capfd.readouterr().out.encode() == TALK + b"begun\nbegun\n"


def test_stderr_counts_if_it_goes_to_stdout() -> None:
    """Because then it is output."""
    assert sh(f"({TALKS}) >&2").output(stderr=STDOUT, idle_timeout=PATIENT) == TALK
    with pytest.raises(PipelineTimeout):
        sh(f"({TALKS}) >&2").output(idle_timeout=IDLE)


def test_no_output_at_all_is_too_little() -> None:
    """The time begins with the run."""
    with pytest.raises(PipelineTimeout, match=r"no output for 0\.1 s"):
        command("sleep", "1000").run(idle_timeout=timedelta(milliseconds=100))


def test_the_writes_of_other_stages_do_not_count() -> None:
    """Only what leaves the last stage."""
    with pytest.raises(PipelineTimeout):
        (command("yes") | sh("cat >/dev/null")).run(idle_timeout=IDLE)


@pytest.mark.parametrize("kind", ["capture", "iterator", "pipe", "path", "object"])
def test_the_end_of_the_output_is_not_the_end_of_the_time(kind: str, tmp_path: Path) -> None:
    """A run that has closed its stdout and goes on writes nothing either."""
    sinks = Sinks(tmp_path)
    error = sinks.run(sh("echo begun; exec >&-; exec sleep 1000"), kind, idle_timeout=IDLE)
    assert isinstance(error, PipelineTimeout)
    assert sinks.bytes == b"begun\n"


def test_the_message_says_which_child_is_stopped() -> None:
    """As that of `timeout` does."""
    stage = command("sh", "-c", "echo; kill -STOP $$", name="stopper")
    with pytest.raises(PipelineTimeout) as caught:
        stage.output(idle_timeout=IDLE)
    assert 'no output for 0.3 s; "stopper" is stopped by SIGSTOP (`kill -CONT' in str(caught.value)


def test_a_deadline_that_comes_first_is_the_reason() -> None:
    """And the other way round."""
    with pytest.raises(PipelineTimeout, match=r"timed out after 0\.1 s"):
        command("sleep", "1000").run(idle_timeout=5, timeout=0.1)
    with pytest.raises(PipelineTimeout, match=r"no output for 0\.1 s"):
        command("sleep", "1000").run(idle_timeout=0.1, timeout=5)


def test_none_in_a_call_removes_it() -> None:
    """As for the other options."""
    assert Pipeline(sh("sleep 0.3; echo x"), idle_timeout=0.1).output(idle_timeout=None) == b"x\n"


# A slow reader.


@pytest.mark.parametrize("pipeline", [sh("echo 1; echo 2; sleep 0.2; echo 3"), echo("1\n2\n3")])
def test_an_iterator_that_is_not_read_counts_no_time(pipeline: Pipeline) -> None:
    """The caller works on a line."""
    lines = []
    for line in pipeline.iter_lines(idle_timeout=IDLE):
        lines.append(line)
        time.sleep(2 * IDLE)
    assert lines == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    "pipeline", [command("head", "-c", "300000", "/dev/zero"), function(stage_functions.flood)]
)
def test_a_pipe_that_is_not_read_counts_no_time(pipeline: Pipeline) -> None:
    """Whether it is full or not."""
    for stage in (pipeline, sh("echo begun; sleep 0.1")):
        run = stage.start(stdout=PIPE, idle_timeout=IDLE)
        assert run.stdout is not None
        time.sleep(3 * IDLE)
        with run.stdout:
            assert len(run.stdout.read()) in (300_000, 6)
        assert run.wait(DEADLINE).ok


def test_time_counts_from_when_the_pipe_was_read(within: Any) -> None:
    """All that came has been taken, so from then on it is the run that is slow."""
    run = sh("echo begun; exec sleep 1000").start(stdout=PIPE, idle_timeout=IDLE)
    assert run.stdout is not None
    time.sleep(3 * IDLE)
    with run.stdout, within(DEADLINE) as clock:
        began = time.monotonic()
        assert run.stdout.read() == b"begun\n"
        took = time.monotonic() - began
    assert 0.9 * IDLE - 0.01 <= took < IDLE + 0.2 + clock.late
    with pytest.raises(PipelineTimeout):
        run.wait(DEADLINE)


def test_a_caller_who_polls_the_pipe_waits_too() -> None:
    """It need not sit in a read."""
    run = command("sleep", "1000").start(stdout=PIPE, idle_timeout=IDLE)
    assert run.stdout is not None
    with run.stdout:
        assert select.select([run.stdout], [], [], DEADLINE)[0]
        assert run.stdout.read() == b""
    with pytest.raises(PipelineTimeout):
        run.wait(DEADLINE)


@pytest.mark.parametrize("pipeline", [sh("echo begun; sleep 0.1"), echo("begun")])
def test_an_object_that_is_slow_counts_no_time(pipeline: Pipeline) -> None:
    """Its `write` has the bytes."""

    class Slow(io.RawIOBase):
        taken = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any, /) -> int:
            time.sleep(2 * IDLE)
            self.taken += bytes(data)
            return len(data)

    slow = Slow()
    assert pipeline.run(stdout=slow, idle_timeout=IDLE).ok
    assert slow.taken == b"begun\n"


@pytest.mark.parametrize(
    "pipeline", [command("head", "-c", "300000", "/dev/zero"), function(stage_functions.flood)]
)
def test_a_descriptor_that_is_slow_counts_no_time(pipeline: Pipeline) -> None:
    """A pipe of the caller's own, which is full."""
    read_end, write_end = os.pipe()
    run = pipeline.start(stdout=write_end, idle_timeout=IDLE)
    os.close(write_end)
    time.sleep(3 * IDLE)
    with os.fdopen(read_end, "rb") as file:
        assert len(file.read()) == 300_000
    assert run.wait(DEADLINE).ok


# The relay.


def test_explain_shows_the_relay(tmp_path: Path) -> None:
    """A command would write to the file itself, a function does in any case."""

    def kind(pipeline: Pipeline, **options: Any) -> str:
        return pipeline.explain(**options).edges[-1].kind

    assert kind(CAT, stdout=tmp_path / "x") == "pass-fd"
    assert kind(CAT, stdout=tmp_path / "x", idle_timeout=1) == "splice"
    assert kind(CAT, stdout=appending(tmp_path / "x"), idle_timeout=1) == "pooled"
    assert kind(CAT, stdout=DEVNULL, idle_timeout=1) == "splice"
    assert kind(CAT, stdout=PIPE, idle_timeout=1) == "pooled"
    assert kind(CAT, stdout=CAPTURE, idle_timeout=1) == "capture"
    assert kind(function(_talk), stdout=tmp_path / "x", idle_timeout=1) == "pass-fd"
    assert kind(function(_talk), stdout=PIPE, idle_timeout=1) == "pooled"
    assert kind(function(_talk), stdout=INHERIT, idle_timeout=1) == kind(function(_talk), stdout=INHERIT)
    assert not (tmp_path / "x").exists()


def test_the_command_sees_a_pipe(tmp_path: Path) -> None:
    """As the plan says, and as the result does."""
    look = sh("found=$(readlink /proc/$$/fd/1); echo $found >&2; echo x")
    assert look.run(stdout=tmp_path / "x").stages[0].stderr == b"%s\n" % os.fsencode(tmp_path / "x")
    result = look.run(stdout=tmp_path / "x", idle_timeout=20)
    assert result.stages[0].stderr.startswith(b"pipe:")
    assert result.edges[-1].kind == "splice"


def test_the_result_counts_the_bytes(tmp_path: Path) -> None:
    """Those that nobody sees without the option."""
    for stdout in (tmp_path / "x", DEVNULL):
        for stage in (echo("12345"), command("echo", "12345")):
            assert stage.run(stdout=stdout, idle_timeout=5).edges[-1].bytes == 6


@pytest.mark.parametrize(
    "kind", ["path", "appending", "atomic", "file", "object", "capture", "pipe", "iterator"]
)
def test_every_byte_arrives_once_and_in_order(kind: str, tmp_path: Path) -> None:
    """Through whatever carries them."""
    sinks = Sinks(tmp_path)
    assert sinks.run(command("seq", "1000000"), kind, idle_timeout=20) is None
    assert sinks.bytes == b"".join(b"%d\n" % number for number in range(1, 1_000_001))


def test_a_pipe_that_holds_the_output_needs_no_reader() -> None:
    """As without the option: many small writes fit into it."""
    run = sh(
        "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); [ $((i%10)) = 0 ] && sleep 0.001; done"
    ).start(stdout=PIPE, idle_timeout=20)
    assert run.wait(DEADLINE).ok
    assert run.stdout is not None
    with run.stdout:
        assert len(run.stdout.read().split()) == 300


@pytest.mark.parametrize(
    "last", [command("yes"), command("yes") | map_lines(bytes), function(stage_functions.flood)]
)
def test_closing_the_pipe_early_is_not_a_failure(last: Pipeline) -> None:
    """Although it is the relay that writes into it."""
    with last.start(stdout=PIPE, idle_timeout=20) as run:
        assert run.stdout is not None
        assert run.stdout.read(1)
    assert run.wait().ok


def test_bytes_from_before_a_cancellation_are_delivered(tmp_path: Path) -> None:
    """The last words of a command too."""
    script = "trap 'echo last; exit 0' TERM; echo begun; while :; do sleep 0.01; done"
    with pytest.raises(PipelineTimeout):
        sh(script).run(stdout=tmp_path / "x", idle_timeout=IDLE)
    assert (tmp_path / "x").read_bytes() == b"begun\nlast\n"


def test_a_process_that_keeps_the_pipe_does_not_keep_a_cancelled_run(tmp_path: Path, within: Any) -> None:
    """The relay ends with the run."""
    with within(3), pytest.raises(PipelineTimeout):
        sh("setsid sleep 2 & exec sleep 1000").run(stdout=tmp_path / "x", idle_timeout=0.1, grace=0.1)


def test_an_output_that_cannot_be_written_is_an_error_of_stdout() -> None:
    """The relay has it."""
    with pytest.raises(PipelineError) as caught:
        command("yes").run(stdout="/dev/full", idle_timeout=20)
    assert caught.value.stage == "stdout"


@pytest.mark.parametrize("last", [command("yes"), ignore_error(command("yes"), is_sigpipe)])
def test_a_reader_who_has_gone_is_met_by_the_stage(last: Pipeline) -> None:
    """Through the relay it gets the same SIGPIPE as at the descriptor itself, and the verdict is the same."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        plain = last.run(check=False, stdout=write_end)
        relayed = last.run(check=False, stdout=write_end, idle_timeout=20)
        assert str(relayed.error) == str(plain.error)
        with pytest.raises(PipelineError) as caught:  # its last bytes are lost, although it has succeeded
            command("echo", "x").run(stdout=write_end, idle_timeout=20)
        assert caught.value.stage in ("stdout", "echo")
    finally:
        os.close(write_end)


def test_an_atomic_file_is_complete_when_the_run_has_ended(tmp_path: Path) -> None:
    """The relay comes before the rename."""
    for _ in range(20):
        command("seq", "100000").run(stdout=atomic(tmp_path / "x"), idle_timeout=20)
        assert (tmp_path / "x").read_bytes().endswith(b"\n100000\n")
        (tmp_path / "x").unlink()


@pytest.mark.parametrize("stdout", ["CAPTURE", "DEVNULL", "PIPE"])
def test_a_host_that_was_stopped_reads_first(host: Host, stdout: str) -> None:
    """Its commands have gone on writing, and it has not seen that."""
    assert (
        host.output(
            f"""
        import subprocess
        for _ in range(3):
            stage = command("sh", "-c", "i=0; while [ $i -lt 30 ]; do echo x; sleep 0.05; i=$((i+1)); done")
            run = stage.start(stdout={stdout}, idle_timeout=0.3)
            reader = threading.Thread(target=run.stdout.read if run.stdout else run.wait)
            reader.start()
            waker = subprocess.Popen(["sh", "-c", "sleep 0.8; kill -CONT $0", str(os.getpid())])
            os.kill(os.getpid(), signal.SIGSTOP)
            waker.wait()
            reader.join()
            if run.stdout:
                run.stdout.close()
            say(run.wait(check=False).error)
        """
        ).split()
        == ["None"] * 3
    )


# Where it cannot be.


def test_a_nested_pipeline_cannot_have_one() -> None:
    """Nobody sees the bytes that leave it."""
    with pytest.raises(ValueError, match="idle_timeout"):
        Pipeline(Pipeline(CAT, idle_timeout=1), CAT)
    Pipeline(Pipeline(CAT, idle_timeout=None), CAT)


def test_a_pipeline_in_a_custom_stage_cannot_have_one() -> None:
    """It writes to the end that the stage was given."""

    class Holding:
        name = "holding"
        requirements = Requirements()

        def start(self, *given: Any) -> Any:
            return Pipeline(CAT, idle_timeout=1).start(*given)

    with pytest.raises(PipelineError, match="idle_timeout"):
        Pipeline(Holding()).run()


# Races.


@pytest.mark.parametrize("kind", ["capture", "path", "pipe"])
def test_an_end_at_the_same_time_is_one_or_the_other(kind: str, tmp_path: Path) -> None:
    """A hundred times, with other runs beside."""
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            command("true").run()

    others = [threading.Thread(target=load) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for number in range(100):
            error = Sinks(tmp_path).run(sh("echo begun; sleep 0.05"), kind, idle_timeout=0.03 + number / 2500)
            assert error is None or type(error) is PipelineTimeout
    finally:
        stop.set()
        for other in others:
            other.join()


@pytest.mark.parametrize("idle_timeout", [1e-9, 1e-4, 1e-3])
def test_a_time_that_is_over_during_the_start_is_a_timeout_too(idle_timeout: float) -> None:
    """While stages are being started, one after the other."""
    for _ in range(100):
        run = (command("cat") | map_lines(bytes) | command("sleep", "1000")).start(
            stdout=CAPTURE, stdin=PIPE, idle_timeout=idle_timeout
        )
        assert type(run.wait(DEADLINE, check=False).error) is PipelineTimeout


def test_a_cancellation_at_the_same_time_is_one_or_the_other(tmp_path: Path) -> None:
    """Whichever comes first."""
    for number in range(100):
        run = command("sleep", "1000").start(stdout=tmp_path / "x", idle_timeout=0.02)
        timer = threading.Timer(0.01 + number / 5000, partial(run.cancel, "enough"))
        timer.start()
        error = run.wait(DEADLINE, check=False).error
        timer.join()
        assert type(error) in (PipelineTimeout, PipelineCancelled)


def test_many_threads_may_write_to_a_function_stage() -> None:
    """Their writes are its output."""

    def write(_ctx: object, _stdin: Any, stdout: Any) -> None:
        def work() -> None:
            for _ in range(6):
                stdout.write(b"x")
                time.sleep(0.1)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert function(write).output(idle_timeout=PATIENT) == b"x" * 18


def test_a_stage_may_pass_its_stdout_to_a_run_of_its_own() -> None:
    """The bytes of that run are its output."""

    def nest(_ctx: object, _stdin: Any, stdout: Any) -> None:
        sh(TALKS).run(stdout=stdout)

    pipeline: Callable[..., bytes] = function(nest).output
    assert pipeline(idle_timeout=PATIENT) == TALK


@pytest.mark.slow
@pytest.mark.parametrize(
    "ends",
    [
        lambda path: {"stdout": path, "stderr": path},
        lambda path: {"stdout": atomic(path), "stderr": atomic(path)},
        lambda path: {"stdout": path, "stderr": STDOUT},
    ],
    ids=["path", "atomic", "merged"],
)
def test_the_relay_loses_nothing_of_a_file_that_the_command_writes_to_as_well(
    ends: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    """`splice` keeps no other writer out; the relay writes by write(2) there."""
    both = command("sh", "-c", "for i in $(seq 2000); do echo o$i; echo e$i >&2; done")
    expected = sorted(f"{kind}{number}" for kind in "oe" for number in range(1, 2001))
    for _ in range(10):
        path = tmp_path / "f"
        both.run(idle_timeout=20, **ends(path))
        assert sorted(path.read_text().splitlines()) == expected


def test_a_limit_of_the_file_that_the_relay_would_write_is_refused(tmp_path: Path) -> None:
    """The relay is no process of the command, so the kernel would not apply it."""
    head = command("head", "-c", "100000", "/dev/zero", limits=Limits(file_size=1000))
    with pytest.raises(ValueError, match="file_size would not"):
        head.run(stdout=tmp_path / "f", idle_timeout=5)
    assert len(head.run(stdout=CAPTURE, idle_timeout=5).stdout or b"") == 100000


def test_a_limit_of_files_holds_beside_a_terminal_or_pipe(host: Host, tmp_path: Path) -> None:
    """Our own stdout has no size by then, and the other files of the command keep their limit."""
    program = """
limits = Limits(file_size=1000)
script = "echo shown; head -c 100000 /dev/zero >f"
command("sh", "-c", script, limits=limits, cwd=sys.argv[1]).run(check=False, idle_timeout=20)
"""
    assert host.talk(program, str(tmp_path)).stdout == b"shown\n"
    assert (tmp_path / "f").stat().st_size == 1000

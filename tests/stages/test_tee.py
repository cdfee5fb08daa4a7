"""`stderr=TEE`: shown on our own stderr as it comes, and captured."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import sh
from tests.support.terminals import PROMPT
from tests.support.waiting import DEADLINE

from penstock import DEVNULL, TEE, Pipeline, PipelineError, PipelineTimeout, command, function

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.fixtures import SetTiming
    from tests.support.hosts import Host
    from tests.support.terminals import Desk

KIB = 1024


class OwnStderr:
    """A pipe in the place of our own stderr."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        self._before = -1

    def begin(self) -> None:
        """Take the place. In the test itself, because pytest does so between the setup and the test."""
        self._before = os.dup(2)
        os.dup2(self._writer, 2)

    def fill(self) -> int:
        """Write until it is full; return how many bytes that took."""
        os.set_blocking(self._writer, False)
        size = 0
        try:
            while True:
                size += os.write(self._writer, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(self._writer, True)
        return size

    def read(self, size: int) -> bytes:
        """Read so many bytes."""
        data = b""
        while len(data) < size:
            data += os.read(self.reader, size - len(data))
        return data

    def all(self) -> bytes:
        """Put our stderr back, and return everything that is left."""
        self.restore()
        with open(self.reader, "rb", closefd=False) as file:
            return file.read()

    def restore(self) -> None:
        """Put our stderr back, so that the pipe ends."""
        if self._before >= 0:
            os.dup2(self._before, 2)
            os.close(self._before)
            os.close(self._writer)
            self._before = self._writer = -1

    def close(self) -> None:
        """Put our stderr back, and close the pipe."""
        self.restore()
        if self._writer >= 0:
            os.close(self._writer)
        os.close(self.reader)


@pytest.fixture
def own() -> Iterator[OwnStderr]:
    """Have a pipe as our own stderr."""
    pipe = OwnStderr()
    yield pipe
    pipe.close()


@pytest.mark.parametrize("by", ["command", "pipeline", "nested"])
def test_it_is_shown_and_captured(by: str, capfd: pytest.CaptureFixture[str]) -> None:
    text = "echo out; echo one >&2; echo two >&2; exit 3"
    pipeline = {
        "command": Pipeline(sh(text, stderr=TEE)),
        "pipeline": Pipeline(sh(text), stderr=TEE),
        "nested": Pipeline(sh(text), stderr=TEE) | command("cat"),
    }[by]
    with pytest.raises(PipelineError) as raised:
        pipeline.run(stdout=DEVNULL)
    assert capfd.readouterr().err == "one\ntwo\n"
    assert str(raised.value) == "sh: exit status 3: two"
    result = raised.value.result
    assert result is not None
    assert result.stages[0].stderr == b"one\ntwo\n"


def test_it_is_shown_as_it_comes(own: OwnStderr) -> None:
    """A line that is not whole too: a prompt, or a progress bar."""
    own.begin()
    run = sh("printf '50%%\\r' >&2; exec sleep 1000", stderr=TEE).start()
    assert own.read(4) == b"50%\r"
    assert not run.done()
    run.cancel()
    run.wait(check=False)


def test_every_byte_is_shown_in_order_and_an_excerpt_is_kept(own: OwnStderr) -> None:
    own.begin()
    numbers = b"".join(b"%d\n" % n for n in range(1, 300_001))
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(own.read(len(numbers))))
    thread.start()
    result = sh("seq 300000 >&2").run(stderr=TEE)
    thread.join(DEADLINE)
    assert got == [numbers]
    assert numbers.startswith(result.stderr[: 32 * KIB])
    assert result.stderr.endswith(b"\n300000\n")


def test_the_lines_of_two_commands_do_not_mix(own: OwnStderr, set_timing: SetTiming) -> None:
    """They write blocks of 4 KiB, which end in the middle of a line."""
    own.begin()
    set_timing(stderr_line_s=DEADLINE)
    count = 60_000
    got: list[bytes] = []
    thread = threading.Thread(
        target=lambda: got.append(b"".join(iter(lambda: os.read(own.reader, 65536), b"")))
    )
    thread.start()
    left, right = (sh(f"seq -f '{name} %09.0f' {count} >&2") for name in ("left", "right"))
    (left | right).run(stderr=TEE)
    own.restore()
    thread.join(DEADLINE)
    lines = got[0].splitlines()
    for name in (b"left", b"right"):
        assert [line for line in lines if line.startswith(name)] == [
            b"%s %09d" % (name, n + 1) for n in range(count)
        ]
    assert len(lines) == 2 * count


def test_binary_output_without_any_line_is_shown_whole(own: OwnStderr) -> None:
    own.begin()
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(own.read(3_000_000)))
    thread.start()
    sh("head -c 3000000 /dev/zero >&2").run(stderr=TEE)
    thread.join(DEADLINE)
    assert got == [bytes(3_000_000)]


def test_everything_is_shown_before_the_run_returns(own: OwnStderr) -> None:
    own.begin()
    for _ in range(20):
        sh("printf 'no line feed' >&2").run(stderr=TEE)
    assert own.all() == b"no line feed" * 20


def test_a_slow_reader_holds_the_command_up_and_loses_nothing(own: OwnStderr) -> None:
    """More than the relay holds: the command waits, as it would with INHERIT."""
    own.begin()
    size = 3_000_000
    filled = own.fill()
    run = sh(f"head -c {size} /dev/zero >&2").start(stderr=TEE)
    assert own.read(filled + size) == b"x" * filled + bytes(size)
    assert run.wait().ok


@pytest.mark.parametrize("start", [False, True], ids=["run", "start"])
@pytest.mark.parametrize("blocking", [False, True], ids=["non-blocking", "blocking"])
@pytest.mark.parametrize("text", ["echo some >&2", "seq 500000 >&2"], ids=["little", "much"])
def test_a_stderr_that_nobody_reads_hangs_nothing(
    own: OwnStderr, set_timing: SetTiming, text: str, *, blocking: bool, start: bool
) -> None:
    """Then it is only captured, and an event says so."""
    own.begin()
    set_timing(stderr_stall_s=0.2, stderr_end_s=0.1)
    own.fill()
    os.set_blocking(2, blocking)
    events: list[Any] = []
    pipeline = Pipeline(sh(text), stderr=TEE, on_event=events.append)
    result = pipeline.start().wait() if start else pipeline.run()
    assert result.ok
    assert result.stderr.splitlines()[-1] == text.split()[1].encode()
    (failed,) = [event for event in events if event.kind == "failed"]
    assert failed.stage == "stderr"
    assert "took nothing" in failed.message


def test_a_deadline_is_kept_when_nobody_reads_our_stderr(own: OwnStderr) -> None:
    own.begin()
    own.fill()
    began = time.monotonic()
    with pytest.raises(PipelineTimeout):
        sh("seq 500000 >&2; exec sleep 1000").run(stderr=TEE, timeout=0.2, grace=0.1)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "prepare",
    [
        "ends = os.pipe(); os.dup2(ends[1], 2); os.close(ends[0]); os.close(ends[1])",
        "os.close(2)",
        "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
        "os.dup2(os.open('/dev/null', os.O_RDONLY), 2)",
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL); os.dup2(os.pipe()[1], 2); os.closerange(3, 10)",
    ],
    ids=["no reader", "closed", "full disk", "read-only", "default SIGPIPE"],
)
def test_a_stderr_that_takes_nothing_fails_nothing(host: Host, prepare: str) -> None:
    ended = host.run(f"""
        {prepare}
        for way in ("run", "start"):
            pipeline = Pipeline(command("sh", "-c", "seq 300000 >&2"), stderr=TEE)
            began = time.monotonic()
            result = pipeline.run() if way == "run" else pipeline.start().wait()
            say(result.ok, result.stderr[-7:], time.monotonic() - began < 1)
        """)
    assert (ended.returncode, ended.out) == (0, "True b'300000\\n' True\n" * 2)


def test_a_host_without_stderr_does_not_give_ours_to_its_commands(host: Host) -> None:
    """The supervisor's own set of descriptors would get the number."""
    ended = host.run("""
        os.close(2)
        command("true").start().wait()
        say(os.path.exists("/proc/self/fd/2"))
        """)
    assert ended.out == "False\n"


def test_a_file_is_appended_to_at_the_position_of_our_stderr(host: Host) -> None:
    ended = host.run("""
        os.write(2, b"before\\n")
        command("sh", "-c", "seq 3 >&2").run(stderr=TEE)
        os.write(2, b"after\\n")
        """)
    assert ended.err == "before\n1\n2\n3\nafter\n"


def test_a_terminal_that_stops_its_writers_in_the_background_does_not_stop_us(desk: Desk) -> None:
    shell = desk.shell()
    script = desk.script("""
        result = command("sh", "-c", "echo shown >&2", process_group=True).run(stderr=TEE)
        open("told", "wb").write(result.stderr)
        """)
    shell.type(f"stty tostop; $PYTHON {script} & sleep 0; wait\n")
    shell.wait_for(rb"shown\r\n")
    shell.wait_for(PROMPT)
    shell.type("cat told\n")
    shell.wait_for(rb"\nshown")


def test_a_terminal_that_is_held_shows_the_rest_when_it_goes_on(desk: Desk) -> None:
    """By Ctrl-S, for longer than a run waits at its end."""
    terminal = desk.python("""
        run = command("sh", "-c", "echo first >&2; cat; seq 1000 >&2").start(stderr=TEE, stdin=0)
        say(run.wait().ok)
        """)
    terminal.wait_for(rb"first\r\n")
    terminal.type("\x13")
    terminal.type("\x04")
    terminal.type("\x11")
    terminal.wait_for(rb"\n1000\r\n")
    terminal.wait_for(rb"True\r\n")


def test_a_process_that_is_left_behind_is_not_shown_and_lives(own: OwnStderr) -> None:
    """The run has ended, and nobody reads for it: documented, as with CAPTURE."""
    own.begin()
    reader, writer = os.pipe()
    sh(f"echo now >&2; (cat /dev/fd/{reader}; echo later >&2) & exit 0", stderr=TEE, pass_fds=[reader]).run()
    os.close(reader)
    os.close(writer)
    assert own.all() == b"now\n"


def test_a_command_that_a_function_starts_in_a_worker_process_is_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    function(_tells, isolate="process").run()
    assert capfd.readouterr().err == "from the worker\n"


def _tells(_ctx: Any, _stdin: Any, stdout: Any) -> None:
    stdout.write(sh("echo from the worker >&2; exit 1").run(stderr=TEE, check=False).stderr)


def test_a_thousand_runs_show_everything(own: OwnStderr) -> None:
    """From many threads at once."""
    own.begin()
    lines = [f"line {n}" for n in range(64)]
    runs = [sh(f"echo {line} >&2").start(stderr=TEE) for line in lines]
    assert all(run.wait().ok for run in runs)
    assert sorted(own.all().decode().splitlines()) == sorted(lines)


def test_it_is_for_stderr_only() -> None:
    with pytest.raises(ValueError, match="stdin cannot be TEE"):
        command("true").run(stdin=TEE)
    with pytest.raises(ValueError, match="stdout cannot be TEE"):
        command("true").run(stdout=TEE)

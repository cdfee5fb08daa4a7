"""No room: a device that is full, descriptors that run out, and a stderr that never stops.

tests/runs/test_user_objects.py has each start with so and so many descriptors left; here a program uses up
all that it may have, and then goes on with what comes free.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from penstock import Pipeline, PipelineError, command, echo, function, map_lines, source, transform

if TYPE_CHECKING:
    from tests.support.hosts import Host

pytestmark = pytest.mark.slow


DATA = b"some bytes\n" * 20_000


def copy(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass everything on."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


WRITERS = {
    "command": command("cat", name="writer"),
    "function": function(copy, name="writer"),
    "transform": transform(lambda chunks: chunks, name="writer"),
    "lines": map_lines(bytes, name="writer"),
    "isolated": function(copy, name="writer", isolate="process"),
}


@pytest.mark.parametrize("above", [None, command("cat"), function(copy), map_lines(bytes)], ids=repr)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_device_is_the_error_of_who_writes_to_it(kind: str, above: Pipeline | None) -> None:
    """Not of those above it, who only lose their reader by that."""
    stages = WRITERS[kind] if above is None else above | WRITERS[kind]
    with pytest.raises(PipelineError) as caught:
        stages.run(input=DATA, stdout="/dev/full")
    assert caught.value.stage == "writer"
    if kind == "command":
        assert "No space left on device" in str(caught.value.__notes__)
    else:
        assert isinstance(caught.value.cause, OSError)
        assert caught.value.cause.errno == errno.ENOSPC


@pytest.mark.parametrize("stage", [echo("x", end=""), source([b"x"])], ids=["echo", "source"])
def test_a_single_byte_too_many_is_an_error(stage: Pipeline) -> None:
    """Nothing that was written is lost without a word."""
    with Path("/dev/full").open("wb") as full, pytest.raises(PipelineError) as caught:
        stage.run(stdout=full)
    assert isinstance(caught.value.cause, OSError)
    assert caught.value.cause.errno == errno.ENOSPC


def test_a_program_without_descriptors_goes_on_with_what_comes_free(host: Host) -> None:
    """Runs are started until none can be; those that go on are whole, and the errors say what is short."""
    ended = host.run(
        """
        mixed = command("cat", name="c1") | function(copy, name="f") | command("cat", name="c2")
        assert mixed.output(input=b"x") == b"x"
        mixed.start(stdin=DEVNULL, stdout=DEVNULL).wait()
        before = sorted(os.listdir("/proc/self/fd"))
        for round in range(3):
            runs, errors = [], []
            while len(errors) < 5:
                try:
                    runs.append(mixed.start(stdin=PIPE, stdout=PIPE))
                except StartError as error:
                    assert error.cause.errno == 24, error
                    errors.append(error.stage)
            assert len(runs) > 3 and set(errors) <= {"stdin", "stdout", "c1", "f", "c2"}, (len(runs), errors)
            for number, run in enumerate(runs):
                run.stdin.write(b"%d" % number)
                run.stdin.close()
                run.data = run.stdout.read()
                run.stdout.close()
            for number, run in enumerate(runs):
                result = run.wait(20, check=False)
                # A stage that has to wait for its data may find no descriptor to be woken by.
                if result.ok:
                    assert run.data == b"%d" % number, (run.data, number)
                else:
                    assert result.error.stage == "f" and result.error.cause.errno == 24, result
        deadline = time.monotonic() + 10
        while sorted(os.listdir("/proc/self/fd")) != before:
            assert time.monotonic() < deadline, sorted(os.listdir("/proc/self/fd"))
        assert mixed.output(input=b"x") == b"x"
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            say("clean")
        """,
        shell="ulimit -n 64",
    )
    assert (ended.err, ended.out, ended.returncode, ended.files) == ("", "clean\n", 0, [])


def test_a_program_without_descriptors_for_the_supervisor_is_told_so(host: Host) -> None:
    """The first runs of all, with more descriptors each time, and modules of the package not loaded yet."""
    ended = host.run(
        """
        mixed = command("cat", name="c1") | function(copy, name="f") | command("cat", name="c2")
        full = []
        while len(full) < 64:
            try:
                full.append(os.dup(0))
            except OSError:
                break
        for _ in range(20):
            for start in (lambda: mixed.start(stdout=DEVNULL).wait(20), lambda: next(mixed.iter_lines())):
                try:
                    start()
                except StartError as error:
                    assert error.cause.errno == 24, error
                except PipelineError as error:
                    assert error.stage == "f" and error.cause.errno == 24, error
                except StopIteration:
                    pass
            os.close(full.pop())
        for number in full:
            os.close(number)
        assert mixed.start(input=b"x", stdout=CAPTURE).wait().stdout == b"x"
        say("clean")
        """,
        shell="ulimit -n 64",
    )
    assert (ended.err, ended.out, ended.returncode, ended.files) == ("", "clean\n", 0, [])


def test_a_program_without_a_thread_for_the_supervisor_is_told_so(host: Host) -> None:
    """Nothing is left of the attempt, and the next one may well succeed."""
    ended = host.run("""
        def refuse(thread):
            raise RuntimeError("can't start new thread")

        start, threading.Thread.start = threading.Thread.start, refuse
        before = sorted(os.listdir("/proc/self/fd"))
        try:
            command("true", name="t").start(stdout=DEVNULL)
        except StartError as error:
            assert (error.stage, error.index) == ("t", 0) and isinstance(error.cause, RuntimeError), error
        assert sorted(os.listdir("/proc/self/fd")) == before
        threading.Thread.start = start
        say(command("true").start(stdout=DEVNULL).wait().ok)
        """)
    assert (ended.err, ended.out, ended.returncode, ended.files) == ("", "True\n", 0, [])


def test_a_gigabyte_of_stderr_is_kept_in_bounds(host: Host) -> None:
    """The command does not wait for anybody, and this process holds the two ends of it."""
    ended = host.run("""
        def peak():
            status = open("/proc/self/status").read()
            return int(status.partition("VmHWM:")[2].split()[0])

        script = "echo first >&2; head -c 1G /dev/zero >&2; echo last >&2"
        assert command("sh", "-c", "echo x >&2").run().ok
        before = peak()
        stderr = command("sh", "-c", script).run().stages[0].stderr
        assert stderr.startswith(b"first\\n") and stderr.endswith(b"last\\n"), stderr[:50]
        assert b"%d bytes omitted" % ((1 << 30) + 11 - 65536) in stderr, stderr[32768:32800]
        say(len(stderr) < 70_000, peak() - before < 4_000)
        """)
    assert (ended.err, ended.out) == ("", "True True\n")

"""Traps of the host program: its callbacks, its forks, its end, and what all this costs it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import kill_survivors
from tests.support.waiting import DEADLINE

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    Pipeline,
    PipelineError,
    command,
    filter_error,
    function,
    source,
)

if TYPE_CHECKING:
    from tests.support.hosts import Host

    from penstock import Event

pytestmark = pytest.mark.slow


@pytest.mark.gotcha(6)
def test_a_flood_of_stderr_is_kept_in_bounds(host: Host) -> None:
    """200 MB of it: the first and the last 32 KiB, a mark between, and no memory for the rest."""
    said = host.output("""
script = "echo first >&2; head -c 200000000 /dev/zero >&2; echo last >&2"
with command("sh", "-c", script).start(stdout=DEVNULL) as run:
    stderr = run.wait().stages[0].stderr
assert stderr.startswith(b"first\\n") and stderr.endswith(b"last\\n"), stderr[:50]
assert b"omitted" in stderr
assert len(stderr) < 70_000
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
say(int(peak.split()[1]) < 60_000)
""")
    assert said == "True\n"


@pytest.mark.gotcha(24)
@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_event_handler_that_raises_is_logged_and_called_again(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Every event still comes, in order, and the run is what it would have been."""
    seen: list[str] = []

    def handler(event: Event) -> None:
        seen.append(event.kind)
        raise kind("from the handler")

    with caplog.at_level(logging.ERROR, "penstock"):
        assert (command("printf", "x") | command("cat")).output(on_event=handler) == b"x"
    assert sorted(seen) == ["exit", "exit", "run-end", "run-start", "start", "start"]
    assert len(caplog.records) == 6
    assert command("true").run().ok


@pytest.mark.gotcha(24)
@pytest.mark.parametrize("listened", [False, True], ids=["", "with events"])
def test_a_stderr_callable_that_raises_gets_every_line(
    listened: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, or an event where somebody listens; the child never waits for it."""
    lines: list[bytes] = []
    events: list[Event] = []

    def handler(line: bytes) -> None:
        lines.append(line)
        raise ValueError("from the callable")

    with caplog.at_level(logging.ERROR, "penstock"):
        result = command("sh", "-c", "seq 3 >&2; printf x").run(
            stdout=CAPTURE, stderr=handler, on_event=events.append if listened else None
        )
    assert result.ok
    assert result.stdout == b"x"
    assert lines == [b"1", b"2", b"3"]
    failed = [event for event in events if event.kind == "failed"]
    assert len(failed if listened else caplog.records) == 3


@pytest.mark.gotcha(24)
def test_other_callbacks_that_raise_are_the_stages_error() -> None:
    """What they raise is reported, names whose it is, and ends nothing but this run."""

    def broken(*_: object) -> Any:
        raise ValueError("from the callback")

    def fails(_ctx: object, _stdin: object, _stdout: object) -> None:
        raise KeyError("from the stage")

    cases: list[tuple[Pipeline, dict[str, Any], str]] = [
        (function(fails, name="f"), {"on_exception": broken}, "f"),
        (filter_error(command("true"), broken), {}, "true"),
        (command("cat"), {"stdin": iter(broken, None)}, "stdin"),
        (function(lambda _ctx, stdin, _stdout: stdin.read()), {"stdin": iter(broken, None)}, "stdin"),
        (command("echo"), {"stdout": type("Sink", (), {"write": broken})()}, "stdout"),
    ]
    defaults: dict[str, Any] = {"stdout": DEVNULL}
    for pipeline, options, stage in cases:
        with pytest.raises(PipelineError, match="from the callback") as caught:
            pipeline.run(**defaults | options)
        assert caught.value.stage == stage
        assert isinstance(caught.value.cause, ValueError)
        assert command("true").run().ok


@pytest.mark.gotcha(24)
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_no_exception_of_a_function_ends_a_helper_thread(kind: type[BaseException]) -> None:
    """Not even those that end programs: they are the stage's error, as any other."""

    def fails(_ctx: object, _stdin: object, _stdout: object) -> None:
        raise kind("from the stage")

    result = (source([b"x"]) | function(fails, name="f")).run(check=False, stdout=DEVNULL, timeout=1000)
    assert isinstance(result.error, PipelineError)
    assert isinstance(result.error.cause, kind)
    assert function(lambda _ctx, _stdin, stdout: stdout.write(b"x")).output() == b"x"


@pytest.mark.gotcha(25)
def test_a_forked_copy_starts_clean(host: Host) -> None:
    """While commands and functions run in the parent, the copy runs its own, and the parent's go on."""
    said = host.output("""
def copy(ctx, stdin, stdout):
    for chunk in stdin.chunks():
        stdout.write(chunk)

runs = [(command("cat") | function(copy)).start(stdin=PIPE, stdout=PIPE) for _ in range(3)]
lines = command("yes").iter_lines()
next(lines)
for number in range(5):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            mine = command("cat") | function(copy) | command("cat")
            assert mine.output(input=b"x") == b"x"
            assert mine.start(stdin=DEVNULL, stdout=DEVNULL).wait(10).ok
            assert mine.start(stdin=DEVNULL, stdout=1).wait(10).ok
            assert next((function(copy) | command("cat")).iter_bytes(stdin=[b"y"])) == b"y"
            try:
                runs[0].wait()
            except RuntimeError:
                code = 0
            runs[0].cancel()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert not any(run.done() for run in runs)
next(lines)
lines.close()
for run in runs:
    run.stdin.write(b"z")
    run.stdin.close()
    assert run.stdout.read() == b"z"
    run.stdout.close()
    assert run.wait(10).ok
say("done")
""")
    assert said == "done\n"


@pytest.mark.gotcha(25)
def test_the_parents_pipes_close_although_the_forked_copy_lives_on(host: Host) -> None:
    """A copy that does nothing at all holds none of their ends."""
    said = host.output("""
def copy(ctx, stdin, stdout):
    for chunk in stdin.chunks():
        stdout.write(chunk)

shapes = [command("cat"), function(copy), command("cat") | function(copy) | command("cat"),
          function(copy) | command("cat") | function(copy)]
runs = [shape.start(stdin=PIPE, stdout=PIPE) for shape in shapes]
broken = command("yes").start(stdout=PIPE)
gate, hold = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(hold)
    os.read(gate, 1)
    os._exit(0)
for run in runs:
    run.stdin.write(b"z")
    run.stdin.close()
    assert run.stdout.read() == b"z"
    run.stdout.close()
    assert run.wait(10).ok
broken.stdout.close()
assert broken.wait(10).ok
assert os.waitpid(pid, os.WNOHANG)[0] == 0
os.close(hold)
os.waitpid(pid, 0)
say("done")
""")
    assert said == "done\n"


@pytest.mark.gotcha(25)
@pytest.mark.parametrize("first", [True, False], ids=["their first", "later ones"])
def test_forks_while_threads_start_runs_hang_nobody(first: bool, host: Host) -> None:  # noqa: FBT001
    """No lock is taken over by a copy in which nobody would release it; nor that of an import under way."""
    warm = (
        ""
        if first
        else 'assert source([b"x"]).start(stdout=CAPTURE).wait().ok and command("true").run().ok\n'
    )
    said = host.output(
        warm
        + """
stop = threading.Event()
def work():
    while not stop.is_set():
        assert (command("printf", "x") | command("cat")).output() == b"x"
        assert source([b"x"]).start(stdout=CAPTURE).wait().stdout == b"x"

threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        signal.alarm(5)
        code = 1
        try:
            assert command("printf", "x").output() == b"x"
            assert source([b"x"]).start(stdout=CAPTURE).wait().stdout == b"x"
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
stop.set()
for thread in threads:
    thread.join()
say("done")
"""
    )
    assert said == "done\n"


ENDS = {
    "a command": """
run = command("sh", "-c", "echo $$ >&2; exec sleep 1000").start(stderr=INHERIT_ERR)
""",
    "a deaf group": """
run = command("sh", "-c", "trap '' TERM; sleep 1000 & echo $$ $! >&2; wait").start(stderr=INHERIT_ERR)
""",
    "an escaped grandchild": """
run = command("sh", "-c", "setsid sleep 1000 & echo $! >&2; wait").start(stderr=INHERIT_ERR)
""",
    "an open iterator": """
lines = command("sh", "-c", "echo $$ >&2; exec yes").iter_lines(stderr=INHERIT_ERR)
next(lines)
""",
    "a run in a daemon thread": """
stage = command("sh", "-c", "echo $$ >&2; exec sleep 1000", stderr=INHERIT_ERR)
threading.Thread(target=stage.run, args=(False,), daemon=True).start()
""",
    "a function that never ends": """
deaf = function(lambda ctx, stdin, stdout: threading.Event().wait())
run = (command("sh", "-c", "echo $$ >&2; exec sleep 1000") | deaf).start(stderr=INHERIT_ERR)
""",
    "input that never ends": """
class Blocked:
    def read(self, size):
        threading.Event().wait()
run = command("sh", "-c", "echo $$ >&2; exec cat").start(stdin=Blocked(), stderr=INHERIT_ERR)
""",
    "an open block that exits": """
with command("sh", "-c", "echo $$ >&2; exec sleep 1000").start(stderr=INHERIT_ERR, grace=0.1) as run:
    wait_for_pids()
    try:
        sys.exit(0)
    finally:
        pass
""",
}


@pytest.mark.gotcha(26)
@pytest.mark.parametrize("shape", ENDS)
def test_interpreter_exit_is_prompt_and_leaves_no_child(shape: str, host: Host) -> None:
    """Whatever still goes on, and whichever thread waits for it."""
    if shape == "an open block that exits":
        # The block's own cancellation is an error that the exit carries on; only the child counts here.
        program = ENDS[shape].replace("sys.exit(0)", "run.cancel(); sys.exit(0)")
    else:
        program = ENDS[shape] + "wait_for_pids()\n"
    said = host.output(
        """
read, write = os.pipe()
INHERIT_ERR = write
def wait_for_pids():
    os.write(1, os.read(read, 100))
"""
        + program,
        timeout=DEADLINE,
    )
    pids = [int(word) for word in said.split()]
    assert pids
    assert kill_survivors(pids, timeout=5) == []


@pytest.mark.gotcha(26)
def test_a_run_started_during_interpreter_exit_leaves_no_child(host: Host) -> None:
    """The exit and a start race; either the child is killed, or it was refused by an error that says why."""
    said = host.output("""
runs = []
begun = threading.Event()
def work():
    for _ in range(60):
        try:
            run = command("sleep", "60").start(stdout=DEVNULL)
        except RuntimeError as refused:
            assert "interpreter is shutting down" in str(refused)
            return
        runs.append(run)
        say(run.pids[0])
        if len(runs) > 10:
            begun.set()

for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
begun.wait()
""")
    pids = [int(word) for word in said.split()]
    assert pids
    assert kill_survivors(pids, timeout=2) == []


@pytest.mark.gotcha(30)
def test_commands_need_no_thread_but_the_supervisor() -> None:
    """Ten commands in a row, fifty times over."""
    pipeline = command("cat")
    for _ in range(4):
        pipeline |= command("cat")
    before = {thread for thread in threading.enumerate() if not thread.name.startswith("penstock-worker")}
    workers = {thread for thread in threading.enumerate() if thread.name.startswith("penstock-worker")}
    runs = [pipeline.start(stdin=PIPE, stdout=PIPE, timeout=DEADLINE) for _ in range(20)]
    during = set(threading.enumerate())
    for run in runs:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.close()
        assert run.stdout.read() == b""
        run.stdout.close()
        assert run.wait().ok
    assert during <= before | workers
